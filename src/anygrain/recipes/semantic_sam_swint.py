"""Semantic-SAM with Swin-T as the paper trains it, with what its release left out.

Command: ``anygrain train semantic_sam_swint --data SHARDS --out runs/swint``. Meant for accelerators.

As released: 1024 pixels, 60 prompts a photo, many-to-many, AdamW 1e-4 (encoders a tenth), decay 0.05, gradient norm
0.01, 368750 steps with drops at 327778 and 355092, drop path 0.3, Swin-T from ImageNet-1k. The release has one photo a
GPU and does not say how many GPUs; we take 8 photos a step.

Not in the release, which was trained on SA-1B alone: a quarter of the prompts are boxes; names of objects and parts are
learnt wherever the shards have them, from photos of all kinds in one stream (mix them with ``--mixture.weights``); the
text encoder starts from CLIP ViT-B/16; clicks and boxes have prompt types of their own.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from anygrain.data.clicks import ClickConfig
from anygrain.models.clip_text import CLIPTextConfig
from anygrain.models.semantic_sam import SemanticSAM
from anygrain.models.semantic_sam_config import SemanticSAMConfig
from anygrain.recipes.sources import find_sources
from anygrain.train.optim import OptimConfig
from anygrain.train.trainer import TrainConfig

SWIN, CLIP = "microsoft/swin-tiny-patch4-window7-224", "openai/clip-vit-base-patch16"
STEPS, DROPS = 368_750, (327_778, 355_092)


def config(data: Path) -> TrainConfig:
    """The full run. data: a folder whose subfolders are shard folders, one a source."""
    return TrainConfig(
        model=replace(SemanticSAMConfig.released_tiny(), text_encoder=CLIPTextConfig(), click_type=0, box_type=1),
        data=find_sources(data),
        batch=ClickConfig(box_ratio=0.25, box_noise=0.2, merge_iou=0.9),
        batch_images=8,
        steps=STEPS,
        optim=OptimConfig(
            lr=1e-4,
            image_lr_factor=0.1,
            text_lr_factor=0.1,
            weight_decay=0.05,
            schedule="step",
            drop_at=tuple(drop / STEPS for drop in DROPS),
            grad_clip=0.01,
        ),
        freeze_text=False,
        channels_last=False,
        workers=8,
        eval_every=20_000,
        checkpoint_every=5000,
    )


def build(config: TrainConfig, swin: str = SWIN) -> SemanticSAM:
    """The network with the encoders' public start weights, fetched from the Hub.

    Raises ValueError with one sentence when they cannot be fetched.
    """
    import torch

    from anygrain.models.clip_tokenizer import ClipTokenizer
    from anygrain.recipes.start import start_clip, start_swin

    torch.manual_seed(config.seed)
    model = SemanticSAM(config.model, ClipTokenizer())
    start_swin(model.image_encoder, swin)
    if model.text_encoder is not None:
        start_clip(model.text_encoder, CLIP)
    return model
