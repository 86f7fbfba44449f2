"""SA-1B (Kirillov et al., ICCV 2023): masks without names, made by SAM."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from anygrain.data.readers.coco import checked_size, mask_of
from anygrain.data.readers.files import check_split, first_of, read_json
from anygrain.types import Region, Sample


def read_sa1b(root: str | Path, split: str) -> Iterator[Sample]:
    """One Sample an image, sorted by path. The only split is train.

    root: the unpacked tars: ``sa_{n}.jpg`` beside ``sa_{n}.json``, in the folder or in subfolders. Regions have no
    name; ``score`` is SAM's predicted IoU, ``instance`` the annotation's number.
    Raises FileNotFoundError or ValueError naming the file.
    """
    check_split(split, ("train",), "sa1b")
    paths = sorted(Path(root).rglob("sa_*.json"))
    if not paths:
        raise FileNotFoundError(f"sa_*.json not found under {root}; unpack the tars of SA-1B there")
    for path in paths:
        record = read_json(path, "the masks of an SA-1B image")
        file = first_of(path.parent, [record["image"]["file_name"]], record["image"]["file_name"])
        size = checked_size(file, record["image"], path)
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
        yield Sample(id=f"sa1b/{path.stem}", image=file, size=size, regions=regions, source="sa1b")
