"""Photographs to annotate, one by one and only when asked for: a folder, a COCO JSON with boxes or masks, or shards."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from anygrain.data.formats import from_record, to_record
from anygrain.data.readers.coco import read_table, region_of
from anygrain.data.shards import SUFFIX_OF, ShardReader
from anygrain.images import ImageError, decode_image, open_image
from anygrain.inputs import IMAGE_ENDINGS, OVERLAY, natural, printable
from anygrain.types import Region, Sample, Size

if TYPE_CHECKING:
    from PIL import Image

_LONGEST = 90  # bytes of an id: names in a tar have 100
_ORIENTATION = 0x0112  # the EXIF tag


@dataclass(frozen=True, kw_only=True)
class Photo:
    """A photograph's file and what is known of it before the first step.

    image: the file's bytes, of any format of ``open_image``.
    record: a Sample as ``data.formats.to_record`` writes it; without ``size`` where only the image knows it.
    """

    id: str
    image: bytes
    record: Mapping[str, Any]

    @cached_property
    def checksum(self) -> str:
        """128 bits of the SHA-256 of image and record: another photograph or other annotations give another one."""
        known = json.dumps(self.record, sort_keys=True, separators=(",", ":")).encode()
        return hashlib.sha256(hashlib.sha256(self.image).digest() + known).hexdigest()[:32]

    def open(self) -> tuple[Sample, Image.Image]:
        """The Sample that steps get, and its decoded image: JPEG, PNG or WebP, upright, of the size it says.

        Other formats become PNG; a JPEG whose camera was turned is written anew. Raises ImageError when the image
        cannot be read or does not belong to its annotations.
        """
        data, stored = self.image, decode_image(self.image)
        turned = _is_turned(stored)
        if turned and self.record["regions"]:
            raise ImageError(f"{self.id} carries an EXIF rotation, its annotations belong to the stored pixels")
        image = open_image(stored)
        if turned or not data.startswith(tuple(SUFFIX_OF)):
            data = _encoded(image, lossy=data.startswith(b"\xff\xd8\xff"))
            image = open_image(data)  # steps see exactly what the shard will hold
        size: Size = (image.height, image.width)
        said = tuple(self.record.get("size", size))
        if said != size:
            raise ImageError(f"{self.id} is {size} (height, width), but its annotations say {said}")
        return from_record({**self.record, "size": size}, data), image


def _is_turned(image: Image.Image) -> bool:
    try:
        return image.getexif().get(_ORIENTATION, 1) != 1
    except (SyntaxError, ValueError, OSError):  # a damaged note about a whole picture, as in open_image
        return False


def _encoded(image: Image.Image, *, lossy: bool) -> bytes:
    out = io.BytesIO()
    image.save(out, **({"format": "JPEG", "quality": 95, "subsampling": 0} if lossy else {"format": "PNG"}))
    return out.getvalue()


class Photos(Protocol):
    """Photographs by number, in an order that stays."""

    def __len__(self) -> int: ...

    def name(self, number: int) -> str:
        """The id where it is known without reading, else what to call the photograph in a message."""
        ...

    def read(self, number: int) -> Photo:
        """Read the file. Raises ValueError or OSError with one sentence when it cannot be read."""
        ...


def open_photos(path: str | Path, *, images: str | Path | None = None, known: bool = True) -> Photos:
    """A folder of photographs (at any depth), one photograph, a COCO JSON, or a folder of shards.

    images: the folder of the files that a COCO JSON names; by default ``images`` beside the JSON or beside its folder,
        or the JSON's own folder.
    known: False leaves out all that is annotated already, as if nothing were known.
    Raises ValueError when there is nothing.
    """
    path = Path(path)
    if path.is_dir():
        return ShardPhotos(path, known=known) if any(path.rglob("*.tar")) else FilePhotos(path)
    if not path.exists():
        raise ValueError(f"there is no {path}: name a folder of photographs or shards, or a COCO JSON")
    if path.suffix.lower() == ".json":
        return CocoPhotos(path, _images_of(path, images), known=known)
    if path.suffix.lower() not in IMAGE_ENDINGS:
        raise ValueError(f"{path} is no photograph, no folder and no COCO JSON: name one of these")
    return FilePhotos(path.parent, (path,))


def _images_of(annotations: Path, images: str | Path | None) -> Path:
    if images is not None:
        if not Path(images).is_dir():
            raise ValueError(f"there is no folder {images}: name that of the images of {annotations}")
        return Path(images)
    beside = annotations.parent / "images", annotations.parent.parent / "images"
    return next((folder for folder in beside if folder.is_dir()), annotations.parent)


class FilePhotos:
    """Image files; the id is ``<folder>/<path inside it>``, so that it stays when others come."""

    def __init__(self, folder: Path, paths: tuple[Path, ...] | None = None):
        """paths: by default all images under the folder, without hidden ones and overlays of earlier results."""
        self.folder, self.source = folder, printable(folder.resolve().name) or "photos"
        self.paths = paths or tuple(sorted(_images_under(folder), key=lambda path: natural(str(path))))
        if not self.paths:
            raise ValueError(f"{folder} holds no photographs and no shards: name another folder")

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, number: int) -> str:
        """The id."""
        return _id(self.source, self.paths[number].relative_to(self.folder).as_posix())

    def read(self, number: int) -> Photo:
        """See ``Photos``."""
        record = {"id": self.name(number), "source": self.source, "exhaustive": [], "regions": []}
        return Photo(id=record["id"], image=self.paths[number].read_bytes(), record=record)


def _images_under(folder: Path) -> list[Path]:
    found = [path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_ENDINGS and path.is_file()]
    seen = [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    return [path for path in seen if Path(path.stem).suffix != OVERLAY]


def _id(source: str, path: str) -> str:
    """source/path, with a checksum in place of a path too long for a tar."""
    name = f"{source}/{printable(path)}"
    return name if len(name.encode()) <= _LONGEST else hashlib.sha256(path.encode("utf-8", "replace")).hexdigest()[:32]


class CocoPhotos:
    """The images of a COCO JSON, with its boxes and masks as regions."""

    def __init__(self, annotations: Path, images: Path, *, known: bool = True):
        """Raises ValueError or FileNotFoundError naming the JSON."""
        self.annotations, self.images, self.known = annotations, images, known
        self.source = printable(annotations.stem)
        self.table = read_table(annotations)
        self.names = self.table.names  # of the categories, made once
        self.entries = sorted(self.table.images, key=lambda entry: entry["file_name"])
        if not self.entries:
            raise ValueError(f"{annotations} names no images: there is nothing to annotate")

    def __len__(self) -> int:
        return len(self.entries)

    def name(self, number: int) -> str:
        """The id."""
        return _id(self.source, self.entries[number]["file_name"])

    def read(self, number: int) -> Photo:
        """See ``Photos``."""
        entry = self.entries[number]
        size = (entry["height"], entry["width"])
        annotations = self.table.annotations[entry["id"]] if self.known else ()
        regions = [self._region(annotation, size) for annotation in annotations]
        sample = Sample(
            id=self.name(number),
            image=b"",
            size=size,
            regions=tuple(region for region in regions if region is not None),
            source=self.source,
        )
        image = (self.images / entry["file_name"]).read_bytes()
        return Photo(id=sample.id, image=image, record=to_record(sample))

    def _region(self, annotation: Mapping[str, Any], size: Size) -> Region | None:
        if not annotation.get("segmentation") and len(annotation.get("bbox") or ()) != 4:
            raise ValueError(f"{self.annotations}: annotation {annotation['id']} has neither a segmentation nor a bbox")
        return region_of(self.annotations, annotation, self.names, size, boxes=True)


class ShardPhotos:
    """The samples of shards, which keep their ids and sources."""

    def __init__(self, folder: Path, *, known: bool = True):
        self.reader, self.known = ShardReader(folder), known

    def __len__(self) -> int:
        return len(self.reader)

    def name(self, number: int) -> str:
        """Folder and number: the id stands in the shard."""
        return f"{self.reader.folder}: sample {number}"

    def read(self, number: int) -> Photo:
        """See ``Photos``."""
        sample, record = self.reader[number], self.reader.record(number)
        if not self.known:
            record = {name: record[name] for name in ("id", "source", "size")} | {"exhaustive": [], "regions": []}
        return Photo(id=sample.id, image=bytes(sample.image), record=record)  # type: ignore[arg-type]
