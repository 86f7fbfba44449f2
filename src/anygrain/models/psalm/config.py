"""Sizes of a PSALM. The defaults are the released network's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Discriminator

from anygrain.models.convnet import EfficientNetLiteConfig
from anygrain.models.mask_decoder import MaskDecoderConfig
from anygrain.models.pixel_decoder import PixelDecoderConfig
from anygrain.models.swin import SwinConfig

ImageEncoderConfig = Annotated[SwinConfig | EfficientNetLiteConfig, Discriminator("kind")]


@dataclass(frozen=True, kw_only=True)
class LanguageConfig:
    """Size of the language model; the defaults are Phi-1.5 with PSALM's two added tokens.

    vocab_size: rows of the embedding and of the output layer. width, layers, num_heads, ffn_dim: the transformer.
    rotary: share of a head's channels that turn with the position. rope_theta: base of their angles.
    norm_eps: of the LayerNorms. context: positions it was trained with; longer prompts are answered all the same.
    """

    vocab_size: int = 50297
    width: int = 2048
    layers: int = 24
    num_heads: int = 32
    ffn_dim: int = 8192
    rotary: float = 0.5
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5
    context: int = 2048


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the losses; the defaults are the official ones.

    class_weight: of whether a query belongs to its condition (also in matching). mask_weight, dice_weight: of its mask.
    background_weight: of queries without an object, in the cross-entropy over categories.
    points: places of a mask that losses and matching look at.
    """

    class_weight: float = 2.0
    mask_weight: float = 5.0
    dice_weight: float = 5.0
    background_weight: float = 0.1
    points: int = 12544


@dataclass(frozen=True, kw_only=True)
class PSALMConfig:
    """Every size of the network; the defaults are the released one: Swin-B with window 12, Phi-1.5, 100 queries.

    image_encoder, language, pixel_decoder, mask_decoder: the parts.
    projector_planes: width inside the projector that turns the coarsest map into language tokens.
    projector_stride: pixels of that map, of stride 32, along each side of a token: 2, or 1 for small inputs.
    input_size: side of the square input, in pixels, a multiple of 32 times ``projector_stride``.
    mean, std: input normalisation, in units of 1.
    keep_probability, keep_overlap: panoptic: a query counts when it is that sure of a class, and when that share of
        its mask is left to it.
    region_sampling: how a region's feature is made: "mean" of all its pixels, the same every time, or of 256 "random"
        ones, as in the official code, which is the other on average.
    threshold: mask probability above which a pixel belongs to the mask, outside panoptic.
    presence_slope, presence_offset: the score of a phrase is sigmoid(slope * s + offset) of the best query's logit s;
        1 and 0 are the official score, others come from ``anygrain calibrate-presence``.
    loss: of training.
    """

    image_encoder: ImageEncoderConfig = field(default_factory=lambda: SwinConfig(window_size=12, drop_path=0.3))
    language: LanguageConfig = field(default_factory=LanguageConfig)
    pixel_decoder: PixelDecoderConfig = field(default_factory=PixelDecoderConfig.psalm)
    mask_decoder: MaskDecoderConfig = field(default_factory=MaskDecoderConfig)
    projector_planes: int = 2048
    projector_stride: int = 2
    input_size: int = 1024
    mean: tuple[float, float, float] = (123.675 / 255, 116.28 / 255, 103.53 / 255)
    std: tuple[float, float, float] = (58.395 / 255, 57.12 / 255, 57.375 / 255)
    keep_probability: float = 0.8
    keep_overlap: float = 0.8
    region_sampling: Literal["mean", "random"] = "mean"
    threshold: float = 0.5
    presence_slope: float = 1.0
    presence_offset: float = 0.0
    loss: LossConfig = field(default_factory=LossConfig)

    def __post_init__(self):
        if self.projector_stride not in (1, 2):
            raise ValueError(f"projector_stride must be 1 or 2, got {self.projector_stride}")
        if self.input_size < 1 or self.input_size % (32 * self.projector_stride):
            raise ValueError(f"input_size must be a multiple of {32 * self.projector_stride}, got {self.input_size}")

    @classmethod
    def released(cls) -> PSALMConfig:
        """What the checkpoint EnmingZhang/PSALM holds: 1,587,057,208 parameters."""
        return cls()

    @property
    def resize(self) -> str:
        """The kind of ``Resize`` that prepares a picture."""
        return "corner"

    @property
    def image_tokens(self) -> int:
        """How many tokens of the language model a picture takes: one for each 64 x 64 pixels (released)."""
        return (self.input_size // (32 * self.projector_stride)) ** 2
