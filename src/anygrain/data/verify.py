"""Is a folder of shards whole? Every member's checksum, image, masks and key, each problem in one sentence."""

from __future__ import annotations

import json
import tarfile
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np

from anygrain.data.formats import from_record
from anygrain.data.shards import find_tars, key_of, read_index
from anygrain.types import Mask, Sample

ORIENTATION = 0x0112  # the EXIF tag


def problems(folder: str | Path) -> Iterator[str]:
    """One sentence a problem, naming tar and member; nothing when the shards are whole.

    Checked: the index against the tar, the CRC-32 of every member, that JSON and image decode, that image, record and
    masks have one size, that the image needs no EXIF rotation, and that no id comes twice.
    Raises FileNotFoundError when the folder has no shards.
    """
    seen: dict[str, Path] = {}
    for tar in find_tars(Path(folder)):
        try:
            yield from _tar_problems(tar, read_index(tar), seen)
        except (tarfile.TarError, OSError, ValueError) as error:
            yield f"{tar}: cannot be read to its end ({error})"


def _tar_problems(path: Path, index: np.ndarray, seen: dict[str, Path]) -> Iterator[str]:
    with tarfile.open(path, "r:") as tar:
        members = tar.getmembers()
        if len(members) != 2 * len(index):
            yield f"{path}: {len(members)} members, but its index has {len(index)} samples of 2"
        for row, picture, record in zip(index, members[::2], members[1::2], strict=False):
            image, text = _data(tar, picture), _data(tar, record)
            wrong = [picture.name] if _off(picture, image, row[:3]) else []
            wrong += [record.name] if _off(record, text, row[3:]) else []
            yield from (f"{path}: {name} is not what the index says (place, length or CRC-32)" for name in wrong)
            if wrong:
                continue
            for problem in _sample_problems(picture.name, record.name, image, text, seen, path):
                yield f"{path}: {record.name.removesuffix('.json')}: {problem}"


def _data(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    return file.read() if file else b""


def _off(member: tarfile.TarInfo, data: bytes, row: np.ndarray) -> bool:
    return [member.offset_data, member.size, zlib.crc32(data)] != row.tolist()


def _sample_problems(
    image_name: str, record_name: str, image: bytes, record: bytes, seen: dict[str, Path], path: Path
) -> Iterator[str]:
    try:
        sample = from_record(json.loads(record), image)
    except (ValueError, KeyError, TypeError) as error:
        yield f"the record is not a sample ({type(error).__name__}: {error})"
        return
    key = key_of(sample.id)
    if image_name.rpartition(".")[0] != key or record_name != f"{key}.json":
        yield f"image and record belong to {image_name} and {sample.id}"
    if sample.id in seen:
        yield f"the id is also in {seen[sample.id]}"
    seen[sample.id] = path
    yield from _image_problems(sample, image)
    yield from _mask_problems(sample)


def _image_problems(sample: Sample, data: bytes) -> Iterator[str]:
    from PIL import Image

    try:
        with Image.open(BytesIO(data)) as image:
            image.load()
            size, turned = (image.height, image.width), image.getexif().get(ORIENTATION, 1) != 1
    except (OSError, ValueError, SyntaxError) as error:
        yield f"the image does not decode ({error})"
        return
    if size != sample.size:
        yield f"the image is {size} (height, width), the record says {sample.size}"
    if turned:
        yield "the image carries an EXIF rotation, masks belong to the stored pixels: remove the tag"


def _mask_problems(sample: Sample) -> Iterator[str]:
    for number, region in enumerate(sample.regions):
        if region.mask is None:
            continue
        if region.mask.size != sample.size:
            yield f"the mask of region {number} is {region.mask.size}, the image {sample.size} (height, width)"
            continue
        area = _area(region.mask)
        if area is None:
            yield f"the mask of region {number} is not a valid run-length code"
        elif area == 0:
            yield f"the mask of region {number} is empty"


def _area(mask: Mask) -> int | None:
    """Pixels inside, or None when the runs do not fill the image exactly.

    pycocotools decodes short or broken codes without a word, so the runs are read here: little-endian groups of five
    bits in characters from 48 on, 32 = more follow, 16 in the last = negative; from the fourth run on a run is given as
    the difference to the run two before.
    """
    code = np.frombuffer(mask.counts, np.uint8).astype(np.int64) - 48
    if not len(code) or code.min() < 0 or code.max() > 63 or code[-1] & 32:
        return None
    last = np.flatnonzero(code & 32 == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    place = 5 * (np.arange(len(code)) - np.repeat(first, last - first + 1))
    if place.max() > 30:  # no image has runs of 2^35 pixels
        return None
    values = np.add.reduceat((code & 31) << place, first)
    values -= np.where(code[last] & 16, 32 << place[last], 0)
    inside, outside = np.cumsum(values[1::2]), np.cumsum(values[2::2])
    runs = np.concatenate([values[:1], inside, outside])
    whole = runs.min() >= 0 and runs.sum() == mask.size[0] * mask.size[1]
    return int(inside.sum()) if whole else None
