"""UniLSeg: an image and a sentence in, one mask out.

Paper: "Universal Segmentation at Arbitrary Granularity with Language Instruction", arXiv 2312.01623.
Official code: inference only (MIT). It differs from the paper's text; ``UniLSegConfig.released()`` computes what the
released weights were trained with, ``UniLSegConfig.paper()`` what the paper's equations say.

Read from the bottom up: UniLSeg = image encoder + text encoder + PreFusion at each level + vision path
(VisionLanguageBlock at each level, top-down convolutions) + language path + dot product.

Shapes: B images, N prompts (each belongs to one image), L words, C channels, H W map of a level, h w stride-4 map.
Levels k = 1..4 have stride 4, 8, 16, 32.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Discriminator
from torch import Tensor, nn
from torch.nn import functional as F

from anygrain.models.bert import Bert, BertConfig
from anygrain.models.clip_text import CLIPText, CLIPTextConfig
from anygrain.models.convnet import EfficientNetLite, EfficientNetLiteConfig
from anygrain.models.language_path import LanguagePath, LocationPrior
from anygrain.models.layers import (
    Attention,
    FeedForward,
    conv_bn_relu,
    map_size,
    normalise,
    resize_map,
    sine_1d,
    sine_2d,
    to_map,
    to_tokens,
)
from anygrain.models.losses import mask_losses
from anygrain.models.presence import PresenceHead
from anygrain.models.swin import Swin, SwinConfig
from anygrain.models.texts import TextFeatures, Tokenizer, last_real

if TYPE_CHECKING:
    from PIL import Image

    from anygrain.data.batch import Batch
    from anygrain.resize import Resize
    from anygrain.vocabulary import Vocabulary

Four = tuple[int, int, int, int]
ImageEncoderConfig = Annotated[SwinConfig | EfficientNetLiteConfig, Discriminator("kind")]
TextEncoderConfig = Annotated[CLIPTextConfig | BertConfig, Discriminator("kind")]
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, kw_only=True)
class UniLSegConfig:
    """Every size and switch of the network; the defaults are the released one.

    image_encoder, text_encoder: which encoders, with their sizes.
    input_size: side of the square input ("letterbox") or longest side ("fit"), in pixels.
    resize: "letterbox" is the official warp onto a mean-coloured square; "fit" keeps the aspect and antialiases.
    mean, std: input normalisation, in units of 255.
    word_len: text slots, start and end included; longer texts are cut with a warning.
    fused_levels: levels whose features meet the words in pre-fusion.
    block_levels: levels with a vision-language block.
    level_dims: width of each level in the vision path (adapter, block, and the map that goes down to it).
    reductions: attention in a block runs on the map shrunk by this ratio.
    ffn_dim: hidden width of the blocks' feed-forward.
    mask_dim: width of the per-pixel embedding and of the query it is multiplied with.
    query_dim, query_layers, query_ffn_dim: the language path.
    num_heads, fusion_heads: attention heads of the two paths, and of pre-fusion.
    dropout: in the blocks, the language path and pre-fusion, while training.
    norm: "post" is LN(x + f(x)); "inner" is the paper's eq. 5, LN(f(x)) + x, after a block's self-attention.
    language_style: "detr" (self-, cross-attention, feed-forward from a zero target) or the paper's "symmetric" one.
    pre_fusion, vision_path, language_path: the three switches of the paper's Table 8.
    presence: predict whether the thing is there at all (not in the paper).
    location_prior: the query says where in the picture the thing is, see ``LocationPrior`` (not in the paper).
    deep_supervision: a loss on every layer of the language path.
    align_corners: how logits are enlarged to the input size.
    threshold: probability above which a pixel belongs to the mask.
    main_part: a phrase that singles out one thing (``anygrain.phrases``) gets the largest connected part of its mask.
    """

    image_encoder: ImageEncoderConfig = field(default_factory=SwinConfig)
    text_encoder: TextEncoderConfig = field(default_factory=CLIPTextConfig)
    input_size: int = 480
    resize: Literal["letterbox", "fit"] = "letterbox"
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
    word_len: int = 17
    fused_levels: tuple[int, ...] = (1, 2, 3, 4)
    block_levels: tuple[int, ...] = (1, 2, 3, 4)
    level_dims: Four = (512, 512, 512, 512)
    reductions: Four = (8, 4, 2, 1)
    ffn_dim: int = 2048
    mask_dim: int = 256
    query_dim: int = 256
    query_layers: int = 6
    query_ffn_dim: int = 2048
    num_heads: int = 8
    fusion_heads: int = 8
    dropout: float = 0.1
    norm: Literal["post", "inner"] = "post"
    language_style: Literal["detr", "symmetric"] = "detr"
    pre_fusion: bool = True
    vision_path: bool = True
    language_path: bool = True
    presence: bool = False
    location_prior: bool = False
    deep_supervision: bool = True
    align_corners: bool = True
    threshold: float = 0.35
    main_part: bool = False

    @classmethod
    def released(cls) -> UniLSegConfig:
        """What UniLSeg20_no_finetune.pth holds: Swin-B at 480, CLIP ViT-B/16 text."""
        return cls()

    @classmethod
    def paper(cls) -> UniLSegConfig:
        """The paper's text where it differs in what is computed: §3.1 levels, eq. 5, language path, threshold."""
        return cls(fused_levels=(2, 3, 4), norm="inner", language_style="symmetric", threshold=0.5)

    @classmethod
    def nano(cls) -> UniLSegConfig:
        """The shipped small model: EfficientNet-Lite2 and MiniLM, narrow paths, no block at stride 4."""
        return cls(
            image_encoder=EfficientNetLiteConfig(),
            text_encoder=BertConfig(),
            input_size=384,
            resize="fit",
            mean=(127 / 255, 127 / 255, 127 / 255),
            std=(128 / 255, 128 / 255, 128 / 255),
            word_len=32,
            fused_levels=(2, 3, 4),
            block_levels=(2, 3, 4),
            level_dims=(64, 128, 128, 128),
            ffn_dim=256,
            mask_dim=64,
            query_dim=128,
            query_layers=3,
            query_ffn_dim=256,
            num_heads=4,
            fusion_heads=4,
            dropout=0.0,
            presence=True,
            location_prior=True,
            deep_supervision=False,
            align_corners=False,
            threshold=0.5,
            main_part=True,
        )

    def ablation(self, *, pre_fusion: bool, vision_path: bool, language_path: bool) -> UniLSegConfig:
        """A row of Table 8."""
        return replace(self, pre_fusion=pre_fusion, vision_path=vision_path, language_path=language_path)


