"""What PSALM is trained on: classes and masks of every decoder level, and text (paper §3.4; Mask2Former §3.3).

Shapes: N questions (one a picture), Q queries, C conditions, K objects of a picture, H W size of a target mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from anygrain.models.matching import assign, mask_costs, sample_points
from anygrain.models.point_losses import point_losses, uncertain_points
from anygrain.models.psalm.config import LossConfig
from anygrain.models.psalm.network import Answer
from anygrain.models.psalm.prompts import IGNORE


@dataclass(frozen=True)
class Target:
    """What is in one picture: masks 0..1 [K, H, W] of the whole input, and the condition of each, int64 [K].

    conditions: number of its category or region; 0 for a phrase.
    unknown: bool [H, W], where nothing is known of any mask and no loss is asked; None for nowhere.
    """

    masks: Tensor
    conditions: Tensor
    unknown: Tensor | None = None


Matches = list[tuple[Tensor, Tensor]]


def segmentation_losses(
    levels: Sequence[Sequence[Answer]], targets: Sequence[Target], kind: str, config: LossConfig | None = None
) -> tuple[dict[str, Tensor], list[Matches]]:
    """Losses "class", "mask" and "dice" of questions of one kind, weighted and summed over levels; and the matches.

    levels: answers [levels][N], the last level last. kind: "categories", "phrase" or "regions". Levels are gone through
    in the official order, the last one first, which matters to the random numbers.
    Raises ValueError when there is no object at all to learn from.
    """
    config = config or LossConfig()
    masks = _objects(targets)
    if not masks:
        raise ValueError("no picture of the batch has an object: leave such batches out")
    losses: dict[str, Tensor] = {}
    matches = []
    for answers in (levels[-1], *levels[:-1]):
        pairs = match(answers, targets, kind, config)
        cross_entropy, dice = mask_loss(answers, targets, pairs, masks, config)
        own = {
            "class": config.class_weight * class_loss(answers, targets, pairs, kind, config),
            "mask": config.mask_weight * cross_entropy,
            "dice": config.dice_weight * dice,
        }
        losses = {name: losses.get(name, 0) + value for name, value in own.items()}
        matches.append(pairs)
    return losses, matches


def _objects(targets: Sequence[Target]) -> float:
    """How many objects there are; with several processes their mean, at least 1."""
    count = sum(len(target.masks) for target in targets)
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return count
    total = torch.tensor(float(count), device=targets[0].masks.device)
    distributed.all_reduce(total)
    return max(1.0, float(total) / distributed.get_world_size()) if total else 0.0


@torch.no_grad()
def match(answers: Sequence[Answer], targets: Sequence[Target], kind: str, config: LossConfig) -> Matches:
    """For each picture which query answers for which object: two int64 [K]. Draws points once a picture."""
    pairs = []
    for answer, target in zip(answers, targets, strict=True):
        points = torch.rand(1, config.points, 2, device=answer.mask_logits.device)
        if not len(target.masks):
            pairs.append((target.conditions, target.conditions))
            continue
        predicted, wanted = (sample_points(maps.float(), points) for maps in (answer.mask_logits, target.masks))
        known = None if target.unknown is None else _known(target, points).expand(len(wanted), -1)
        cross_entropy, dice = mask_costs(predicted, wanted, known)
        cost = config.mask_weight * cross_entropy + config.dice_weight * dice
        if kind == "categories":  # phrases and regions are found by their masks alone
            cost = cost - config.class_weight * answer.logits.float().softmax(-1)[:, target.conditions]
        pairs.append(assign(cost))
    return pairs


def mask_loss(
    answers: Sequence[Answer], targets: Sequence[Target], pairs: Matches, masks: float, config: LossConfig
) -> tuple[Tensor, Tensor]:
    """Cross-entropy and Dice of the matched queries' masks, unweighted."""
    logits = torch.cat([a.mask_logits[queries] for a, (queries, _) in zip(answers, pairs, strict=True)]).float()
    points = uncertain_points(logits, config.points)
    found = [(target, objects) for target, (_, objects) in zip(targets, pairs, strict=True)]
    wanted = torch.cat([target.masks[objects].float() for target, objects in found])  # [N * K, H, W]
    known = None
    if any(target.unknown is not None for target in targets):
        parts = points.split([len(objects) for _, objects in found])
        known = torch.cat([_known(target, own) for (target, _), own in zip(found, parts, strict=True)])
    return point_losses(sample_points(logits, points), sample_points(wanted, points), masks, known)


def _known(target: Target, points: Tensor) -> Tensor:
    """Bool [K, P]: which points [K, P, 2] of a picture count."""
    if target.unknown is None:
        return torch.ones(points.shape[:2], dtype=torch.bool, device=points.device)
    unknown = sample_points(target.unknown[None].float(), points.flatten(0, 1)[None])
    return unknown.view(points.shape[:2]) == 0


def class_loss(
    answers: Sequence[Answer], targets: Sequence[Target], pairs: Matches, kind: str, config: LossConfig
) -> Tensor:
    """Whether each query found its condition, unweighted.

    Categories: cross-entropy, queries without an object belong to the background. Phrases and regions: binary, matched
    queries as heavy as all others together.
    """
    if kind == "categories":
        logits = torch.stack([answer.logits for answer in answers]).float()  # [N, Q, C + 1]
        wanted = torch.full(logits.shape[:2], logits.shape[2] - 1, device=logits.device)
        for row, target, (queries, objects) in zip(wanted, targets, pairs, strict=True):
            row[queries] = target.conditions[objects]
        weight = torch.ones(logits.shape[2], device=logits.device)
        weight[-1] = config.background_weight
        return F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), weight)
    logits, wanted = [], []
    for answer, target, (queries, objects) in zip(answers, targets, pairs, strict=True):
        found = torch.zeros_like(answer.logits, dtype=torch.float32)  # [Q, C]
        found[queries, target.conditions[objects]] = 1
        logits.append(answer.logits.float().flatten())
        wanted.append(found.flatten())
    logits, wanted = torch.cat(logits), torch.cat(wanted)
    positives = wanted.sum()
    return F.binary_cross_entropy_with_logits(logits, wanted, pos_weight=(len(wanted) - positives) / positives)


def text_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the next token, logits [N, T, V] and labels int64 [N, T] with IGNORE where nothing is asked."""
    return F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=IGNORE)
