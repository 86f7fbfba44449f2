"""Answers to clicks and boxes: several masks a prompt, from large to small, each with the IoU the model expects of it.

Shapes: Q questions to the network (a click or a box each), T its tokens, L levels asked for, M masks, h w their maps.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from anygrain.everything import Clicked, EverythingOptions, Proposal, everything
from anygrain.inference import Answering
from anygrain.models.semantic_sam import LayerOutput, Prompts
from anygrain.types import Category, ImageEmbedding, Prediction, Prompt

if TYPE_CHECKING:
    from anygrain.models.semantic_sam import SemanticSAM

MOST_CLICKS = 64  # in one prompt
DUPLICATE = 0.95  # IoU above which two masks of a prompt are one, as in the released predictor
_NAMES_KEPT = 4096


class PointAnswers:
    """How a model of clicks and boxes (Semantic-SAM) answers prompts. Safe to use from several threads.

    The network takes one click or one box at a time. Of a prompt with several clicks each foreground click (and the
    box) is asked by itself, and at each level that mask is taken that agrees with most of the clicks, foreground and
    background; of those the one with the highest predicted IoU.
    """

    def __init__(self, model: SemanticSAM, how: Answering):
        self.model, self.how = model, how
        self.logit_threshold = math.log(how.threshold / (1 - how.threshold))
        self._names: OrderedDict[str, Tensor] = OrderedDict()
        self._lock = Lock()

    # ------------------------------------------------------------------------------------------------ prompts

    def answer(self, embedding: ImageEmbedding, prompts: Sequence[Prompt]) -> Iterator[Prediction]:
        """A row for each level asked for, duplicates merged; memory does not grow with the number of prompts.

        Raises ValueError for a prompt without a foreground click or a box, with too many clicks, or with a granularity
        that does not exist.
        """
        for prompt in prompts:
            self._check(prompt)
        return self._answer(embedding, prompts)

    def _check(self, prompt: Prompt) -> None:
        self.model.config.levels_of(prompt.granularity)
        if len(prompt.points) > MOST_CLICKS:
            raise ValueError(
                f"a prompt of {len(prompt.points):,} points: one thing takes at most {MOST_CLICKS} clicks; give clicks "
                "on different things as prompts of their own"
            )
        if prompt.box is None and not prompt.points:
            raise ValueError(
                "a prompt needs a foreground click or a box; categories name what is clicked: give a --point or a "
                "--box too"
            )
        if prompt.box is None and not foreground(prompt):
            raise ValueError(
                "a prompt needs a foreground click or a box: background clicks alone do not say what is meant"
            )

    def _answer(self, embedding: ImageEmbedding, prompts: Sequence[Prompt]) -> Iterator[Prediction]:
        size, group, count = self.how.batch_size(self.model, embedding), [], 0
        for number, prompt in enumerate(prompts):
            group.append(prompt)
            count += len(foreground(prompt)) + (prompt.box is not None)
            if count >= size or number == len(prompts) - 1:
                yield from self._answer_group(embedding, group)
                group, count = [], 0

    def _answer_group(self, embedding: ImageEmbedding, prompts: Sequence[Prompt]) -> Iterator[Prediction]:
        """Prompts that are decoded together; masks in the photo's size are made one prompt at a time."""
        questions = [self._questions(prompt, embedding) for prompt in prompts]
        boxes, types = (torch.cat(column) for column in zip(*questions, strict=True))
        output = self.decode(embedding, boxes, types, joint=self.how.joint)
        start = 0
        for prompt, (own, _) in zip(prompts, questions, strict=True):
            rows = slice(start, start + len(own))
            start += len(own)
            yield self._predict(embedding, prompt, LayerOutput(*(part[rows] for part in output)))

    def _questions(self, prompt: Prompt, embedding: ImageEmbedding) -> tuple[Tensor, Tensor]:
        """What the network is asked for one prompt: boxes [Q, 4] and types [Q]."""
        parts = []
        if prompt.box is not None:
            parts.append(self.model.boxes(np.array([_clipped(prompt.box, embedding)]), embedding.resize))
        if points := foreground(prompt):
            parts.append(self.model.clicks(np.array(points), embedding.resize))
        boxes, types = (torch.cat(column) for column in zip(*parts, strict=True))
        return boxes, types

    def decode(self, embedding: ImageEmbedding, boxes: Tensor, types: Tensor, *, joint: bool = False) -> LayerOutput:
        """The last layer's output for Q questions about one image, see ``SemanticSAM.decode``."""
        with self.how.arithmetic(self.model):
            index = torch.zeros(len(boxes), dtype=torch.long, device=boxes.device)
            (output,) = self.model.decode(embedding.features, Prompts(boxes, types, index), joint=joint)
            return LayerOutput(*(part.float() for part in output))

    def mask_logits(self, embedding: ImageEmbedding, mask_embeds: Tensor) -> Tensor:
        """Mask logits float32 [M, h, w] at stride 4."""
        with torch.inference_mode():
            return self.model.mask_logits(mask_embeds, embedding.features[0])

    def _predict(self, embedding: ImageEmbedding, prompt: Prompt, output: LayerOutput) -> Prediction:
        config = self.model.config
        levels = config.levels_of(prompt.granularity)
        tokens = [config.levels[level - 1] for level in levels]
        ious, embeds = output.predicted_iou[:, tokens], output.mask_embeds[:, tokens]  # [Q, L], [Q, L, D]
        logits = self.mask_logits(embedding, embeds.flatten(0, 1)).unflatten(0, ious.shape)  # [Q, L, h, w]
        chosen = self._agreeing(prompt, embedding, logits, ious)  # [L]
        places = torch.arange(len(levels), device=chosen.device)
        logits, ious, states = logits[chosen, places], ious[chosen, places], output.states[:, tokens][chosen, places]
        groups = merge_duplicates(logits > self.logit_threshold, ious)
        first = [group[0] for group in groups]
        logits, ious = logits[first].cpu().numpy(), ious[first].cpu().numpy()
        masks = embedding.resize.masks_back(logits, self.logit_threshold)
        names = self.name(states[first], prompt)
        return Prediction(
            masks=masks,
            scores=ious.clip(0, 1),
            present=np.asarray(masks.any((1, 2))),
            prompts=(prompt,) * len(groups),
            low_res_logits=logits,
            image=embedding.image,
            name=embedding.name,
            model=self.how.info,
            granularity=tuple(config.granularity_of(levels[min(group)]) for group in groups),
            levels=tuple(tuple(levels[place] for place in sorted(group)) for group in groups),
            predicted_iou=ious,
            categories=tuple(object_name for object_name, _ in names),
            part_categories=tuple(part for _, part in names),
        )

    def _agreeing(self, prompt: Prompt, embedding: ImageEmbedding, logits: Tensor, ious: Tensor) -> Tensor:
        """Which question's mask is taken at each level: int64 [L] from logits [Q, L, h, w] and ious [Q, L]."""
        if len(ious) == 1:
            return torch.zeros(ious.shape[1], dtype=torch.long, device=ious.device)
        height, width = embedding.resize.canvas
        places = embedding.resize.points(np.array(prompt.points)) / (width, height) * 2 - 1
        grid = torch.from_numpy(places).to(logits)[None, None].expand(len(logits), -1, -1, -1)  # [Q, 1, P, 2]
        values = F.grid_sample(logits, grid, mode="bilinear", padding_mode="border", align_corners=False)[:, :, 0]
        wanted = torch.tensor(labels_of(prompt), device=values.device) == 1  # [P]
        agrees = ((values > self.logit_threshold) == wanted).sum(-1)  # [Q, L]
        best = agrees == agrees.amax(0)
        return ious.masked_fill(~best, -math.inf).argmax(0)

    # ------------------------------------------------------------------------------------------------ names

    def name(self, states: Tensor, prompt: Prompt) -> list[tuple[Category | None, Category | None]]:
        """Object and part name of each of M states [M, C], None where no names are given."""
        objects = self._best(states, prompt.categories, self.model.object_logits)
        parts = self._best(states, prompt.part_categories, self.model.part_logits)
        return list(zip(objects, parts, strict=True))

    def _best(
        self, states: Tensor, names: Sequence[str], logits_of: Callable[[Tensor, Tensor], Tensor]
    ) -> Sequence[Category | None]:
        if not names:
            return [None] * len(states)
        with self.how.arithmetic(self.model):
            scores, rows = logits_of(states, self._encode(names)).float().sigmoid().max(-1)
        return [Category(str(names[row]), score) for row, score in zip(rows.tolist(), scores.tolist(), strict=True)]

    def _encode(self, names: Sequence[str]) -> Tensor:
        """Unit vectors [K, E]; each name goes through the text encoder once."""
        with self._lock:
            if new := [name for name in dict.fromkeys(names) if name not in self._names]:
                self._names.update(zip(new, self.model.encode_names(new), strict=True))
            vectors = torch.stack([self._names[name] for name in names])
            while len(self._names) > _NAMES_KEPT:
                self._names.popitem(last=False)
        return vectors

    # ------------------------------------------------------------------------------------------------ everything

    def propose(
        self,
        embedding: ImageEmbedding,
        options: EverythingOptions,
        categories: Sequence[str] = (),
        part_categories: Sequence[str] = (),
    ) -> list[Proposal]:
        """All masks of a grid of clicks, see ``anygrain.everything``."""
        levels = self.model.config.levels_of(options.granularity)
        names = Prompt(points=((0, 0),), categories=tuple(categories), part_categories=tuple(part_categories))
        source = _ClickedImage(self, embedding, levels, options.joint, names)
        return everything(source, options, {level: self.model.config.granularity_of(level) for level in levels})

    def token_areas(self, embedding: ImageEmbedding, options: EverythingOptions) -> np.ndarray:
        """Share of the photo inside each token's mask, for every click of the grid: float64 [N, T]."""
        tokens = self.model.config.num_tokens
        levels = tuple(range(1, tokens + 1))
        source = _ClickedImage(self, embedding, levels, options.joint, Prompt(points=((0, 0),)))
        place = np.argsort(source.tokens)  # of each token among the levels
        areas = []
        for _, clicked in source.click(options.grid()):
            inside = np.concatenate([(logits > 0).mean((1, 2)) for logits in source.logits(clicked.codes)])
            areas.append(inside.reshape(-1, tokens)[:, place])
        return np.concatenate(areas)


