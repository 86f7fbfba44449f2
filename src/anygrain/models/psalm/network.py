"""PSALM: a language model reads a picture and a prompt, and its mask tokens become the queries of a mask decoder.

Paper: Zhang et al., PSALM: Pixelwise SegmentAtion with Large Multi-Modal Model (arXiv 2403.14598), fig. 2. The paper
and the released code differ in places; what is computed here is what the released weights were trained with.

Read with ``prompts`` beside it: a ``Question`` is a prompt as ids. A picture is encoded once (``encode_image``): image
encoder, pixel decoder, projector, and the language model over the start that all prompts share. ``ask`` then takes any
number of questions about it.

Shapes: N questions, B pictures, P tokens of a picture, T tokens of a question, D width of the language model,
Q queries, C conditions (categories with the background, phrases or regions), h w size of a map, H W of the one of
stride 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from anygrain.models.convnet import EfficientNetLite
from anygrain.models.mask_decoder import MLP, Decoded, MaskedQueryDecoder, Memory
from anygrain.models.pixel_decoder import PixelDecoder
from anygrain.models.psalm import regions
from anygrain.models.psalm.config import PSALMConfig
from anygrain.models.psalm.language import LanguageModel
from anygrain.models.psalm.postprocess import enlarge
from anygrain.models.psalm.projector import Projector
from anygrain.models.psalm.prompts import IGNORE, IMAGE, MASKS, REGION, PhiTokenizer, Question, conversation, encode
from anygrain.models.swin import Swin, SwinConfig

if TYPE_CHECKING:
    from PIL import Image

    from anygrain.data.psalm_batch import PSALMBatch
    from anygrain.resize import Resize
    from anygrain.vocabulary import Vocabulary


KINDS = {"panoptic": "categories", "referring": "phrase", "interactive": "regions"}
"""Tasks of training, beside chats, and the kind of their questions."""


class Features(NamedTuple):
    """A picture as PSALM keeps it: mask_features [B, C, H, W]; maps of stride 32, 16, 8 [B, C, h, w]; tokens [B, P, D]
    of the language model; prefix [B, layers, 2, heads, S, d], its keys and values of the start of every prompt."""

    mask_features: Tensor
    stride32: Tensor
    stride16: Tensor
    stride8: Tensor
    tokens: Tensor
    prefix: Tensor


_WORTH = 64  # tokens that must be saved before one more pass over the language model's weights pays
_Row = tuple[Sequence[int], Sequence[int]]  # a question's ids and owners, or a part of both


class Conditions(NamedTuple):
    """What the language model made of one question: queries [Q, C] for the decoder, embeddings [C, hidden]."""

    queries: Tensor
    embeddings: Tensor


class Answer(NamedTuple):
    """One level's answer to one question: logits [Q, C] of each query for each condition, mask_logits [Q, H, W]."""

    logits: Tensor
    mask_logits: Tensor


