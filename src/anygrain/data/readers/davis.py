"""DAVIS 2016 (Perazzi et al.), DAVIS 2017 (Pont-Tuset et al.) and Ref-DAVIS17 (Khoreva et al., ACCV 2018)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from anygrain.data.readers.files import (
    by_stem,
    check_split,
    find,
    first_of,
    image_size,
    need,
    read_index_mask,
    read_names,
)
from anygrain.data.readers.mask_folder import HUMAN
from anygrain.data.readers.video import expression_sample
from anygrain.types import Mask, Region, Sample, Size

SPLITS = ("train", "val")
VOID = 255
# As the four text files spell three videos.
SPELLINGS = {"clasic-car": "classic-car", "dog-scale": "dogs-scale", "motor-bike": "motorbike"}
TEXTS = {
    "Davis17_annot1.txt": "utf-8",
    "Davis17_annot1_full_video.txt": "utf-8",
    "Davis17_annot2.txt": "latin-1",
    "Davis17_annot2_full_video.txt": "latin-1",
}


def read_davis(root: str | Path, split: str, *, year: int) -> Iterator[Sample]:
    """One Sample a frame, videos and frames sorted, id ``davis{year}/video/frame``. Splits train, val.

    root: ``DAVIS`` or its parent: ``JPEGImages/480p``, ``Annotations/480p``, ``ImageSets/{year}/{split}.txt`` (or
    ``ImageSets/480p/{split}.txt`` of the 2016 download). 2017 has one Region an object with its number as instance,
    255 ignored. 2016 asks for everything that moves as one: every pixel above 0 is one Region, 255 too.
    Raises FileNotFoundError or ValueError naming the file.
    """
    source = f"davis{year}"
    folder, videos = _videos(root, split, year, source)
    for video in videos:
        for frame, image, size, index in _frames(folder, "Annotations", video):
            if year == 2016:
                found = [Region(mask=Mask.from_array(index > 0), instance=1, origin=HUMAN)] if index.any() else []
            else:
                numbers = [number for number in np.unique(index).tolist() if number not in (0, VOID)]
                masks = [(number, Mask.from_array(index == number)) for number in numbers]
                found = [Region(mask=mask, instance=number, origin=HUMAN) for number, mask in masks]
                if (void := index == VOID).any():
                    found.append(Region(mask=Mask.from_array(void), ignore=True, origin=HUMAN))
            sample_id = f"{source}/{video}/{frame}"
            yield Sample(id=sample_id, image=image, size=size, regions=tuple(found), source=source)


def read_ref_davis(root: str | Path, split: str) -> Iterator[Sample]:
    """Ref-DAVIS17: the frames of DAVIS 2017, each object with four expressions. Splits train, val.

    root: holds ``DAVIS`` and ``davis_text_annotations``, whose lines are ``video number "expression"``. The order of
    captions is annotator 1 who saw the first frame, annotator 1 who saw the video, annotator 2 likewise: the protocol
    averages the J&F of the four. Masks are those of ``Annotations_unsupervised`` where they are there, as all published
    figures since URVOS use, else of ``Annotations``. The expressions of an object that does not show in a frame stand
    in ``Sample.absent``.
    Raises FileNotFoundError or ValueError naming the file.
    """
    folder, videos = _videos(root, split, 2017, "ref_davis")
    texts = first_of(root, ["davis_text_annotations"], "davis_text_annotations")
    captions: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name, encoding in TEXTS.items():
        for video, number, text in _lines(first_of(texts, [name], name), encoding):
            captions[video][number].append(text)
    drawn = "Annotations_unsupervised" if (folder / "Annotations_unsupervised").is_dir() else "Annotations"
    for video in videos:
        if video not in captions:
            raise ValueError(f"{texts}: no expression about the video {video}")
        for frame, image, size, index in _frames(folder, drawn, video):
            masks = {number: Mask.from_array(index == number) for number in captions[video]}
            said = [(masks[number], tuple(texts), number) for number, texts in sorted(captions[video].items())]
            yield expression_sample("ref_davis", video, frame, image, size, said)


def _lines(path: Path, encoding: str) -> Iterator[tuple[str, int, str]]:
    for line in path.read_text(encoding=encoding).splitlines():
        parts = line.split(maxsplit=2)
        if not parts:
            continue
        if len(parts) < 3 or not parts[1].isdigit():
            raise ValueError(f"{path}: {line!r}: expected lines as 'bear 1 \"a brown bear\"'")
        yield SPELLINGS.get(parts[0], parts[0]), int(parts[1]), parts[2].strip().strip('"').strip()


def _videos(root: str | Path, split: str, year: int, source: str) -> tuple[Path, Sequence[str]]:
    check_split(split, SPLITS, source)
    places = [f"{prefix}ImageSets/{folder}/{split}.txt" for prefix in ("", "DAVIS/") for folder in (str(year), "480p")]
    path = first_of(root, places, f"ImageSets/{year}/{split}.txt")
    names = read_names(path)
    if path.parent.name == "480p":  # lines "/JPEGImages/480p/bear/00000.jpg /Annotations/480p/bear/00000.png"
        names = sorted({Path(name.split()[0]).parent.name for name in names})
    return path.parents[2], names


def _frames(folder: Path, annotations: str, video: str) -> Iterator[tuple[str, Path, Size, np.ndarray]]:
    """Name, image, size and index mask of every frame of a video that is annotated."""
    pictures = by_stem(folder / "JPEGImages" / "480p" / video, "the frames of a video")
    drawn = need(folder / annotations / "480p" / video, "the masks of a video")
    for frame, path in by_stem(drawn, "the masks of a video").items():
        image = find(pictures, frame, folder / "JPEGImages" / "480p" / video, "the frame of a mask")
        size = image_size(image)
        yield frame, image, size, read_index_mask(path, size)
