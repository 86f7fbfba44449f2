"""Referring video: Ref-YouTube-VOS (Seo et al., ECCV 2020) and sets of its form, MeViS (Ding et al., ICCV 2023)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from anygrain.data.language import union
from anygrain.data.readers.files import (
    by_stem,
    check_split,
    find,
    first_of,
    image_size,
    need,
    read_index_mask,
    read_json,
)
from anygrain.types import Mask, Region, Sample, Size

HUMAN = {"step": "human"}


def read_video(folder: str | Path, *, source: str) -> Iterator[Sample]:
    """One Sample a frame, videos and frames sorted, id ``source/video/frame``.

    folder: ``JPEGImages``, ``Annotations``, ``meta_expressions.json``.
    An object that shows in the frame is a Region with all its expressions as captions and its number as instance; of
    one that does not nothing is said.
    Raises FileNotFoundError or ValueError naming the file.
    """
    folder = Path(folder)
    for video, entry in _videos(folder / "meta_expressions.json"):
        for frame, image, size, said in _frames(folder, video, entry):
            sample = expression_sample(source, video, frame, image, size, said)
            yield replace(sample, absent=())


def read_ref_youtube_vos(root: str | Path, split: str) -> Iterator[Sample]:
    """Ref-YouTube-VOS, as `read_video`. The only split with public masks is train.

    root: ``train/JPEGImages``, ``train/Annotations`` and ``meta_expressions/train/meta_expressions.json``. The
    expressions of an object that does not show in a frame stand in ``Sample.absent``. The masks of valid are at the
    evaluation server only: write predictions for it with the names of its ``meta_expressions.json``.
    """
    check_split(split, ("train",), "ref_youtube_vos")
    places = ["meta_expressions/train/meta_expressions.json", "train/meta_expressions.json"]
    path = first_of(root, places, "meta_expressions/train/meta_expressions.json")
    folder = first_of(root, ["train"], "the folder train/")
    for video, entry in _videos(path):
        for frame, image, size, said in _frames(folder, video, entry):
            yield expression_sample("ref_youtube_vos", video, frame, image, size, said)


def read_mevis(root: str | Path, split: str) -> Iterator[Sample]:
    """MeViS: expressions about motion, each of one object or several. Splits train, valid_u (both with public masks).

    root: ``{split}/JPEGImages``, ``{split}/meta_expressions.json`` and ``{split}/mask_dict.json`` (by ``anno_id`` one
    run-length code a frame, or null). An expression's truth in a frame is the union of its objects; one without a pixel
    in a frame stands in ``Sample.absent``. Expressions of the same objects share a Region.
    Raises FileNotFoundError or ValueError naming the file.
    """
    check_split(split, ("train", "valid_u"), "mevis")
    folder = first_of(root, [split], f"the folder {split}/")
    path = first_of(folder, ["mask_dict.json"], "mask_dict.json")
    codes: Any = read_json(path, "the masks of MeViS")
    for video, entry in _videos(first_of(folder, ["meta_expressions.json"], "meta_expressions.json")):
        groups: dict[tuple[str, ...], list[str]] = {}
        for _, expression in sorted(entry["expressions"].items(), key=lambda item: int(item[0])):
            groups.setdefault(tuple(sorted(map(str, expression["anno_id"]), key=int)), []).append(expression["exp"])
        wanted = {number for group in groups for number in group}
        if missing := wanted - codes.keys():
            raise ValueError(f"{path}: no masks of annotation {min(missing)}, which {video} names")
        images = by_stem(folder / "JPEGImages" / video, "the frames of a video")
        for place, frame in enumerate(sorted(entry["frames"])):
            image = find(images, frame, folder / "JPEGImages" / video, "a frame that meta_expressions.json names")
            size = image_size(image)
            here = {number: Mask.from_coco(codes[number][place], size) for number in wanted if codes[number][place]}
            said = []
            for group, texts in groups.items():
                masks = [here[number] for number in group if number in here]
                one = int(group[0]) if len(group) == 1 else None
                said.append((union(masks) if masks else None, tuple(texts), one))
            yield expression_sample("mevis", video, frame, image, size, said)


Said = Sequence[tuple["Mask | None", "tuple[str, ...]", "int | None"]]


def expression_sample(source: str, video: str, frame: str, image: Path, size: Size, said: Said) -> Sample:
    """The Sample of a frame. said: mask, expressions and number of each target; without a pixel it is absent here."""
    shown = [(mask, texts, number) for mask, texts, number in said if mask is not None and mask.area]
    hidden = [texts for mask, texts, _ in said if mask is None or not mask.area]
    return Sample(
        id=f"{source}/{video}/{frame}",
        image=image,
        size=size,
        regions=tuple(Region(mask=m, captions=texts, instance=number, origin=HUMAN) for m, texts, number in shown),
        source=source,
        absent=tuple(text for texts in hidden for text in texts),
    )


def _videos(path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    meta = read_json(path, "the videos, their frames and expressions")
    if not isinstance(meta, dict) or "videos" not in meta:
        raise ValueError(f"{path}: expected the key videos, as in Ref-YouTube-VOS")
    return sorted(meta["videos"].items())


def _frames(folder: Path, video: str, entry: Mapping[str, Any]) -> Iterator[tuple[str, Path, Size, Said]]:
    """Name, image, size and targets of every frame that the table names."""
    captions: dict[int, list[str]] = {}
    for _, expression in sorted(entry["expressions"].items(), key=lambda item: int(item[0])):
        captions.setdefault(int(expression["obj_id"]), []).append(expression["exp"])
    images = by_stem(folder / "JPEGImages" / video, "the frames of a video")
    need(folder / "Annotations" / video, "the masks of a video")
    for frame in sorted(entry["frames"]):
        image = find(images, frame, folder / "JPEGImages" / video, "a frame, because meta_expressions.json names it")
        size = image_size(image)
        index = read_index_mask(folder / "Annotations" / video / f"{frame}.png", size)
        said = [(Mask.from_array(index == n), tuple(texts), n) for n, texts in sorted(captions.items())]
        yield frame, image, size, said
