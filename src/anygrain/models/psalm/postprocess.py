"""From logits to masks in the picture's own size: panoptic, semantic, instance, and the best query for a condition.

The rules are Mask2Former's, as PSALM's evaluation uses them. Masks are enlarged in two steps, to the model's input and
from the part of it that holds the picture to the picture's size; only what is needed is enlarged.

Shapes: Q queries, C categories (the background is one more), N masks, h w size of mask logits, H W size of the picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from anygrain.models.layers import resize_map
from anygrain.resize import Resize

_PIXELS_AT_ONCE = 2**25
"""Numbers of enlarged masks that are there together, where not all are needed at once."""


class Panoptic(NamedTuple):
    """segment_map int32 [H, W], 0 for none; for segment i + 1 its category, query and score."""

    segment_map: Tensor
    categories: list[int]
    queries: list[int]
    scores: list[float]


class Instances(NamedTuple):
    """N instances, best first: query, category, score, mask bool [H, W]."""

    queries: Tensor
    categories: Tensor
    scores: Tensor
    masks: Tensor


def to_input(mask_logits: Tensor, resize: Resize) -> Tensor:
    """[N, h, w] of the whole input -> [N, *content] at the input's scale, without the padding."""
    scale = resize.canvas[0] // mask_logits.shape[1]
    rows, columns = (
        min(length, math.ceil(side / scale) + 1)  # one more than is shown, as neighbours are mixed
        for length, side in zip(mask_logits.shape[1:], resize.content, strict=True)
    )
    part = mask_logits[:, :rows, :columns]
    size = (rows * scale, columns * scale)
    grown = resize_map(part[None].float(), size)[0]  # maps as channels of one picture: faster than as pictures
    return grown[:, : resize.content[0], : resize.content[1]]


def to_picture(maps: Tensor, resize: Resize) -> Tensor:
    """[N, *content] -> [N, H, W]."""
    return resize_map(maps[None], resize.source)[0]


def enlarge(mask_logits: Tensor, resize: Resize) -> Tensor:
    """[N, h, w] of the whole input -> [N, H, W] of the picture."""
    return to_picture(to_input(mask_logits, resize), resize)


