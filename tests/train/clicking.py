"""A Semantic-SAM of a few thousand weights, and a run over photos of nested things."""

from __future__ import annotations

import zlib
from pathlib import Path

import torch

from anygrain.data.clicks import ClickConfig
from anygrain.data.shards import write_shards
from anygrain.data.transforms import AugmentConfig
from anygrain.models.clip_text import CLIPTextConfig
from anygrain.models.pixel_decoder import PixelDecoderConfig
from anygrain.models.semantic_sam import SemanticSAM
from anygrain.models.semantic_sam_config import SemanticSAMConfig
from anygrain.models.semantic_sam_loss import PromptLossConfig
from anygrain.models.swin import SwinConfig
from anygrain.train.trainer import TrainConfig
from nested_photos import nested


class WordTokenizer:
    """Each word a number by its letters; the largest id ends a text."""

    def __call__(self, texts, length):
        ids = torch.zeros(len(texts), length, dtype=torch.long)
        for row, text in zip(ids, texts, strict=True):
            words = [1 + zlib.crc32(word.encode()) % 62 for word in text.split()][: length - 1]
            row[: len(words) + 1] = torch.tensor([*words, 63])
        return ids

    def cut(self, text, length):
        return " ".join(text.split()[length - 1 :])


def clicking_config(**changes) -> SemanticSAMConfig:
    """Sizes of a tiny network for photos of 64 pixels."""
    text = CLIPTextConfig(vocab_size=64, context_length=8, width=16, heads=2, layers=1, embed_dim=16)
    swin = SwinConfig(embed_dim=16, depths=(1, 1, 1, 1), num_heads=(1, 2, 2, 2), window_size=4, drop_path=0.1)
    defaults = {
        "image_encoder": swin,
        "text_encoder": text,
        "pixel_decoder": PixelDecoderConfig(hidden_dim=64, mask_dim=32, num_layers=1, ffn_dim=32),
        "input_size": 64,
        "resize": "fit",
        "num_layers": 2,
        "ffn_dim": 32,
        "click_size": 0.02,
        "box_type": 1,
        "word_len": 8,
        "loss": PromptLossConfig(points=128, objects=1.0, parts=1.0),
    }
    return SemanticSAMConfig(**{**defaults, **changes})


def clicking_model(**changes) -> SemanticSAM:
    torch.manual_seed(1)
    return SemanticSAM(clicking_config(**changes), WordTokenizer())


def write_nested(folder: Path) -> tuple[str, ...]:
    """Shards of the three kinds of data, two photos each."""
    kinds = ("parts", "objects", "masks")
    for number, kind in enumerate(kinds):
        write_shards([nested(2 * number + i, kind=kind, source=kind) for i in range(2)], folder / kind)
    return tuple(str(folder / kind) for kind in kinds)


def clicking_run(data: tuple[str, ...], **fields) -> TrainConfig:
    still = AugmentConfig(scale=(1, 1), flip=0, jitter=0)
    defaults = {
        "model": clicking_config(),
        "data": data,
        "batch": ClickConfig(size=64, prompts_per_image=4, box_ratio=0.3, box_noise=0.1, augment=still),
        "batch_images": 2,
        "steps": 8,
        "device": "cpu",
        "workers": 0,
        "log_every": 2,
        "checkpoint_every": 4,
        "eval_every": 100,
    }
    return TrainConfig(**{**defaults, **fields})
