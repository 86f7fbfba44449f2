"""Semantic-SAM: a click or a box in, six masks of ordered granularity out, with names for objects and parts.

Paper: Li et al., "Semantic-SAM: Segment and Recognize Anything at Any Granularity", arXiv 2307.04767. Written from a
study of what the released code computes (docs/semantic_sam.md); ``SemanticSAMConfig.released_tiny()`` and
``released_large()`` are the networks of the released weights.

Read from the bottom up: SemanticSAM = image encoder + pixel decoder + nine decoder layers, shared by all prompts of an
image, + heads for box, mask, predicted IoU and, with a text encoder, object and part names.

Shapes: B images, N prompts (each belongs to one image), T tokens of a prompt (6), C channels, E text channels, K names,
S places of all memory levels together, H W map at stride 4. Boxes are (cx, cy, w, h) in 0..1 of the padded input.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anygrain.models.bert import Bert
from anygrain.models.clip_text import CLIPText, CLIPTextConfig
from anygrain.models.convnet import EfficientNetLite
from anygrain.models.layers import MLP, Attention, FeedForward, map_size, sine, to_tokens
from anygrain.models.pixel_decoder import DeformableAttention, PixelDecoder
from anygrain.models.semantic_sam_config import SemanticSAMConfig
from anygrain.models.semantic_sam_loss import Answers, Targets, prompt_losses
from anygrain.models.swin import Swin, SwinConfig
from anygrain.models.texts import Tokenizer, last_real
from anygrain.types import Size

if TYPE_CHECKING:
    from PIL import Image

    from anygrain.resize import Resize
    from anygrain.vocabulary import Vocabulary

_EPS = 1e-5  # of the inverse sigmoid


class Prompts(NamedTuple):
    """N questions to the network.

    boxes: float32 [N, 4]. types: int64 [N], rows of the table of prompt types. image_index: int64 [N], the image of
    each of the N among the B.
    """

    boxes: Tensor
    types: Tensor
    image_index: Tensor


class LayerOutput(NamedTuple):
    """What one decoder layer predicts.

    states: normed tokens [N, T, C], which names are told from.
    mask_embeds: [N, T, mask_dim]; times the pixel embeddings they are mask logits, see ``SemanticSAM.mask_logits``.
    predicted_iou: [N, T]; regresses 1 - Dice loss, not limited to 0..1.
    boxes: [N, T, 4].
    """

    states: Tensor
    mask_embeds: Tensor
    predicted_iou: Tensor
    boxes: Tensor


class NameVectors(NamedTuple):
    """Unit vectors of texts, [K, E]."""

    vectors: Tensor


class TrainingOutput(NamedTuple):
    """mask_features: [B, mask_dim, H, W]. layers: of all decoder layers, first layer first. names: [O, E], or None."""

    mask_features: Tensor
    layers: tuple[LayerOutput, ...]
    names: Tensor | None = None


class DecoderLayer(nn.Module):
    """Self-attention of tokens, deformable cross-attention to the memory, feed-forward; post-norm."""

    def __init__(self, config: SemanticSAMConfig):
        super().__init__()
        dim, levels = config.pixel_decoder.hidden_dim, config.pixel_decoder.num_levels
        self.self_attn = Attention(dim, config.num_heads)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn = DeformableAttention(dim, config.num_heads, levels, config.num_points)
        self.norm2 = nn.LayerNorm(dim)
        self.ffn = FeedForward(dim, config.ffn_dim)
        self.norm3 = nn.LayerNorm(dim)

    def project_value(self, memory: Tensor) -> Tensor:
        """Memory [B, S, C] as this layer looks it up [B, S, C]."""
        return self.cross_attn.project_value(memory)

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        reference: Tensor,
        value: Tensor,
        sizes: Sequence[Size],
        image_index: Tensor,
        joint: bool,
    ) -> Tensor:
        """tokens and positions [N, T, C], reference boxes [N, T, 4], value [B, S, C] -> [N, T, C]."""
        keys, plain = tokens + positions, tokens
        if joint:  # all tokens of all prompts look at each other
            keys, plain = keys.flatten(0, 1)[None], plain.flatten(0, 1)[None]
        tokens = self.norm1(tokens + self.self_attn(keys, keys, plain).view(tokens.shape))
        found = self.cross_attn(tokens + positions, reference, value, sizes, image_index)
        tokens = self.norm2(tokens + found)
        return self.norm3(tokens + self.ffn(tokens))


class SemanticSAM(nn.Module):
    """The whole network. Encode an image once with ``encode_image``, then ``decode`` it with any number of prompts."""

    architecture: ClassVar[str] = "semantic_sam"

    def __init__(self, config: SemanticSAMConfig, tokenizer: Tokenizer | None = None):
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.vocabulary: Vocabulary | None = None
        image, text = config.image_encoder, config.text_encoder
        dim = config.pixel_decoder.hidden_dim
        self.image_encoder = Swin(image) if isinstance(image, SwinConfig) else EfficientNetLite(image)
        self.pixel_decoder = PixelDecoder(config.pixel_decoder, image.channels)
        self.content = nn.Embedding(2, dim)  # official label_enc; its second row is never used
        self.prompt_types = nn.Embedding(2, dim)  # official pb_embedding
        self.mask_tokens = nn.Embedding(config.num_tokens, dim)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.num_layers))
        self.position_head = MLP(2 * dim, dim, dim, 2)  # official ref_point_head
        self.norm = nn.LayerNorm(dim)
        self.box_head = MLP(dim, dim, 4, 3)
        self.mask_head = MLP(dim, dim, config.pixel_decoder.mask_dim, 3)
        self.iou_head = MLP(dim, dim, 1, 3)
        for parameter in self.box_head.layers[-1].parameters():  # at first the reference stays where the prompt is
            nn.init.zeros_(parameter)
        self.text_encoder: CLIPText | Bert | None = None
        if text is not None:
            self.text_encoder = CLIPText(text) if isinstance(text, CLIPTextConfig) else Bert(text)
            width = self.text_encoder.sentence_dim
            self.object_projection = nn.Parameter(torch.empty(dim, width))  # official class_embed
            self.part_projection = nn.Parameter(torch.empty(dim, width))  # official class_embed_part
            self.logit_scale = nn.Parameter(torch.ones(()))
            for projection in (self.object_projection, self.part_projection):
                nn.init.trunc_normal_(projection, std=0.02)

    @property
    def _layers(self) -> list[DecoderLayer]:
        return [layer for layer in self.layers if isinstance(layer, DecoderLayer)]

    @property
    def accepts(self) -> frozenset[str]:
        """Kinds of prompt; names only with a text encoder."""
        return frozenset({"points", "box"} | ({"categories"} if self.config.text_encoder else set()))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.norm.weight.device

    # ------------------------------------------------------------------------------------------------ image

    def make_resize(self, size: Size) -> Resize:
        """How an image of (height, width) is brought to the input, and back."""
        from anygrain.resize import Resize

        if self.config.resize == "short":
            return Resize.short(size, self.config.input_size, self.config.longest)
        return Resize.fit(size, self.config.input_size)

    def prepare(self, images: Sequence[Image.Image], resizes: Sequence[Resize]) -> Tensor:
        """RGB images, which ``resizes`` bring to one canvas -> pixels [B, 3, H, W], zeros in the margin."""
        arrays = np.stack([resize.image(image) for image, resize in zip(images, resizes, strict=True)])
        return self.normalise(arrays, [resize.content for resize in resizes])

    def normalise(self, images: np.ndarray, contents: Sequence[Size] | None = None) -> Tensor:
        """uint8 [B, H, W, 3] -> pixels float32 [B, 3, H, W] on the model's device.

        contents: (height, width) of each picture on its canvas; what is outside becomes 0, the mean colour. None where
            the pictures fill it.
        """
        pixels = torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2).float()
        mean, std = (torch.tensor(v, device=self.device)[:, None, None] for v in (self.config.mean, self.config.std))
        pixels = (pixels - mean) / std
        for row, (height, width) in zip(pixels, contents or (), strict=False):
            row[:, height:] = 0
            row[:, :, width:] = 0
        return pixels

    def encode_image(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """pixels [B, 3, H, W] -> pixel embeddings [B, mask_dim, H/4, W/4] and values [B, layers, S, C].

        The values are the memory as each decoder layer looks it up: they depend on the image only, so they are made
        once for all prompts. The memory's levels stand from coarse to fine.
        """
        mask_features, levels = self.pixel_decoder(self.image_encoder(pixels))
        if self.config.pixel_decoder.order == "fine_to_coarse":
            levels = levels[::-1]
        memory = torch.cat([to_tokens(level) for level in levels], 1)
        return mask_features, torch.stack([layer.project_value(memory) for layer in self._layers], 1)

    def memory_sizes(self, mask_features: Tensor) -> list[Size]:
        """(H, W) of the memory's levels from coarse to fine: each is half of the next, rounded up."""
        sizes, (height, width) = [], map_size(mask_features)
        for _ in range(self.config.pixel_decoder.num_levels):
            height, width = -(-height // 2), -(-width // 2)
            sizes.append((height, width))
        return sizes[::-1]

    # ------------------------------------------------------------------------------------------------ prompts

    def decode(
        self, features: Sequence[Tensor], prompts: Prompts, *, joint: bool = False, all_layers: bool = False
    ) -> tuple[LayerOutput, ...]:
        """What N prompts give, of the last layer or of all layers, first layer first.

        features: of ``encode_image``.
        joint: prompts look at each other, as in the official demo, so that results depend on what else is asked at the
            same time; all must be of one image. By default only the tokens of a prompt look at each other, as in the
            official training and evaluation.
        """
        if joint and len(prompts.image_index.unique()) > 1:
            raise ValueError("prompts that see each other must be of one image: decode one image after the other")
        mask_features, values = features
        sizes = self.memory_sizes(mask_features)
        tokens = self.content.weight[0] + self.prompt_types(prompts.types)  # [N, C]
        tokens = tokens[:, None] + self.mask_tokens.weight  # [N, T, C]
        reference = inverse_sigmoid(prompts.boxes).sigmoid()[:, None].expand(-1, self.config.num_tokens, -1)
        attached = reference  # the same numbers, with the gradient to the layer before
        outputs = []
        for number, layer in enumerate(self._layers):
            positions = self.position_head(self._sine_box(reference))
            tokens = layer(tokens, positions, reference, values[:, number], sizes, prompts.image_index, joint)
            last = number == self.config.num_layers - 1
            if all_layers or last:
                outputs.append(self._predict(tokens, attached))
            if not last:
                # The next reference is refined from tokens that were not normed, the box from normed ones.
                attached = (self.box_head(tokens) + inverse_sigmoid(reference)).sigmoid()
                reference = attached.detach()
        return tuple(outputs)

    def _predict(self, tokens: Tensor, reference: Tensor) -> LayerOutput:
        states = self.norm(self.norm(tokens))  # twice, as the released network was trained
        boxes = (self.box_head(states) + inverse_sigmoid(reference)).sigmoid()
        return LayerOutput(states, self.mask_head(states), self.iou_head(states)[..., 0], boxes)

    def _sine_box(self, boxes: Tensor) -> Tensor:
        """Boxes [N, T, 4] -> [N, T, 2 C]: sine features of y, x, w and h, in this order."""
        table = sine(boxes[..., [1, 0, 2, 3]] * (2 * math.pi), self.config.pixel_decoder.hidden_dim // 2)
        return table.flatten(-2)

    def forward(self, pixels: Tensor, prompts: Prompts) -> tuple[Tensor, tuple[LayerOutput, ...]]:
        """For training: pixel embeddings [B, mask_dim, H, W] and the outputs of all layers, first layer first."""
        features = self.encode_image(pixels)
        return features[0], self.decode(features, prompts, all_layers=True)

    def mask_logits(self, mask_embeds: Tensor, mask_features: Tensor) -> Tensor:
        """Mask embeddings [M, mask_dim] of one image, pixel embeddings [1, mask_dim, H, W] -> [M, H, W]."""
        return torch.einsum("mc,chw->mhw", mask_embeds.float(), mask_features[0].float())

    def probabilities(self, logits: Tensor, resize: Resize) -> np.ndarray:
        """Mask logits [N, h, w] -> float32 [N, H, W] in the photograph's own size, enlarged in one step."""
        maps = resize.maps_back(logits.float().cpu().numpy())
        return torch.from_numpy(maps).sigmoid_().numpy()

    def clicks(self, points: np.ndarray, resize: Resize) -> tuple[Tensor, Tensor]:
        """Clicks (x, y) [N, 2] in pixels of the photo -> boxes [N, 4] and types [N] for ``Prompts``."""
        height, width = resize.canvas
        centre = resize.points(points) / (width, height)
        side = np.array([resize.content[1] / width, resize.content[0] / height]) * self.config.click_size
        boxes = np.concatenate([centre, np.broadcast_to(side, centre.shape)], 1)
        return self._on_device(boxes, self.config.click_type)

    def boxes(self, boxes: np.ndarray, resize: Resize) -> tuple[Tensor, Tensor]:
        """Boxes (x0, y0, x1, y1) [N, 4] in pixels of the photo -> boxes [N, 4] and types [N] for ``Prompts``."""
        height, width = resize.canvas
        corners = resize.boxes(boxes) / (width, height, width, height)
        centred = np.concatenate([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], 1)
        return self._on_device(centred, self.config.box_type)

    def _on_device(self, boxes: np.ndarray, prompt_type: int) -> tuple[Tensor, Tensor]:
        types = torch.full((len(boxes),), prompt_type, device=self.device)
        return torch.from_numpy(boxes).float().to(self.device), types

    def bytes_per_prompt(self, features: Sequence[Tensor]) -> int:
        """What decoding one more prompt takes at most: its masks at stride 4 twice over, and a megabyte."""
        height, width = map_size(features[0])
        return 2**20 + 2 * 4 * self.config.num_tokens * height * width

    # ------------------------------------------------------------------------------------------------ training

    def loss(self, output: TrainingOutput, batch: Targets) -> dict[str, Tensor]:
        """Weighted losses by kind; their sum is minimised. See ``semantic_sam_loss``."""
        objects = batch.object_labels.shape[1]  # the first of the names
        layers = []
        for layer in output.layers:
            answers = Answers(layer)
            if output.names is not None:
                states, names = layer.states.float(), output.names.float()
                logits = self.object_logits(states, names[:objects]), self.part_logits(states, names[objects:])
                answers = Answers(layer, *logits)
            layers.append(answers)
        return prompt_losses(layers, output.mask_features, batch, self.config.loss)

    # ------------------------------------------------------------------------------------------------ names

    def encode_text(self, texts: Sequence[str]) -> NameVectors:
        """K names or sentences, said as they are -> unit vectors [K, E]. Raises ValueError as ``encode_names`` does."""
        return NameVectors(self.encode_tokens(self._tokenizer()(texts, self.config.word_len).to(self.device)))

    def encode_tokens(self, ids: Tensor) -> Tensor:
        """Token ids int64 [N, L] -> unit vectors [N, E]. Raises ValueError for a model without a text encoder."""
        if self.text_encoder is None:
            raise ValueError("this model has no text encoder, so it cannot name what it finds")
        sentence = self.text_encoder(ids[:, : last_real(ids != 0)])[1]
        return unit(sentence)

    def encode_names(self, names: Sequence[str]) -> Tensor:
        """K names -> unit vectors [K, E], each the mean over the sentences of ``templates`` that say it.

        Warns, naming what was cut, when a name by itself is longer than ``word_len`` tokens.
        """
        from anygrain.models.templates import TEMPLATES

        tokenizer, length = self._tokenizer(), self.config.word_len
        templates = TEMPLATES if self.config.templates else ("{}",)
        rows = []
        for name in names:  # one at a time: 81 sentences are a batch of their own
            if rest := tokenizer.cut(f"{name}.", length):
                warnings.warn(f"'{name}' is longer than the model's {length} tokens; ignored: '{rest}'", stacklevel=2)
            ids = tokenizer([template.format(name) for template in templates], length).to(self.device)
            rows.append(self.encode_tokens(ids).mean(0))
        return F.normalize(torch.stack(rows), dim=-1)

    def _tokenizer(self) -> Tokenizer:
        if self.tokenizer is None:
            raise ValueError("this model was built without a tokenizer: load it with anygrain.load, or give token ids")
        return self.tokenizer

    def object_logits(self, states: Tensor, names: Tensor) -> Tensor:
        """How much states [..., C] are objects of names [K, E]: [..., K]."""
        return self.logit_scale.exp() * unit(states @ self.object_projection) @ names.T

    def part_logits(self, states: Tensor, names: Tensor) -> Tensor:
        """How much states [..., C] are parts of names [K, E]: [..., K]."""
        return self.logit_scale.exp() * unit(states @ self.part_projection) @ names.T


def unit(vectors: Tensor) -> Tensor:
    """[..., E] at length 1; the official code adds 1e-7 to the length."""
    return vectors / (vectors.norm(dim=-1, keepdim=True) + 1e-7)


def inverse_sigmoid(x: Tensor) -> Tensor:
    """log(x / (1 - x)) of values held in 0..1, and at least 1e-5 from both ends."""
    x = x.clamp(0, 1)
    return torch.log(x.clamp(min=_EPS) / (1 - x).clamp(min=_EPS))
