"""LLaVA 1.5's captions and conversations, on which PSALM learns to talk about images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from anygrain.data.readers.files import check_split, each_record, first_of, image_size, need
from anygrain.types import Sample

_LLAVA = {"pretrain": ("blip_laion_cc_sbu_558k.json", "images"), "finetune": ("llava_v1_5_mix665k.json", ".")}


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
