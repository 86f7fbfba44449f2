"""PSALM's second stage as released: panoptic, referring, interactive and chat together, 1:1:1:1, one task a batch.

Command: ``torchrun --nproc-per-node 8 -m anygrain train psalm_joint --data SHARDS --out RUN
  --init runs/align/model``.
SHARDS holds coco_panoptic, refcoco, refcoco+, refcocog_umd, coco_interactive and llava, each made by
``anygrain data convert``; others are taken for what they can teach.

As released: 1024 pixels, no augmentation, AdamW 6e-5 for everything but the Swin, which is frozen, no decay, cosine
after a warmup of 3 %, 56,000 steps of 64 photos, gradient checkpointing, all sentences of a thing said together, a
random kind of mark for each region, names in random order. Not as released: bfloat16, not float16; the frozen Swin
drops no path; FSDP2 instead of ZeRO-2.

Without ``--init`` the parts start from Phi-1.5 and from Mask2Former's Swin-B for COCO panoptic, as in the release.
"""

from __future__ import annotations

from pathlib import Path

from anygrain.data.psalm_tasks import PSALMBatchConfig
from anygrain.models.psalm.config import PSALMConfig
from anygrain.models.psalm.network import PSALM
from anygrain.recipes.sources import find_sources
from anygrain.train.optim import OptimConfig
from anygrain.train.trainer import TrainConfig

PHI, MASK2FORMER = "microsoft/phi-1_5", "facebook/mask2former-swin-base-coco-panoptic"
STEPS = 56_000


def config(data: Path) -> TrainConfig:
    """The full run. data: a folder whose subfolders are shard folders, one a source."""
    return TrainConfig(
        model=PSALMConfig.released(),
        data=find_sources(data),
        batch=PSALMBatchConfig(),
        batch_images=64,
        steps=STEPS,
        optim=OptimConfig(
            lr=6e-5, schedule="cosine", final_factor=0.0, warmup=round(0.03 * STEPS), grad_clip=1.0, weight_decay=0.0
        ),
        freeze=("image_encoder.",),
        checkpointing=True,
        channels_last=False,
        workers=8,
        eval_every=4000,
        checkpoint_every=1000,
    )


def build(config: TrainConfig) -> PSALM:
    """The network with the public start weights, fetched from the Hub.

    Raises ValueError with one sentence when they cannot be fetched.
    """
    import torch

    from anygrain.recipes.start_psalm import phi_tokenizer, start_mask2former, start_phi

    tokenizer = phi_tokenizer(PHI)
    torch.manual_seed(config.seed)
    model = PSALM(config.model, tokenizer)
    start_phi(model.language, PHI)
    start_mask2former(model, MASK2FORMER)
    return model
