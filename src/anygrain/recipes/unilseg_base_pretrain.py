"""UniLSeg as the paper trains it, first stage: pseudo-labelled images (paper §3.3 and §4.1).

Command: ``anygrain train unilseg_base_pretrain --data SHARDS --out runs/base-pretrain``; the second stage then starts
from it: ``anygrain train unilseg_base --data SHARDS --init runs/base-pretrain/model --out runs/base``.
The paper's batch is 1536 over 192 GPUs; here it is that of one machine, so scale the rate when you change it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from anygrain.recipes import unilseg_base
from anygrain.recipes.unilseg_base import build as build
from anygrain.train.optim import OptimConfig
from anygrain.train.trainer import TrainConfig

EPOCHS = 5


def config(data: Path) -> TrainConfig:
    """Pretrain: 5 epochs, constant rate 5e-5, hide-and-seek with probability 0.2 against label noise."""
    finetune = unilseg_base.config(data)
    batch = replace(finetune.batch, augment=replace(finetune.batch.augment, hide_and_seek=0.2))
    optim = OptimConfig(lr=5e-5, image_lr_factor=0.1, schedule="constant")
    steps = max(1, finetune.steps * EPOCHS // unilseg_base.EPOCHS)
    return replace(finetune, batch=batch, optim=optim, steps=steps)
