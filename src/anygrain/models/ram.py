"""RAM, the Recognize Anything Model: an image in, a probability for each of thousands of tags out.

Paper: "Recognize Anything: A Strong Image Tagging Model", arXiv 2306.03514.
Official code: Apache-2.0. This is its tagging half, for inference; the captioning half of the released file, which only
training uses, is left out.

RAM = Swin, whose tokens and their mean are what is looked at + one query for each tag, from the text embedding of its
name + two layers in which the queries look at the image + one linear score that all tags share. Tags do not see each
other.

Shapes: B images, K image tokens (the mean first), T tags, C width of the tag decoder, D width of the tag embeddings.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from anygrain.models.layers import normalise, to_tokens
from anygrain.models.swin import Swin, SwinConfig

if TYPE_CHECKING:
    from anygrain.models.tags import TagList

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class RAMConfig:
    """Sizes of the network; the defaults are those of the released ``ram_swin_large_14m.pth``."""

    image_encoder: SwinConfig = field(
        default_factory=lambda: replace(SwinConfig.large(), shift_single_window=False, out_levels=(4,))
    )
    """Swin-L as for classification: only the last level is given out, and its single window is not shifted."""
    input_size: int = 384
    """Side of the square that every image is squashed to, in pixels."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Of red, green and blue in 0..1."""
    std: tuple[float, float, float] = IMAGENET_STD
    """Of red, green and blue in 0..1."""
    num_tags: int = 4585
    """Rows of the table of tag embeddings."""
    text_dim: int = 512
    """Width of the tag embeddings, which are CLIP ViT-B/16's, and of the projected image tokens."""
    hidden_dim: int = 768
    """Width of the tag decoder."""
    num_heads: int = 4
    """Attention heads of the tag decoder."""
    num_layers: int = 2
    """Layers of the tag decoder."""
    ffn_dim: int = 3072
    """Hidden width of its feed-forward."""

    @classmethod
    def released(cls) -> RAMConfig:
        """What ``ram_swin_large_14m.pth`` holds."""
        return cls()


class TagDecoderLayer(nn.Module):
    """BERT's post-norm layer with cross-attention in the place of self-attention (official ``tagging_head``)."""

    def __init__(self, config: RAMConfig):
        super().__init__()
        width, self.num_heads = config.hidden_dim, config.num_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(config.text_dim, width)
        self.value = nn.Linear(config.text_dim, width)
        self.attention_output = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width, eps=1e-12)
        self.intermediate = nn.Linear(width, config.ffn_dim)
        self.output = nn.Linear(config.ffn_dim, width)
        self.output_norm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        """Tags x [B or 1, T, C] look at image tokens [B, K, D] -> [B, T, C]."""
        q, k, v = (
            tokens.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for tokens in (self.query(x), self.key(image), self.value(image))
        )
        q = q.expand(k.shape[0], -1, -1, -1)  # one row stands for all images: its projection was made once
        found = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = self.attention_norm(x + self.attention_output(found))
        return self.output_norm(x + self.output(F.gelu(self.intermediate(x))))


class RAM(nn.Module):
    """The whole network. ``tag_queries`` once a model, ``encode_image`` and ``decode`` once a batch of images."""

    architecture: ClassVar[str] = "ram"

    def __init__(self, config: RAMConfig):
        super().__init__()
        self.config = config
        self.tags: TagList | None = None
        self.image_encoder = Swin(config.image_encoder)
        self.image_proj = nn.Linear(config.image_encoder.channels[3], config.text_dim)
        self.label_embed = nn.Parameter(torch.zeros(config.num_tags, config.text_dim))
        self.label_proj = nn.Linear(config.text_dim, config.hidden_dim)
        self.layers = nn.ModuleList(TagDecoderLayer(config) for _ in range(config.num_layers))
        self.head = nn.Linear(config.hidden_dim, 1)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.label_embed.device

    def squash(self, image: Image.Image) -> np.ndarray:
        """A picture of any size and mode -> uint8 [S, S, 3], S = ``input_size``; its aspect ratio is not kept.

        Antialiased bilinear, columns before rows whatever the order Pillow prefers (from 13 on it is another one for
        tall pictures). As in the official code transparency is dropped, not laid over a colour.
        """
        side = self.config.input_size
        image = image.convert("RGB").resize((side, image.height), Image.Resampling.BILINEAR)
        return np.array(image.resize((side, side), Image.Resampling.BILINEAR))

    def normalise(self, images: np.ndarray) -> Tensor:
        """uint8 [B, S, S, 3] -> pixels float32 [B, 3, S, S] on the model's device."""
        return normalise(images, self.config.mean, self.config.std, self.device)

    def encode_image(self, pixels: Tensor) -> Tensor:
        """pixels [B, 3, S, S] -> image tokens [B, K, D]: the mean token, then the last map's, row by row.

        Raises ValueError for another size than the model's: it was trained on whole windows of this one.
        """
        side = self.config.input_size
        if pixels.shape[1:] != (3, side, side):
            raise ValueError(f"pixels must be [B, 3, {side}, {side}], got {list(pixels.shape)}")
        tokens = to_tokens(self.image_encoder(pixels)[-1])
        return self.image_proj(torch.cat([tokens.mean(1, keepdim=True), tokens], 1))

    def tag_queries(self) -> Tensor:
        """What the tags begin with, [1, T, C]: the same for every image."""
        return F.relu(self.label_proj(self.label_embed))[None]

    def decode(self, image: Tensor, queries: Tensor) -> Tensor:
        """Image tokens [B, K, D] and ``tag_queries()`` -> logits [B, T]."""
        x = queries
        for layer in self.layers:
            x = layer(x, image)
        return self.head(x)[..., 0]

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels [B, 3, S, S] -> logits [B, T]; the sigmoid of each is that tag's probability."""
        return self.decode(self.encode_image(pixels), self.tag_queries())
