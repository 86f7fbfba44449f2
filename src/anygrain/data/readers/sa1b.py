"""SA-1B (Kirillov et al., ICCV 2023): masks without names, made by SAM."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from anygrain.data.readers.coco import checked_size, mask_of
from anygrain.data.readers.files import check_split, first_of, read_json
from anygrain.types import Region, Sample


def read_sa1b(root: str | Path, split: str) -> Iterator[Sample]:
    """One Sample an image, unpacked ones by path, then those in tars, by tar and in its order. The only split is train.

    root: the tars ``sa_{n}.tar`` as they are, or unpacked: ``sa_{n}.jpg`` beside ``sa_{n}.json``, in the folder or in
    subfolders; unpacked images come first. Regions have no name; ``score`` is SAM's predicted IoU, ``instance`` the
    annotation's number.
    Raises FileNotFoundError or ValueError naming the file.
    """
    check_split(split, ("train",), "sa1b")
    paths, tars = sorted(Path(root).rglob("sa_*.json")), sorted(Path(root).rglob("sa_*.tar"))
    if not paths and not tars:
        raise FileNotFoundError(
            f"sa_*.json not found under {root}, and no sa_*.tar; put the tars of SA-1B there, packed or unpacked"
        )
    for path in paths:
        record = read_json(path, "the masks of an SA-1B image")
        file = first_of(path.parent, [record["image"]["file_name"]], record["image"]["file_name"])
        yield _sample(path, record, file)
    for tar in tars:
        yield from _in_tar(tar)


def _in_tar(path: Path) -> Iterator[Sample]:
    """The samples of a tar, by name; images stay encoded as they are."""
    try:
        with tarfile.open(path) as tar:
            members = {Path(member.name).name: member for member in tar.getmembers() if member.isfile()}
            _check_end(path, tar.offset)
            for name in sorted(name for name in members if name.endswith(".json")):
                record = json.loads(_bytes(tar, members[name]))
                file = record["image"]["file_name"]
                if file not in members:
                    raise FileNotFoundError(f"{path}: {name} is of the image {file}, which the tar does not hold")
                yield _sample(path / name, record, _bytes(tar, members[file]))
    except (tarfile.TarError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a whole tar of SA-1B ({error}); fetch it again") from None


def _check_end(path: Path, offset: int) -> None:
    """A damaged header ends a tar for Python's reader without a word; a whole tar ends with zeros."""
    with open(path, "rb") as file:
        file.seek(offset)
        if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise ValueError(f"{path}: not a whole tar of SA-1B (damaged at byte {offset}); fetch it again")


def _bytes(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    with tar.extractfile(member) or io.BytesIO() as file:
        return file.read()


def _sample(path: Path, record: Any, image: Path | bytes) -> Sample:
    size = checked_size(image, record["image"], path)
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
    return Sample(id=f"sa1b/{path.stem}", image=image, size=size, regions=regions, source="sa1b")