class PSALM(nn.Module):
    """The whole network. Raises ImportError when transformers is not installed."""

    architecture = "psalm"
    accepts = frozenset({"text", "points", "scribble", "box", "mask", "categories", "regions"})
    text_encoder = None
    """No part reads texts alone: the language model reads them with the picture."""

    def __init__(self, config: PSALMConfig, tokenizer: PhiTokenizer | None = None):
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.vocabulary: Vocabulary | None = None
        image, width = config.image_encoder, config.language.width
        channels, hidden = image.channels, config.mask_decoder.hidden_dim
        self.image_encoder = Swin(image) if isinstance(image, SwinConfig) else EfficientNetLite(image)
        self.projector = Projector(channels[3], config.projector_planes, width, config.projector_stride)
        self.language = LanguageModel(config.language)
        self.pixel_decoder = PixelDecoder(config.pixel_decoder, channels)
        self.mask_decoder = MaskedQueryDecoder(config.mask_decoder)
        self.mask_tokens = nn.Parameter(torch.zeros(config.mask_decoder.num_queries, width))
        # From the language model's width to the decoder's: queries, and the conditions of each kind.
        self.query_proj = nn.Linear(width, hidden)
        kinds = ("categories", "phrase", "regions")
        self.condition_proj = nn.ModuleDict({kind: nn.Linear(width, hidden) for kind in kinds})
        # From a query to what it is compared with.
        self.condition_head = nn.ModuleDict({kind: MLP(hidden, hidden, hidden) for kind in kinds})

    # ------------------------------------------------------------------------------------------- the picture

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.mask_tokens.device

    def make_resize(self, size: tuple[int, int]) -> Resize:
        """How a picture of (height, width) is brought to the square input, and back."""
        from anygrain.resize import Resize

        return Resize.corner(size, self.config.input_size)

    def prepare(self, images: Sequence[Image.Image], resizes: Sequence[Resize]) -> Tensor:
        """Pictures of their own size -> pixels [B, 3, S, S] on the model's device."""
        return self.normalise(np.stack([resize.image(image) for image, resize in zip(images, resizes, strict=True)]))

    def normalise(self, images: np.ndarray) -> Tensor:
        """uint8 [B, H, W, 3] -> pixels float32 [B, 3, H, W] on the model's device."""
        pixels = torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2).float()
        mean, std = (torch.tensor(v, device=self.device)[:, None, None] for v in (self.config.mean, self.config.std))
        return (pixels - mean * 255) / (std * 255)

    def encode_image(self, pixels: Tensor) -> Features:
        """pixels [B, 3, S, S] -> all that any question about the pictures needs. Needs a tokenizer."""
        mask_features, maps, tokens = self.look(pixels)
        start = self.start()
        ids = torch.tensor(start, device=self.device).expand(len(tokens), -1)
        prefix = self.language.read(self._embed(ids, tokens, []))
        return Features(mask_features, maps[0], maps[1], maps[2], tokens, prefix)

    def look(self, pixels: Tensor) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
        """pixels [B, 3, S, S] -> mask_features, three maps from coarse to fine, tokens [B, P, D]. One Swin pass."""
        return self._refine(self.image_encoder(pixels))

    def _refine(self, pyramid: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
        mask_features, maps = self.pixel_decoder(pyramid)
        return mask_features, maps, self.projector(pyramid[3])

    def start(self) -> tuple[int, ...]:
        """Ids that every prompt begins with, up to and with the picture, which stands there as P times IMAGE."""
        if self.tokenizer is None:
            raise ValueError("this PSALM was built without a tokenizer: load it with anygrain.load")
        text = conversation(("This is an image <image>", ""))
        ids = encode(self.tokenizer, text)
        return (*ids[: ids.index(IMAGE)], *[IMAGE] * self.config.image_tokens)

    # ------------------------------------------------------------------------------------------- a question

    def ask(
        self, features: Features, questions: Sequence[Question], region_features: Sequence[Tensor] = ()
    ) -> list[Answer]:
        """Answers to N questions about one picture (B = 1), each as if it were asked alone.

        region_features: [1, D] of each region of all questions together, in their order (see ``region``).
        """
        return self.decide(features, self.consider(features, questions, region_features), questions)

    def consider(
        self, features: Features, questions: Sequence[Question], region_features: Sequence[Tensor] = ()
    ) -> list[Conditions]:
        """The language model's part of ``ask``: it goes on from the start that it has read already."""
        start = self.start()
        rows = [self._expand(question) for question in questions]
        if any(ids[: len(start)] != start for ids, _ in rows):
            raise ValueError("a question does not begin as all prompts do: make it with anygrain.models.psalm.prompts")
        rows = [(ids[len(start) :], owner[len(start) :]) for ids, owner in rows]
        prefix, rows = self._read_common(features.prefix, rows)
        ids, owner = self._padded(rows)
        hidden = self.language(self._embed(ids, None, region_features), prefix)
        return self.conditions(hidden, ids, owner, [question.kind for question in questions])

    def decide(
        self,
        features: Features,
        conditions: Sequence[Conditions],
        questions: Sequence[Question],
        memory: Memory | None = None,
    ) -> list[Answer]:
        """The mask decoder's part of ``ask``. memory: what ``remember`` gave, when several calls are to share it."""
        queries = torch.stack([condition.queries for condition in conditions])
        (level,) = self.mask_decoder(queries, memory or self.remember(features), features.mask_features)
        return self._compare(level, conditions, questions)

    def remember(self, features: Features) -> Memory:
        """What the mask decoder makes of a picture, whatever it is asked."""
        maps = (features.stride32, features.stride16, features.stride8)
        return self.mask_decoder.remember(maps, features.mask_features)

    # ------------------------------------------------------------------------------------------- training

    def levels(
        self, pyramid: Sequence[Tensor], questions: Sequence[Question], masks: Sequence[Tensor] = ()
    ) -> list[list[Answer]]:
        """One question about each of N pictures: answers of every level [levels][N].

        pyramid: four maps [N, C, h, w] of the image encoder. masks: of each picture its regions, bool [K, S, S], where
        regions are asked for. No work is shared.
        """
        mask_features, maps, tokens = self._refine(pyramid)
        found = [self.region(own, mask) for own, regions_of in zip(tokens, masks, strict=False) for mask in regions_of]
        hidden, ids, owner = self.read(questions, tokens, found)
        conditions = self.conditions(hidden, ids, owner, [question.kind for question in questions])
        return self.answer(conditions, questions, maps, mask_features, every_level=True)

    def next_words(self, pyramid: Sequence[Tensor], questions: Sequence[Question]) -> Tensor:
        """Logits [N, T, V] of the token after each, for chats about N pictures (kind "text"); pyramid as above."""
        tokens = self.projector(pyramid[3])
        return self.language.head(self.read(questions, tokens)[0])

    def loss(self, output: Any, batch: PSALMBatch) -> dict[str, Tensor]:
        """Losses of one task by name, "panoptic/mask" for instance; output: of ``batch.decode``."""
        from anygrain.models.psalm.loss import segmentation_losses, text_loss

        if batch.task not in KINDS:
            return {f"{batch.task}/text": text_loss(*output)}
        losses, _ = segmentation_losses(output, batch.targets, KINDS[batch.task], self.config.loss)
        return {f"{batch.task}/{name}": value for name, value in losses.items()}

    def labels(self, questions: Sequence[Question], labels: Sequence[Sequence[int]]) -> Tensor:
        """A label for each id of a chat -> int64 [N, T] beside ``next_words``; a picture's tokens get IGNORE."""
        rows = [self._expand(Question(q.ids, tuple(own), q.kind)) for q, own in zip(questions, labels, strict=True)]
        return self._padded(rows, IGNORE)[1]

    def read(
        self, questions: Sequence[Question], tokens: Tensor, region_features: Sequence[Tensor] = ()
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Whole questions, each about its picture: hidden states [N, T, D], ids and owners int64 [N, T]."""
        rows = [self._expand(question) for question in questions]
        ids, owner = self._padded(rows)
        return self.language(self._embed(ids, tokens, region_features)), ids, owner

    def conditions(self, hidden: Tensor, ids: Tensor, owner: Tensor, kinds: Sequence[str]) -> list[Conditions]:
        """Queries and condition embeddings from hidden states [N, T, D] (paper §3.3).

        A category or phrase is the mean over its tokens, [SEG] included; a region is its own token.
        """
        queries = self.query_proj(hidden[ids == MASKS]).unflatten(0, (len(kinds), -1))  # [N, Q, C]
        found = []
        for row, kind in enumerate(kinds):
            if kind == "regions":
                pooled = hidden[row, ids[row] == REGION]  # [K, D]
            else:
                members = owner[row] == torch.arange(int(owner[row].max()) + 1, device=owner.device)[:, None]  # [C, T]
                share = members.to(hidden.dtype)
                pooled = share @ hidden[row] / share.sum(1, keepdim=True)
            found.append(Conditions(queries[row], self.condition_proj[kind](pooled)))
        return found

    def answer(
        self,
        conditions: Sequence[Conditions],
        questions: Sequence[Question],
        maps: Sequence[Tensor],
        mask_features: Tensor,
        *,
        every_level: bool = False,
    ) -> list[list[Answer]]:
        """Run the mask decoder; maps and mask_features of one picture, or one of each question. Levels of answers."""
        queries = torch.stack([condition.queries for condition in conditions])
        memory = self.mask_decoder.remember(maps, mask_features)
        levels = self.mask_decoder(queries, memory, mask_features, every_level=every_level)
        return [self._compare(level, conditions, questions) for level in levels]

    def probabilities(self, logits: Tensor, resize: Resize) -> np.ndarray:
        """Mask logits [N, h, w] -> float32 [N, H, W] in the photograph's own size."""
        return enlarge(logits, resize).sigmoid().cpu().numpy()

    def bytes_per_prompt(self, features: Sequence[Tensor]) -> int:
        """What deciding one more question takes at most: masks at stride 4 twice, attention weights at stride 8."""
        decoder = self.config.mask_decoder
        fine, attended = features[0][0, 0].numel(), features[3][0, 0].numel()
        return 4 * decoder.num_queries * (2 * fine + (decoder.num_heads + 2) * attended)

    def bytes_per_token(self) -> int:
        """What the language model takes for one more token at most, beside its weights."""
        config = self.config.language
        return 4 * (8 * config.width + 2 * config.ffn_dim)

    def _compare(self, level: Decoded, conditions: Sequence[Conditions], questions: Sequence[Question]) -> list[Answer]:
        answers = []
        for row, (condition, question) in enumerate(zip(conditions, questions, strict=True)):
            said = self.condition_head[question.kind](level.queries[row])  # [Q, hidden]
            answers.append(Answer(said @ condition.embeddings.T, level.mask_logits[row]))
        return answers

    def _read_common(self, prefix: Tensor, rows: Sequence[_Row]) -> tuple[Tensor, list[_Row]]:
        """Read the words that N questions go on with alike once for all, if that saves enough (``_WORTH``).

        prefix [1, layers, 2, h, P, d] and rows of ids and owners -> a longer prefix and the rows without those words.
        """
        length = 0
        for column in zip(*(zip(*row, strict=True) for row in rows), strict=False):
            token, owner = column[0]
            if owner >= 0 or token in (REGION, MASKS) or len(set(column)) > 1:
                break
            length += 1
        if length * (len(rows) - 1) < _WORTH:
            return prefix, list(rows)
        common = torch.tensor([rows[0][0][:length]], device=self.device)
        prefix = self.language.read(self._embed(common, None, ()), prefix)
        return prefix, [(ids[length:], owner[length:]) for ids, owner in rows]

    def _expand(self, question: Question) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Ids and owners with the picture and the mask tokens at their full length."""
        counts = {IMAGE: self.config.image_tokens, MASKS: self.config.mask_decoder.num_queries}
        ids = tuple(token for token in question.ids for _ in range(counts.get(token, 1)))
        pairs = zip(question.ids, question.owner, strict=True)
        return ids, tuple(owner for token, owner in pairs for _ in range(counts.get(token, 1)))

    def _padded(self, rows: Sequence[_Row], none: int = -1) -> tuple[Tensor, Tensor]:
        """Ids and owners of different length -> two int64 [N, T], filled up on the right with 0 and ``none``."""
        longest = max(len(ids) for ids, _ in rows)
        ids = [[*ids, *[0] * (longest - len(ids))] for ids, _ in rows]
        owner = [[*owner, *[none] * (longest - len(owner))] for _, owner in rows]
        return torch.tensor(ids, device=self.device), torch.tensor(owner, device=self.device)

    def _embed(self, ids: Tensor, tokens: Tensor | None, region_features: Sequence[Tensor]) -> Tensor:
        """Ids [N, T] -> [N, T, D], with the pictures' tokens, regions and mask tokens in their places."""
        x = self.language.embedding(ids.clamp(min=0))
        if tokens is not None:
            x = x.masked_scatter((ids == IMAGE)[..., None], tokens.to(x.dtype))
        if len(region_features):
            x = x.masked_scatter((ids == REGION)[..., None], torch.cat(list(region_features)).to(x.dtype))
        if (there := ids == MASKS).any():  # a chat has none
            x = x.masked_scatter(there[..., None], self.mask_tokens.to(x.dtype).expand(len(ids), -1, -1))
        return x

    def region(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Feature [1, D] of a region: bool [S, S] of the input, tokens [P, D] of the picture that it lies in.

        Raises ValueError for a region without a pixel.
        """
        if self.config.region_sampling == "mean":
            return regions.region_feature(tokens, mask)
        return regions.sampled_feature(tokens, regions.random_points(mask))
