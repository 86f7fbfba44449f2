"""PSALM's first stage: the projector learns to speak to a language model that stays as it is (paper §4.1).

Command: ``anygrain train psalm_align --data SHARDS --out runs/align``, then ``psalm_joint``. Meant for accelerators.

The release has no script for this stage. Its authors name LLaVA 1.5's (arXiv 2310.03744) with their encoder and
projector, so these are that code's settings: pictures with one caption each (558,000 of LLaVA's), the picture's tokens
and then the caption and nothing else, one epoch of batches of 256, AdamW 1e-3, cosine after a warmup of 3 %, no decay;
image encoder and language model frozen. In the release the running statistics of the projector's BatchNorm were lost on
the way to the second stage; here they are kept.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from anygrain.data.psalm_tasks import PSALMBatchConfig
from anygrain.models.psalm.config import PSALMConfig
from anygrain.models.psalm.network import PSALM
from anygrain.recipes import psalm_joint
from anygrain.train.optim import OptimConfig
from anygrain.train.trainer import TrainConfig

STEPS = 558_128 // 256


def config(data: Path) -> TrainConfig:
    """The full run. data: a folder whose subfolders are shard folders; those with captions or chats serve."""
    joint = psalm_joint.config(data)
    trained = ("projector.",)
    return replace(
        joint,
        batch=PSALMBatchConfig(tasks={"caption": 1.0}),
        batch_images=256,
        steps=STEPS,
        optim=OptimConfig(
            lr=1e-3, schedule="cosine", final_factor=0.0, warmup=round(0.03 * STEPS), grad_clip=1.0, weight_decay=0.0
        ),
        freeze=tuple(f"{part}" for part in PARTS if part not in trained),
        eval_every=500,
    )


PARTS = (
    "image_encoder.",
    "projector.",
    "language.",
    "pixel_decoder.",
    "mask_decoder.",
    "mask_tokens",
    "query_proj.",
    "condition_proj.",
    "condition_head.",
)
"""Prefixes of all parameters' names; what ``freeze`` may name."""


def build(config: TrainConfig) -> PSALM:
    """The network as the second stage starts it, but for the projector that is made here."""
    assert isinstance(config.model, PSALMConfig)
    return psalm_joint.build(config)