def in_parts(mask_logits: Tensor, resize: Resize) -> Iterator[Tensor]:
    """``enlarge`` of some masks at a time, so that memory is bounded."""
    size = max(math.prod(resize.source), math.prod(resize.content))
    for part in mask_logits.split(max(1, _PIXELS_AT_ONCE // size)):
        yield enlarge(part, resize)


def mask_scores(logits: Tensor) -> Tensor:
    """[N, H, W] -> [N]: the mean probability inside each mask, 0 for an empty one."""
    inside = logits > 0
    return (logits.sigmoid() * inside).flatten(1).sum(1) / (inside.flatten(1).sum(1) + 1e-6)


def panoptic(
    class_logits: Tensor, mask_logits: Tensor, things: Tensor, resize: Resize, *, sure: float = 0.8, left: float = 0.8
) -> Panoptic:
    """Every pixel to one query at most.

    class_logits [Q, C + 1], the background last; mask_logits [Q, h, w]; things bool [C].
    sure: probability from which a query counts. left: share of its mask that must be left to it by the others.
    """
    probability, category = class_logits.float().softmax(-1).max(-1)
    kept = ((category < class_logits.shape[1] - 1) & (probability > sure)).nonzero()[:, 0]
    segment_map = torch.zeros(resize.source, dtype=torch.int32, device=mask_logits.device)
    found = Panoptic(segment_map, [], [], [])
    if not len(kept):
        return found
    best = torch.full(resize.source, -1.0, device=mask_logits.device)
    owner = torch.full(resize.source, -1, device=mask_logits.device)
    masks, whole, quality = [], [], []
    for number, logits in enumerate(part for parts in in_parts(mask_logits[kept], resize) for part in parts):
        chance = logits.sigmoid()
        weight = chance * probability[kept[number]]
        mine = weight > best
        best, owner = torch.where(mine, weight, best), torch.where(mine, number, owner)
        masks.append(chance >= 0.5)
        whole.append(int(masks[-1].sum()))
        quality.append(float(mask_scores(logits[None])))
    stuff: dict[int, int] = {}
    for number, query in enumerate(kept.tolist()):
        mine = owner == number
        mask = mine & masks[number]
        if not whole[number] or not mask.any() or int(mine.sum()) / whole[number] < left:
            continue
        kind = int(category[query])
        segment = None if things[kind] else stuff.get(kind)
        if segment is None:
            found.categories.append(kind)
            found.queries.append(query)
            found.scores.append(float(probability[query]) * quality[number])
            segment = len(found.categories)
            stuff[kind] = segment
        segment_map[mask] = segment
    return found


def semantic(
    class_logits: Tensor, mask_logits: Tensor, resize: Resize, *, at_input: bool = True, part: slice = slice(None)
) -> Tensor:
    """Strength of each category at each pixel [C, H, W]: the sum over queries of class and mask probability.

    at_input: sum at the input's scale and enlarge the sums (the official semantic task), or enlarge masks and sum
        (the official panoptic task). part: which of the categories.
    """
    probability = class_logits.float().softmax(-1)[:, :-1][:, part]
    if at_input:
        sums = torch.einsum("qc,qhw->chw", probability, to_input(mask_logits, resize).sigmoid())
        return to_picture(sums, resize)
    return torch.einsum("qc,qhw->chw", probability, enlarge(mask_logits, resize).sigmoid())


def semantic_map(class_logits: Tensor, mask_logits: Tensor, resize: Resize) -> tuple[Tensor, Tensor]:
    """Strongest category int64 [H, W] and its strength [H, W]; a few categories at a time."""
    count = class_logits.shape[1] - 1
    at_once = max(1, _PIXELS_AT_ONCE // max(math.prod(resize.source), math.prod(resize.content)))
    probability = class_logits.float().softmax(-1)[:, :-1]
    chance = to_input(mask_logits, resize).sigmoid()
    best = torch.full(resize.source, -1.0, device=mask_logits.device)
    winner = torch.zeros(resize.source, dtype=torch.int64, device=mask_logits.device)
    for first in range(0, count, at_once):
        sums = torch.einsum("qc,qhw->chw", probability[:, first : first + at_once], chance)
        strength, category = to_picture(sums, resize).max(0)
        better = strength > best
        best, winner = torch.where(better, strength, best), torch.where(better, category + first, winner)
    return winner, best


def instances(class_logits: Tensor, mask_logits: Tensor, resize: Resize, *, things: Tensor | None = None) -> Instances:
    """The Q best pairs of query and category; of them those of ``things`` (bool [C]), all when None.

    class_logits [Q, C + 1], the background last; mask_logits [Q, h, w]. Score: probability of the class times
    ``mask_scores``. One query may come with several categories.
    """
    probability = class_logits.float().softmax(-1)[:, :-1]
    scores, pairs = probability.flatten().topk(min(len(class_logits), probability.numel()))
    queries, categories = pairs // probability.shape[1], pairs % probability.shape[1]
    if things is not None:
        rows = things[categories]
        scores, queries, categories = scores[rows], queries[rows], categories[rows]
    used, place = queries.unique(return_inverse=True)
    masks = torch.zeros((len(used), *resize.source), dtype=torch.bool, device=mask_logits.device)
    quality = torch.zeros(len(used), device=mask_logits.device)
    done = 0
    for logits in in_parts(mask_logits[used], resize):
        masks[done : done + len(logits)] = logits > 0
        quality[done : done + len(logits)] = mask_scores(logits)
        done += len(logits)
    scores = scores * quality[place]
    order = scores.argsort(descending=True, stable=True)
    return Instances(queries[order], categories[order], scores[order], masks[place[order]])


def all_queries(logits: Tensor, mask_logits: Tensor, resize: Resize) -> tuple[Tensor, Tensor]:
    """Official answer to phrases and regions: scores [Q, C] of every query and masks bool [Q, H, W].

    logits [Q, C]; mask_logits [Q, h, w]. A score is sigmoid(logit) times ``mask_scores``.
    """
    grown = list(in_parts(mask_logits, resize))
    quality = torch.cat([mask_scores(part) for part in grown])
    return logits.float().sigmoid() * quality[:, None], torch.cat([part > 0 for part in grown])


def best_query(chance: Tensor, mask_logits: Tensor, resize: Resize, level: float = 0.0) -> tuple[int, float, Tensor]:
    """The query of the highest score, its score, and its mask logits [H, W]; as ``all_queries`` would find it.

    chance [Q] in 0..1 of each query; mask_logits [Q, h, w]. A mask's quality is at most its largest probability, which
    enlarging does not raise. So queries are enlarged from the one that could score best on, and no further than one of
    them can still win: one or two of a hundred, where the model is sure.
    level: mask logit above which a pixel is inside.
    """
    most = chance * mask_logits.flatten(1).amax(1).sigmoid()
    order = most.argsort(descending=True, stable=True).tolist()
    best, best_score, best_logits = order[0], -1.0, None
    for query in order:
        if float(most[query]) <= best_score:
            break
        (logits,) = enlarge(mask_logits[query : query + 1], resize)
        inside = logits > level
        score = float(chance[query] * (logits.sigmoid() * inside).sum() / (inside.sum() + 1e-6))
        if score > best_score:
            best, best_score, best_logits = query, score, logits
    assert best_logits is not None
    return best, best_score, best_logits
