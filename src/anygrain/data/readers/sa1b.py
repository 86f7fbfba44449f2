"""SA-1B (Kirillov et al., ICCV 2023): masks without names, made by SAM."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from anygrain.data.readers.coco import checked_size, mask_of
from anygrain.data.readers.files import check_split, first_of, read_json
from anygrain.types import Region, Sample, Size


def read_sa1b(root: str | Path, split: str) -> Iterator[Sample]:
    """One Sample an image, unpacked ones by path, then those in tars, by tar and in its order. The only split is train.

    root: ``sa_{n}.jpg`` beside ``sa_{n}.json``, in the folder or in subfolders, or the tars as they are
    (``sa_000000.tar`` ...): these are read from one end to the other, an image and its masks in whichever order.
    Regions have no name; ``score`` is SAM's predicted IoU, ``instance`` the annotation's number.
    Raises FileNotFoundError or ValueError naming the file.
    """
    check_split(split, ("train",), "sa1b")
    paths, tars = sorted(Path(root).rglob("sa_*.json")), sorted(Path(root).rglob("sa_*.tar"))
    if not paths and not tars:
        raise FileNotFoundError(f"sa_*.json not found under {root}, nor sa_*.tar; put the tars of SA-1B there")
    for path in paths:
        record = read_json(path, "the masks of an SA-1B image")
        file = first_of(path.parent, [record["image"]["file_name"]], record["image"]["file_name"])
        size = checked_size(file, record["image"], path)
        yield _sample(path.stem, file, size, record, path)
    for tar in tars:
        yield from _in_tar(tar)


def _in_tar(path: Path) -> Iterator[Sample]:
    waiting: dict[str, dict[str, bytes]] = {}
    try:
        with tarfile.open(path, "r|*") as tar:
            for member in tar:
                if (found := re.fullmatch(r"(?:.*/)?(sa_\d+)\.(jpg|json)", member.name)) is None:
                    continue
                file = tar.extractfile(member)
                pair = waiting.setdefault(found[1], {})
                pair[found[2]] = b"" if file is None else file.read()
                if len(pair) == 2:
                    yield _from_bytes(path, found[1], **waiting.pop(found[1]))
    except tarfile.TarError as error:
        raise ValueError(f"{path}: not a whole tar ({error}); load it again") from None
    if waiting:
        name, pair = next(iter(waiting.items()))
        raise ValueError(f"{path}: {name}.{next(iter(pair))} is there without its other half; load it again")


def _from_bytes(path: Path, name: str, *, jpg: bytes, json: bytes) -> Sample:
    record, where = _parsed(json, path / f"{name}.json"), path / f"{name}.json"
    entry = record["image"]
    with Image.open(io.BytesIO(jpg)) as image:
        size = (image.height, image.width)
    if size != (entry["height"], entry["width"]):
        raise ValueError(f"{where}: says {(entry['height'], entry['width'])}, but the image is {size} (height, width)")
    return _sample(name, jpg, size, record, where)


def _parsed(content: bytes, where: Path) -> dict[str, Any]:
    try:
        return json.loads(content)
    except ValueError as error:
        raise ValueError(f"{where}: not valid JSON ({error}); expected the masks of an SA-1B image") from None


def _sample(name: str, image: Path | bytes, size: Size, record: dict[str, Any], path: Path) -> Sample:
    regions = tuple(
        Region(
            mask=mask,
            instance=annotation["id"],
            score=float(annotation["predicted_iou"]),
            origin={"step": "sam", "stability_score": str(annotation["stability_score"])},
        )
        for annotation in record["annotations"]
        if (mask := mask_of(path, annotation, size)) is not None
    )
    return Sample(id=f"sa1b/{name}", image=image, size=size, regions=regions, source="sa1b")
