"""UniLSeg as the paper trains it, second stage: Swin-B, CLIP ViT-B/16 text, 480 pixels (paper §4.1).

Command: ``anygrain train unilseg_base --data SHARDS --out runs/base [--init MODEL]``; without ``--init`` the encoders
start from their public weights on the Hugging Face Hub (Swin-B ImageNet-22k, CLIP ViT-B/16). Meant for accelerators:
a step of 16 photographs takes minutes on two CPU cores. Expected score: the paper's Table 2 with the paper's data.

Where the paper is silent we took what its study recommends: batch 16, plain Adam, no clipping, cross-entropy and Dice
1 : 1 with deep supervision, an epoch is one pass over the images.
"""

from __future__ import annotations

from pathlib import Path

from anygrain.data.batch import BatchConfig
from anygrain.data.shards import ShardReader
from anygrain.data.transforms import AugmentConfig
from anygrain.models.unilseg import UniLSeg, UniLSegConfig
from anygrain.recipes.sources import find_sources
from anygrain.train.optim import OptimConfig
from anygrain.train.trainer import TrainConfig

EPOCHS = 15
BATCH = 16
SWIN, CLIP = "microsoft/swin-base-patch4-window7-224-in22k", "openai/clip-vit-base-patch16"


def config(data: Path) -> TrainConfig:
    """Finetune on true labels: 15 epochs, rate 1e-4, a tenth of it after 10, the image encoder at a tenth throughout.

    data: a folder whose subfolders are shard folders, one a source.
    """
    sources = find_sources(data)
    images = sum(len(ShardReader(folder)) for folder in sources)
    return TrainConfig(
        model=UniLSegConfig.released(),
        data=sources,
        batch=BatchConfig(
            size=480,
            prompts_per_image=1,
            augment=AugmentConfig(scale=(1.0, 1.0), flip=0.0, jitter=0.0, hide_and_seek=0.0),
        ),
        batch_images=BATCH,
        steps=max(1, EPOCHS * images // BATCH),
        optim=OptimConfig(lr=1e-4, image_lr_factor=0.1, text_lr_factor=1.0, schedule="step", drop_at=(10 / 15,)),
        freeze_text=False,
        workers=4,
    )


def build(config: TrainConfig) -> UniLSeg:
    """The network with the encoders' public start weights, fetched from the Hub.

    Raises ValueError with one sentence when they cannot be fetched.
    """
    import torch

    from anygrain.models.clip_tokenizer import ClipTokenizer
    from anygrain.recipes.start import start_clip, start_swin

    torch.manual_seed(config.seed)
    model = UniLSeg(config.model, ClipTokenizer())
    start_swin(model.image_encoder, SWIN)
    start_clip(model.text_encoder, CLIP)
    return model
