"""A small Semantic-SAM for two CPU cores: EfficientNet-Lite2, three and four deformable layers, MiniLM for names.

After ``pip install 'anygrain[train]'``:
  ``anygrain data build DATA data_cache/nano --split train`` and the same with ``--source bsds500``,
  ``anygrain train semantic_sam_nano --data data_cache/nano/train --out runs/clicks``.
The text encoder stays frozen, so that names never seen in training keep the meaning the sentence encoder gave them.
"""

from __future__ import annotations

import math
from pathlib import Path

from anygrain.data.clicks import ClickConfig
from anygrain.data.mixture import MixtureConfig
from anygrain.data.transforms import AugmentConfig
from anygrain.models.bert import BertConfig
from anygrain.models.convnet import EfficientNetLiteConfig
from anygrain.models.pixel_decoder import PixelDecoderConfig
from anygrain.models.semantic_sam import SemanticSAM
from anygrain.models.semantic_sam_config import SemanticSAMConfig
from anygrain.models.semantic_sam_loss import PromptLossConfig
from anygrain.recipes.sources import find_sources
from anygrain.train.optim import OptimConfig
from anygrain.train.trainer import TrainConfig

# Photos whose masks were drawn for it. Levels come from bsds500 (several annotators), parts with their wholes from
# clothing, car_parts and ade20k_sample, names from all the others; frames of few videos count little.
WEIGHTS = {
    "ade20k_sample": 2.0,
    "bsds500": 40.0,
    "caltech_outlines": 10.0,
    "camvid": 20.0,
    "car_parts": 40.0,
    "clothing": 40.0,
    "coco": 50.0,
    "coco_extra": 25.0,
    "coco_person": 15.0,
    "coco_person_car_airplane": 6.0,
    "davis": 8.0,
    "facade": 25.0,
    "faces": 20.0,
    "food": 6.0,
    "horses": 10.0,
    "pets": 20.0,
    "trails": 4.0,
}


def config(data: Path) -> TrainConfig:
    """The full run. data: a folder whose subfolders are shard folders, one a source; those not named here stay out.

    Raises ValueError when none of them is named here.
    """
    sources = tuple(folder for folder in find_sources(data) if Path(folder).name in WEIGHTS)
    if not sources:
        raise ValueError(f"{data}: holds none of the sources of this recipe ({', '.join(WEIGHTS)}); build them first")
    return TrainConfig(
        model=SemanticSAMConfig(
            image_encoder=EfficientNetLiteConfig(),
            text_encoder=BertConfig(),
            pixel_decoder=PixelDecoderConfig(hidden_dim=128, mask_dim=64, num_layers=3, ffn_dim=256),
            input_size=384,
            resize="fit",
            mean=(127.0, 127.0, 127.0),
            std=(128.0, 128.0, 128.0),
            num_layers=4,
            ffn_dim=256,
            click_size=0.01,
            box_type=1,
            word_len=32,
            templates=False,
            loss=PromptLossConfig(points=1536, objects=1.0, parts=1.0),
        ),
        data=sources,
        mixture=MixtureConfig(weights=WEIGHTS).of(sources),
        batch=ClickConfig(
            # 384 px at inference: a zoom of 1.33 in a square of 288 shows things at that size.
            size=288,
            prompts_per_image=12,
            box_ratio=0.25,
            box_noise=0.2,
            min_area=16,
            merge_iou=0.8,
            names=40,
            augment=AugmentConfig(scale=(0.8, 1.8), hide_and_seek=0.0),
        ),
        batch_images=4,
        steps=8000,
        optim=OptimConfig(
            lr=5e-4,
            image_lr_factor=0.2,
            weight_decay=0.05,
            schedule="cosine",
            warmup=150,
            grad_clip=10.0,
            ema_decay=0.998,
        ),
        freeze=("image_encoder.stem.", "image_encoder.stages.0."),
        workers=1,
        eval_every=1000,
        checkpoint_every=200,
    )


def build(config: TrainConfig) -> SemanticSAM:
    """The network with the encoders of the model in the package, which learnt from the same photos what things are.

    Raises RuntimeError when the encoders of ``config`` are others than the shipped ones.
    """
    import torch
    from torch import nn

    from anygrain import hub
    from anygrain.models.unilseg import UniLSeg

    torch.manual_seed(config.seed)
    shipped = hub.read_model(hub.find("nano"))
    assert isinstance(shipped, UniLSeg)
    model = SemanticSAM(config.model, shipped.tokenizer)
    nn.init.constant_(model.logit_scale, math.log(1 / 0.07))  # CLIP's; at 1 no cosine could say that a name is wrong
    assert model.text_encoder is not None
    model.image_encoder.load_state_dict(shipped.image_encoder.state_dict())
    model.text_encoder.load_state_dict(shipped.text_encoder.state_dict())
    return model
