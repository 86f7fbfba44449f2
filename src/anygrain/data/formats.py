"""A Sample without its pixels as a plain record for JSON, and back. Fields that say nothing are left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from anygrain.types import Mask, Region, Sample

_DEFAULTS = {field.name: field.default for field in fields(Region)}
_PLAIN = ("category", "granularity", "instance", "score", "ignore")


def to_record(sample: Sample) -> dict[str, Any]:
    """id, source, size [h, w], exhaustive (sorted), regions with masks as COCO compressed RLE; absent, whole, chats."""
    record: dict[str, Any] = {
        "id": sample.id,
        "source": sample.source,
        "size": list(sample.size),
        "exhaustive": sorted(sample.exhaustive),
        "regions": [_region_record(region) for region in sample.regions],
    }
    if sample.absent:
        record["absent"] = list(sample.absent)
    if sample.whole is not None:
        record["whole"] = sample.whole
    if sample.chats:
        record["chats"] = [[list(turn) for turn in chat] for chat in sample.chats]
    return record


def from_record(record: Mapping[str, Any], image: Path | bytes) -> Sample:
    """The Sample of a record and its image."""
    return Sample(
        id=record["id"],
        image=image,
        size=(record["size"][0], record["size"][1]),
        regions=tuple(_region(entry) for entry in record["regions"]),
        source=record["source"],
        exhaustive=frozenset(record["exhaustive"]),
        absent=tuple(record.get("absent", ())),
        whole=record.get("whole"),
        chats=tuple(tuple((turn[0], turn[1]) for turn in chat) for chat in record.get("chats", ())),
    )


def _region_record(region: Region) -> dict[str, Any]:
    record: dict[str, Any] = {} if region.mask is None else {"mask": region.mask.to_coco()}
    if region.box is not None:
        record["box"] = list(region.box)
    if region.captions:
        record["captions"] = list(region.captions)
    if region.marks:
        record["marks"] = {kind: mask.to_coco() for kind, mask in region.marks.items()}
    if region.origin:
        record["origin"] = dict(region.origin)
    plain = {name: getattr(region, name) for name in _PLAIN}
    return record | {name: value for name, value in plain.items() if value != _DEFAULTS[name]}


def _region(record: Mapping[str, Any]) -> Region:
    mask, box = record.get("mask"), record.get("box")
    return Region(
        mask=_mask(mask) if mask else None,
        box=tuple(box) if box else None,
        captions=tuple(record.get("captions", ())),
        marks={kind: _mask(mark) for kind, mark in record.get("marks", {}).items()},
        origin=record.get("origin", {}),
        **{name: record[name] for name in _PLAIN if name in record},
    )


def _mask(record: Mapping[str, Any]) -> Mask:
    return Mask((record["size"][0], record["size"][1]), record["counts"].encode("ascii"))