class DecoderOutput(NamedTuple):
    """mask_logits [N, h, w]; presence_logits [N] or None; aux_logits: the same map from each earlier layer."""

    mask_logits: Tensor
    presence_logits: Tensor | None
    aux_logits: tuple[Tensor, ...] = ()


def of_images(tensor: Tensor, image_index: Tensor) -> Tensor:
    """Rows of a per-image tensor [B, ...] for each prompt [N, ...], without a copy when there is one image."""
    if tensor.shape[0] == 1:
        return tensor.expand(image_index.shape[0], *tensor.shape[1:])  # len() would fix it when traced
    return tensor[image_index]


class PreFusion(nn.Module):
    """Visual queries look at the words (paper §3.1, eq. 1): f = v + MHA(v + position, words, words)."""

    def __init__(self, channels: int, text_dim: int, config: UniLSegConfig):
        super().__init__()
        self.proj = nn.Linear(text_dim, channels)
        self.attn = Attention(channels, config.fusion_heads, config.dropout)

    def forward(self, visual: Tensor, text: TextFeatures, image_index: Tensor) -> Tensor:
        """visual [B, C, H, W] -> [N, C, H, W]."""
        size = map_size(visual)
        q = to_tokens(visual) + sine_2d(visual.shape[1], *size, visual.device)
        words = self.proj(text.words)
        found = self.attn.look_up(of_images(q, image_index), words, words, text.real)
        return of_images(visual, image_index) + to_map(found, size)


