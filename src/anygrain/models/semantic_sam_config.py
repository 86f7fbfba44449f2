"""Sizes and switches of Semantic-SAM, and which of its masks are called part, object and scene."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Discriminator

from anygrain.models.bert import BertConfig
from anygrain.models.clip_text import CLIPTextConfig
from anygrain.models.convnet import EfficientNetLiteConfig
from anygrain.models.pixel_decoder import PixelDecoderConfig
from anygrain.models.semantic_sam_loss import PromptLossConfig
from anygrain.models.swin import SwinConfig

ImageEncoderConfig = Annotated[SwinConfig | EfficientNetLiteConfig, Discriminator("kind")]
TextEncoderConfig = Annotated[CLIPTextConfig | BertConfig | None, Discriminator("kind")]
IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@dataclass(frozen=True, kw_only=True)
class SemanticSAMConfig:
    """Every size and switch of the network; the defaults are those of the released Swin-T.

    image_encoder, text_encoder: which encoders, with their sizes; None where nothing can be named, as released.
    pixel_decoder: sizes of the pixel decoder; its ``hidden_dim`` is the decoder's.
    input_size: shortest side ("short") or longest side ("fit") of the input, in pixels.
    resize: which of the two.
    longest: limit of the longest side with "short". The official code has none, and then a panorama fills the memory.
    mean, std: input normalisation, of values in 0..255. The margin is added after it, as zeros.
    num_tokens: masks of a prompt.
    num_layers, num_heads, num_points, ffn_dim: the decoder.
    click_size: side of the box that stands for a click, over the side of the image.
    click_type, box_type: rows of the table of prompt types. The released training used row 1 for clicks, every released
        inference row 0, and no box was ever trained.
    levels: the token of each granularity level 1, 2, ... from large to small. A property of the weights: the order
        emerges in training (`anygrain calibrate-levels`); the default is that of the released ones.
    scene, object, part: the levels that these words mean.
    threshold: probability above which a pixel belongs to the mask.
    word_len: text slots of a name, start and end included.
    templates: name each thing in 81 sentences and take the mean (CLIP's way), or once, by the bare name.
    loss: how it is trained.
    """

    image_encoder: ImageEncoderConfig = field(
        default_factory=lambda: SwinConfig(embed_dim=96, depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24), drop_path=0.3)
    )
    text_encoder: TextEncoderConfig = None
    pixel_decoder: PixelDecoderConfig = field(default_factory=PixelDecoderConfig)
    input_size: int = 640
    resize: Literal["short", "fit"] = "short"
    longest: int = 2560
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    num_tokens: int = 6
    num_layers: int = 9
    num_heads: int = 8
    num_points: int = 4
    ffn_dim: int = 2048
    click_size: float = 0.005
    click_type: int = 0
    box_type: int = 0
    levels: tuple[int, ...] = (3, 2, 0, 4, 1, 5)
    scene: tuple[int, ...] = (1, 2)
    object: tuple[int, ...] = (3,)
    part: tuple[int, ...] = (4, 5, 6)
    threshold: float = 0.5
    word_len: int = 18
    templates: bool = True
    loss: PromptLossConfig = field(default_factory=PromptLossConfig)

    def __post_init__(self):
        if sorted(self.levels) != list(range(self.num_tokens)):
            raise ValueError(f"levels must name each of the {self.num_tokens} tokens once, got {list(self.levels)}")
        named = sorted([*self.scene, *self.object, *self.part])
        if named != list(range(1, self.num_tokens + 1)):
            raise ValueError(f"scene, object and part must share the levels 1 to {self.num_tokens}, got {named}")

    def levels_of(self, granularity: str | int | None) -> tuple[int, ...]:
        """The levels that a prompt's granularity means: "all" or None for all of them, a word, or a number.

        Raises ValueError for any other.
        """
        words = {"all": tuple(range(1, self.num_tokens + 1)), "scene": self.scene, "object": self.object}
        words["part"] = self.part
        if granularity is None:
            return words["all"]
        if granularity in words:
            return words[str(granularity)]
        number = int(granularity) if str(granularity).isdecimal() else 0
        if number not in words["all"]:
            raise ValueError(
                f"granularity must be all, part, object, scene or a level from 1 to {self.num_tokens}, "
                f"got {granularity!r}"
            )
        return (number,)

    def granularity_of(self, level: int) -> str:
        """The word of a level: "scene", "object" or "part"."""
        return "scene" if level in self.scene else "object" if level in self.object else "part"

    @classmethod
    def released_tiny(cls) -> SemanticSAMConfig:
        """swint_only_sam_many2many.pth."""
        return cls()

    @classmethod
    def released_large(cls) -> SemanticSAMConfig:
        """swinl_only_sam_many2many.pth."""
        large = SwinConfig(embed_dim=192, num_heads=(6, 12, 24, 48), window_size=12, drop_path=0.3)
        return cls(image_encoder=large)
