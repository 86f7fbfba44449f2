"""Semantic-SAM with Swin-L (window 12, from ImageNet-22k at 384 pixels); all else as ``semantic_sam_swint``.

Command: ``anygrain train semantic_sam_swinl --data SHARDS --out runs/swinl``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from anygrain.models.semantic_sam import SemanticSAM
from anygrain.models.semantic_sam_config import SemanticSAMConfig
from anygrain.recipes import semantic_sam_swint
from anygrain.train.trainer import TrainConfig

SWIN = "microsoft/swin-large-patch4-window12-384-in22k"


def config(data: Path) -> TrainConfig:
    """The full run. data: a folder whose subfolders are shard folders, one a source."""
    small = semantic_sam_swint.config(data)
    large = SemanticSAMConfig.released_large().image_encoder
    return replace(small, model=replace(small.model, image_encoder=large))


def build(config: TrainConfig) -> SemanticSAM:
    """As ``semantic_sam_swint.build``."""
    return semantic_sam_swint.build(config, SWIN)
