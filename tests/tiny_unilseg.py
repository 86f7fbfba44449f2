"""Small UniLSegs of random weights: the shipped model's form and the released one's, in thousandths of the size."""

from __future__ import annotations

import string
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from anygrain.models.bert import BertConfig, WordPieceTokenizer
from anygrain.models.clip_text import CLIPTextConfig
from anygrain.models.clip_tokenizer import ClipTokenizer
from anygrain.models.convnet import EfficientNetLiteConfig
from anygrain.models.swin import SwinConfig
from anygrain.models.unilseg import UniLSeg, UniLSegConfig

WORDS = ["all", "the", "most", "salient", "object", "people", "red", "car", "sky", "window", "dog", "cat", "on", "left"]


def nano_config(**changes: Any) -> UniLSegConfig:
    """The shipped configuration with everything narrow."""
    small = {
        "image_encoder": EfficientNetLiteConfig(width=0.25, depth=0.3),
        "text_encoder": BertConfig(vocab_size=200, context_length=16, width=24, num_heads=2, layers=1, ffn_dim=32),
        "input_size": 96,
        "word_len": 12,
        "level_dims": (8, 16, 16, 16),
        "ffn_dim": 24,
        "mask_dim": 12,
        "query_dim": 16,
        "query_layers": 2,
        "query_ffn_dim": 24,
    }
    return replace(UniLSegConfig.nano(), **{**small, **changes})


def official_config(base: UniLSegConfig | None = None, **changes: Any) -> UniLSegConfig:
    """The released configuration (or ``base``) with everything narrow; a letterbox of 64."""
    small = {
        "image_encoder": SwinConfig(
            embed_dim=8, depths=(1, 1, 2, 1), num_heads=(1, 1, 2, 2), window_size=3, drop_path=0.0
        ),
        "text_encoder": CLIPTextConfig(width=16, heads=2, layers=1, embed_dim=12),
        "input_size": 64,
        "level_dims": (16,) * 4,
        "ffn_dim": 24,
        "mask_dim": 12,
        "query_dim": 12,
        "query_layers": 2,
        "query_ffn_dim": 24,
        "num_heads": 2,
        "fusion_heads": 2,
    }
    return replace(base or UniLSegConfig.released(), **{**small, **changes})


def build(config: UniLSegConfig, folder: Path | None = None, seed: int = 0) -> UniLSeg:
    """Random weights, BatchNorm statistics that are not 0 and 1, eval mode. A BERT needs a folder for its tokenizer."""
    torch.manual_seed(seed)
    tokenizer = ClipTokenizer() if isinstance(config.text_encoder, CLIPTextConfig) else None
    if tokenizer is None and folder is not None:
        tokenizer = WordPieceTokenizer(write_tokenizer(folder / "words.json"))
    model = UniLSeg(config, tokenizer)
    for module in model.modules():
        if isinstance(module, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def write_tokenizer(path: Path) -> Path:
    """A WordPiece tokenizer of a few words and all letters, with the ids of BERT's special tokens at the start."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    pieces = [*WORDS, *string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase), "犬"]
    vocabulary = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *dict.fromkeys(pieces)])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(path))
    return path