class _ClickedImage:
    """An embedded image as the generator clicks on it. A code is a mask embedding followed by its token's state."""

    def __init__(
        self, answers: PointAnswers, embedding: ImageEmbedding, levels: Sequence[int], joint: int, names: Prompt
    ):
        self.answers, self.embedding, self.levels, self.joint = answers, embedding, levels, joint
        self.prompt = names
        self.size, self.final_size = embedding.resize.content, embedding.resize.source
        self.tokens = [answers.model.config.levels[level - 1] for level in levels]

    def click(self, points: np.ndarray) -> Iterator[tuple[np.ndarray, Clicked]]:
        height, width = self.final_size
        size = self.joint or self.answers.how.batch_size(self.answers.model, self.embedding)
        for start in range(0, len(points), size):
            part = points[start : start + size]
            boxes, types = self.answers.model.clicks(part * (width, height), self.embedding.resize)
            output = self.answers.decode(self.embedding, boxes, types, joint=self.joint > 0)
            codes = torch.cat([output.mask_embeds, output.states], -1)[:, self.tokens].flatten(0, 1)
            yield part, Clicked(codes, output.predicted_iou[:, self.tokens].flatten().cpu().numpy())

    def logits(self, codes: Tensor) -> Iterator[np.ndarray]:
        if not len(codes):
            return
        canvas = self.embedding.resize.canvas
        height, width = self.size
        for part in codes.split(max(1, self.answers.how.memory_limit // (2 * 4 * canvas[0] * canvas[1]))):
            low = self._low(part)
            large = F.interpolate(low[:, None], size=canvas, mode="bilinear", align_corners=False)[:, 0]
            large -= self.answers.logit_threshold  # in place: the largest array here, and new pages cost time
            yield large[:, :height, :width].cpu().numpy()

    def masks(self, codes: Tensor) -> Iterator[np.ndarray]:
        for part in codes.split(32):
            for logits in self._low(part).cpu().numpy():
                yield self.embedding.resize.masks_back(logits[None], self.answers.logit_threshold)[0]

    def names(self, codes: Tensor) -> Sequence[tuple[Category | None, Category | None]]:
        width = self.answers.model.config.pixel_decoder.mask_dim
        return self.answers.name(codes[:, width:], self.prompt)

    def _low(self, codes: Tensor) -> Tensor:
        width = self.answers.model.config.pixel_decoder.mask_dim
        return self.answers.mask_logits(self.embedding, codes[:, :width])


def foreground(prompt: Prompt) -> list[tuple[float, float]]:
    """The clicks that are on the thing."""
    return [point for point, label in zip(prompt.points, labels_of(prompt), strict=True) if label]


def labels_of(prompt: Prompt) -> tuple[int, ...]:
    """The label of every click: 1 where none is given."""
    return prompt.point_labels or (1,) * len(prompt.points)


def merge_duplicates(masks: Tensor, ious: Tensor) -> list[list[int]]:
    """Groups of the same mask among bool [M, h, w], each with the one of highest predicted IoU first.

    Groups stand in the order of their first mask. A mask joins the best group whose first it overlaps by ``DUPLICATE``.
    """
    flat = masks.flatten(1).float()
    both = flat @ flat.T
    areas = both.diagonal()
    union = areas[:, None] + areas - both
    same = (both > DUPLICATE * union) | (union == 0)  # two empty masks are the same
    groups: list[list[int]] = []
    for row in ious.argsort(descending=True, stable=True).tolist():
        for group in groups:
            if same[row, group[0]]:
                group.append(row)
                break
        else:
            groups.append([row])
    return sorted(groups, key=min)


def _clipped(box: Sequence[float], embedding: ImageEmbedding) -> tuple[float, float, float, float]:
    """The part of a box inside the photo."""
    height, width = embedding.resize.source
    return max(box[0], 0), max(box[1], 0), min(box[2], width), min(box[3], height)
