"""Referring video in the form of Ref-YouTube-VOS: ``JPEGImages``, ``Annotations``, ``meta_expressions.json``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from anygrain.data.readers.files import by_stem, find, image_size, need, read_index_mask, read_json
from anygrain.types import Mask, Region, Sample

HUMAN = {"step": "human"}


def read_video(folder: str | Path, *, source: str) -> Iterator[Sample]:
    """One Sample a frame, videos and frames sorted, id ``source/video/frame``.

    An object that shows in the frame is a Region with all its expressions as captions and its number as instance.
    Raises FileNotFoundError or ValueError naming the file.
    """
    folder = Path(folder)
    path = folder / "meta_expressions.json"
    meta = read_json(path, "the videos, their frames and expressions")
    if not isinstance(meta, dict) or "videos" not in meta:
        raise ValueError(f"{path}: expected the key videos, as in Ref-YouTube-VOS")
    for video, entry in sorted(meta["videos"].items()):
        yield from _frames(folder, video, entry, source)


def _frames(folder: Path, video: str, entry: Mapping[str, Any], source: str) -> Iterator[Sample]:
    captions: dict[int, list[str]] = {}
    for _, expression in sorted(entry["expressions"].items(), key=lambda item: int(item[0])):
        captions.setdefault(int(expression["obj_id"]), []).append(expression["exp"])
    images = by_stem(folder / "JPEGImages" / video, "the frames of a video")
    need(folder / "Annotations" / video, "the masks of a video")
    for frame in sorted(entry["frames"]):
        image = find(images, frame, folder / "JPEGImages" / video, "a frame, because meta_expressions.json names it")
        size = image_size(image)
        index = read_index_mask(folder / "Annotations" / video / f"{frame}.png", size)
        masks = {number: Mask.from_array(index == number) for number in sorted(captions)}
        regions = tuple(
            Region(mask=mask, captions=tuple(captions[number]), instance=number, origin=HUMAN)
            for number, mask in masks.items()
            if mask.area
        )
        yield Sample(id=f"{source}/{video}/{frame}", image=image, size=size, regions=regions, source=source)