class VisionLanguageBlock(nn.Module):
    """One level of the vision path (paper §3.2, eqs. 2-5): attention over pixels and words, then pixels to words."""

    def __init__(self, dim: int, reduction: int, text_dim: int, config: UniLSegConfig):
        super().__init__()
        self.reduction, self.word_len, self.inner_norm = reduction, config.word_len, config.norm == "inner"
        self.word_proj = nn.Identity() if text_dim == dim else nn.Linear(text_dim, dim)
        self.self_attn = Attention(dim, config.num_heads, config.dropout)
        self.cross_attn = Attention(dim, config.num_heads, config.dropout)
        self.ffn = FeedForward(dim, config.ffn_dim, config.dropout)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(dim) for _ in range(3))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, visual: Tensor, text: TextFeatures) -> Tensor:
        """visual [N, C, H, W] -> [N, C, H, W]."""
        size = map_size(visual)
        words = self.word_proj(text.words)  # [N, L, C]
        x = to_tokens(visual)  # [N, HW, C]
        position = sine_2d(visual.shape[1], *size, visual.device)
        mixed = self.dropout(self._self_attention(visual, words, text.real))
        x = self.norm1(mixed) + x if self.inner_norm else self.norm1(x + mixed)
        word_position = sine_1d(words.shape[-1], self.word_len, words.device)[: words.shape[1]]
        x = self.norm2(x + self.dropout(self.cross_attn.look_up(x + position, words + word_position, words, text.real)))
        x = self.norm3(x + self.dropout(self.ffn(x)))
        return to_map(x, size)

    def _self_attention(self, visual: Tensor, words: Tensor, real: Tensor) -> Tensor:
        """Pixels (shrunk) attend to pixels and words; only the pixels' rows are used, so only they are queries."""
        size = map_size(visual)
        small = (size[0] // self.reduction, size[1] // self.reduction)
        if min(small) < 1:
            raise ValueError(f"a map of {size[0]}x{size[1]} is too small to shrink by {self.reduction}")
        position = sine_2d(visual.shape[1], *size, visual.device)
        # The position is added before shrinking, and to queries and keys only.
        keyed = to_tokens(resize_map(visual + to_map(position[None], size), small))
        plain = to_tokens(resize_map(visual, small))
        allowed = torch.cat([real.new_ones(real.shape[0], plain.shape[1]), real], 1)
        out = self.self_attn(keyed, torch.cat([keyed, words], 1), torch.cat([plain, words], 1), allowed)
        return to_tokens(resize_map(to_map(out, small), size))


class UniLSeg(nn.Module):
    """The whole network. Encode an image once with ``encode_image``, then ``decode`` it with any number of texts."""

    architecture: ClassVar[str] = "unilseg"
    accepts = frozenset({"text"})

    def __init__(self, config: UniLSegConfig, tokenizer: Tokenizer | None = None):
        super().__init__()
        self.config = config
        image, text = config.image_encoder, config.text_encoder
        self.image_encoder = Swin(image) if isinstance(image, SwinConfig) else EfficientNetLite(image)
        self.text_encoder = CLIPText(text) if isinstance(text, CLIPTextConfig) else Bert(text)
        self.tokenizer = tokenizer
        self.vocabulary: Vocabulary | None = None
        channels, dims, words = image.channels, config.level_dims, self.text_encoder.width
        fused = config.fused_levels if config.pre_fusion else ()
        blocks = config.block_levels if config.vision_path else ()
        self.pre_fusion = nn.ModuleDict({str(k): PreFusion(channels[k - 1], words, config) for k in fused})
        self.adapters = nn.ModuleDict({str(k): conv_bn_relu(channels[k - 1], dims[k - 1], 1) for k in range(1, 5)})
        self.blocks = nn.ModuleDict(
            {str(k): VisionLanguageBlock(dims[k - 1], config.reductions[k - 1], words, config) for k in blocks}
        )
        self.top_down = nn.ModuleDict({str(k): conv_bn_relu(dims[k - 1], dims[max(k - 2, 0)], 3) for k in range(1, 5)})
        self.mask_features = conv_bn_relu(dims[0], config.mask_dim, 3)
        self.language_path = LanguagePath(channels[3], self.text_encoder.sentence_dim, config)
        same = config.query_dim == config.mask_dim
        self.query_proj = nn.Identity() if same else nn.Linear(config.query_dim, config.mask_dim)
        self.location_prior = LocationPrior(config.query_dim) if config.location_prior else None
        self.presence_head = PresenceHead(config.query_dim, config.mask_dim) if config.presence else None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.language_path.norm.weight.device

    def make_resize(self, size: tuple[int, int]) -> Resize:
        """How an image of (height, width) is brought to the input, and back."""
        from anygrain.resize import Resize

        if self.config.resize == "letterbox":
            return Resize.letterbox(size, self.config.input_size)
        return Resize.fit(size, self.config.input_size)

    def prepare(self, images: Sequence[Image.Image], resizes: Sequence[Resize]) -> Tensor:
        """RGB images, which ``resizes`` bring to one canvas -> pixels [B, 3, H, W]."""
        return self.normalise(np.stack([resize.image(image) for image, resize in zip(images, resizes, strict=True)]))

    def normalise(self, images: np.ndarray) -> Tensor:
        """uint8 [B, H, W, 3] -> pixels float32 [B, 3, H, W] on the model's device."""
        return normalise(images, self.config.mean, self.config.std, self.device)

    def encode_image(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """pixels [B, 3, H, W] -> four maps [B, C_k, H_k, W_k] at strides 4, 8, 16, 32."""
        return self.image_encoder(pixels)

    def encode_text(self, texts: Sequence[str]) -> TextFeatures:
        """Tokenise and encode N texts. Warns, naming what was cut, when a text is longer than ``word_len`` tokens."""
        if self.tokenizer is None:
            raise ValueError("this model was built without a tokenizer: load it with anygrain.load, or give token ids")
        length = self.config.word_len
        for text in texts:
            if rest := self.tokenizer.cut(text, length):
                warnings.warn(f"'{text}' is longer than the model's {length} tokens; ignored: '{rest}'", stacklevel=2)
        return self.encode_tokens(self.tokenizer(texts, length).to(self.device))

    def encode_tokens(self, ids: Tensor) -> TextFeatures:
        """Token ids int64 [N, L] -> features. Id 0 is padding wherever it stands, as in the official code."""
        real = ids != 0
        words, sentence = self.text_encoder(ids[:, : last_real(real)])
        return TextFeatures(F.pad(words, (0, 0, 0, ids.shape[1] - words.shape[1])), real, sentence)

    def decode(self, features: tuple[Tensor, ...], text: TextFeatures, image_index: Tensor) -> DecoderOutput:
        """Masks of N prompts; ``image_index`` int64 [N] names each prompt's image among the B of ``features``."""
        if not torch.compiler.is_compiling():  # in a traced graph the length would have to be a constant
            text = text.select(slice(None))
        y, fused = None, None
        for level in (4, 3, 2, 1):
            key, visual = str(level), features[level - 1]
            if key in self.pre_fusion:
                here = self.pre_fusion[key](visual, text, image_index)
                fused = here if level == 4 else fused
                b = self.adapters[key](here)
            else:
                b = of_images(self.adapters[key](visual), image_index)
            if key in self.blocks:
                b = self.blocks[key](b, text)
            y = self.top_down[key](b if y is None else b + resize_map(y, map_size(b)))
        pixel_embedding = self.mask_features(y)  # [N, C, h, w], >= 0
        looked_at = of_images(features[3], image_index) if fused is None else fused
        queries, prompt = self.language_path(looked_at, text.sentence)
        if not (self.training and self.config.deep_supervision):
            queries = queries[-1:]
        logits = [torch.einsum("nc,nchw->nhw", self.query_proj(q), pixel_embedding) for q in queries]
        if self.location_prior is not None:
            size = map_size(pixel_embedding)
            logits = [row + self.location_prior(q, prompt, size) for row, q in zip(logits, queries, strict=True)]
        presence = None
        if self.presence_head is not None:
            presence = self.presence_head(queries[-1], pixel_embedding, logits[-1])
        return DecoderOutput(logits[-1], presence, tuple(logits[:-1]))

    def bytes_per_prompt(self, features: Sequence[Tensor]) -> int:
        """What decoding one more prompt takes at most: eight maps at the widest level (measured)."""
        sizes = zip(features, self.config.level_dims, strict=True)
        return 4 * 8 * max(width * feature_map.shape[-2] * feature_map.shape[-1] for feature_map, width in sizes)

    def forward(self, pixels: Tensor, ids: Tensor) -> DecoderOutput:
        """One prompt an image: pixels [B, 3, H, W], ids [B, L]."""
        index = torch.arange(len(ids), device=pixels.device)
        return self.decode(self.encode_image(pixels), self.encode_tokens(ids), index)

    def enlarge(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """mask_logits [N, h, w] -> [N, *size], bilinear."""
        return F.interpolate(logits[:, None], size, mode="bilinear", align_corners=self.config.align_corners)[:, 0]

    def probabilities(self, logits: Tensor, resize: Resize) -> np.ndarray:
        """mask_logits [N, h, w] -> float32 [N, H, W] in the photograph's own size.

        "letterbox": sigmoid at the input size, then the official inverse warp (bicubic, so slightly outside 0..1).
        "fit": logits enlarged in one step, then sigmoid.
        """
        maps = resize.maps_back(self._maps(logits, resize))
        return maps if self.config.resize == "letterbox" else torch.from_numpy(maps).sigmoid_().numpy()

    def masks(self, logits: Tensor, resize: Resize, threshold: float) -> np.ndarray:
        """``probabilities(logits, resize) > threshold`` as bool [N, H, W], in a fraction of the time."""
        if self.config.resize == "fit":
            threshold = math.log(threshold / (1 - threshold))  # of a logit
        return resize.masks_back(self._maps(logits, resize), threshold)

    def _maps(self, logits: Tensor, resize: Resize) -> np.ndarray:
        """What goes back to the photograph's size: probabilities ("letterbox") or logits ("fit")."""
        if self.config.resize == "letterbox":
            logits = self.enlarge(logits.float(), resize.canvas).sigmoid()
        return logits.float().cpu().numpy()

    def loss(self, output: DecoderOutput, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy + Dice on the mask at input size (paper §4.1), and presence where it is predicted."""
        size = (batch.targets.shape[-2], batch.targets.shape[-1])
        layers = [
            mask_losses(self.enlarge(logits.float(), size), batch.targets, batch.boxed)
            for logits in (*output.aux_logits, output.mask_logits)
        ]
        losses = {name: torch.stack([layer[name] for layer in layers]).mean() for name in layers[0]}
        if output.presence_logits is not None:
            logits = output.presence_logits.float()
            losses["presence"] = F.binary_cross_entropy_with_logits(logits, batch.present.to(logits.dtype))
        return losses
