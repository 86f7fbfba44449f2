"""What PSALM is trained on beside COCO panoptic and RefCOCO: COCO-Interactive, LLaVA's captions and conversations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from anygrain.categories import categories
from anygrain.data.readers.coco import HUMAN, checked_size, mask_of
from anygrain.data.readers.coco_sets import coco_images
from anygrain.data.readers.files import check_split, each_record, first_of, image_size, need
from anygrain.types import Mask, Region, Sample

MARKS = ("point", "scribble", "box", "mask")
_LLAVA = {"pretrain": ("blip_laion_cc_sbu_558k.json", "images"), "finetune": ("llava_v1_5_mix665k.json", ".")}


def read_coco_interactive(root: str | Path, split: str) -> Iterator[Sample]:
    """COCO instances with four marks each, as PSALM's authors publish and make them. Splits train, val.

    root: ``coco_interactive_{split}_psalm.json`` and ``{split}2017/`` (or ``images/{split}2017/``): a list of images,
    each with COCO's entry for it and its annotations, which also have ``{kind}_visual_prompt_mask`` of the four kinds.
    ``Region.marks`` holds those that are not empty, as they are: points and scribbles are a pixel thin.
    Raises FileNotFoundError or ValueError naming the file.
    """
    check_split(split, ("train", "val"), "coco_interactive")
    name = f"coco_interactive_{split}_psalm.json"
    path = first_of(root, [name, f"annotations/{name}", f"annotation/{name}"], name)
    images = coco_images(root, split)
    names = {number: name for name, number in categories("coco80").id_of.items()}
    entries = list(each_record(path, "COCO-Interactive's list of images"))
    for entry in sorted(entries, key=lambda entry: entry["image"]):
        image = images / entry["image"]
        size = checked_size(image, entry["image_info"], path)
        regions = []
        for annotation in entry["anns"]:
            mask = mask_of(path, annotation, size)
            if mask is not None:
                regions.append(
                    Region(
                        mask=mask,
                        category=names[annotation["category_id"]],
                        instance=annotation["id"],
                        ignore=bool(annotation.get("iscrowd")),
                        marks=_marks(path, annotation, size),
                        origin=HUMAN,
                    )
                )
        yield Sample(
            id=f"coco_interactive/{image.stem}",
            image=image,
            size=size,
            regions=tuple(regions),
            source="coco_interactive",
            exhaustive=frozenset(names.values()),
        )


def _marks(path: Path, annotation: Mapping[str, Any], size: tuple[int, int]) -> dict[str, Mask]:
    marks = {}
    for kind in MARKS:
        drawn = annotation.get(f"{kind}_visual_prompt_mask")
        mark = mask_of(path, {"id": f"{annotation['id']} ({kind})", "segmentation": drawn}, size)
        if mark is not None:
            marks[kind] = mark
    return marks


def read_llava(root: str | Path, split: str) -> Iterator[Sample]:
    """LLaVA 1.5's instruction data (Liu et al., arXiv 2310.03744). Splits pretrain, finetune.

    root: for finetune ``llava_v1_5_mix665k.json`` and beside it the images that it names (``coco/train2017/*.jpg``,
    ``gqa/images``, ``ocr_vqa/images``, ``textvqa/train_images``, ``vg/VG_100K``), for pretrain
    ``blip_laion_cc_sbu_558k.json`` and ``images/`` beside it, also inside ``LLaVA-Pretrain``. One Sample an image with
    all that is said about it, in the order of file names; conversations without an image are left out. Turns are pairs
    of a question and its answer, text as it is.
    Raises FileNotFoundError or ValueError naming the file and the conversation.
    """
    check_split(split, _LLAVA, "llava")
    name, place = _LLAVA[split]
    path = first_of(root, [name, f"LLaVA-Pretrain/{name}"], name)
    chats: dict[str, list[tuple[tuple[str, str], ...]]] = defaultdict(list)
    for record in each_record(path, "LLaVA's list of conversations"):
        if record.get("image"):
            chats[record["image"]].append(_turns(path, record))
    folder = path.parent / place
    for file, said in sorted(chats.items()):
        image = need(folder / file, f"an image that {path.name} names")
        yield Sample(
            id=f"llava/{Path(file).with_suffix('')}",
            image=image,
            size=image_size(image),
            regions=(),
            source="llava",
            chats=tuple(said),
        )


def _turns(path: Path, record: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Pairs of a question and its answer; a conversation must be made of them alone."""
    said: Sequence[Mapping[str, str]] = record.get("conversations", ())
    speakers = [turn.get("from") for turn in said]
    if not said or speakers != ["human", "gpt"] * (len(said) // 2):
        raise ValueError(
            f"{path}: conversation {record.get('id')!r}: expected human and gpt in turn, got {speakers[:4]}"
        )
    texts = [turn["value"] for turn in said]
    return tuple(zip(texts[::2], texts[1::2], strict=True))
