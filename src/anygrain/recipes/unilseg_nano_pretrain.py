"""The shipped small model, first stage: a teacher's labels, bare boxes of 80 categories, and human texts with boxes.

After ``anygrain data build DATA data_cache/nano --split train --source boxes80 --source pseudo_voc`` (and the second
stage's sources): ``anygrain train unilseg_nano_pretrain --data data_cache/nano/train --out runs/pretrain``; the second
stage then starts from it with ``--init runs/pretrain/model``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from anygrain.data.mixture import MixtureConfig
from anygrain.recipes import unilseg_nano
from anygrain.recipes.unilseg_nano import build as build
from anygrain.train.trainer import TrainConfig

# Only these take part: what a teacher or a box says, and the photos whose boxes are exhaustive.
_WEIGHTS = {
    "boxes80": 40.0,
    "pseudo_voc": 30.0,
    "coco_extra": 8.0,
    "coco_people": 8.0,
    "coco_person": 12.0,
    "hoi": 8.0,
    "refexp": 8.0,
    "vg_relations": 2.0,
    "statements": 4.0,
}


def config(data: Path) -> TrainConfig:
    """As the second stage, with hide-and-seek against label noise (paper §4.1: probability 0.2)."""
    finetune = unilseg_nano.config(data)
    sources = tuple(folder for folder in finetune.data if Path(folder).name in _WEIGHTS)
    if not sources:
        raise ValueError(f"{data}: holds none of the sources of this stage ({', '.join(_WEIGHTS)}); build them first")
    return replace(
        finetune,
        data=sources,
        mixture=MixtureConfig(weights=_WEIGHTS).of(sources),
        batch=replace(finetune.batch, augment=replace(finetune.batch.augment, hide_and_seek=0.2)),
        steps=1600,
    )
