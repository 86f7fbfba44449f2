"""Semantic-SAM's training: which token answers for which mask, and what its answer costs.

Paper: Li et al., arXiv 2307.04767. Many-to-many: all masks that a click lies in are its targets, and each finds a token
of its own; many-to-one: a target takes the token that fits it best. Computed as the released code does (a study of it
is the specification), with what it left out: names are learnt in many-to-many too, from the images that have any.

Shapes: B images, N prompts, T tokens of a prompt, M target masks, K pairs of a prompt and one of its targets, P points,
O object or part names, D channels of pixel embeddings. Boxes are (cx, cy, w, h) in 0..1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from anygrain.models.losses import IGNORE, focal
from anygrain.models.matching import assign_each, box_costs, generalised_iou, mask_costs
from anygrain.models.point_losses import each_point_loss, sample_labels, sample_points, uncertain_points

if TYPE_CHECKING:
    from anygrain.models.semantic_sam import LayerOutput


@dataclass(frozen=True, kw_only=True)
class PromptLossConfig:
    """How prompts are trained; the defaults are the released recipe's, and what it would have weighed names with.

    matching: "many_to_many", or "many_to_one" (SAM's way).
    points: random points P at which masks are compared.
    cross_entropy, dice, box, giou: weights of the losses and of the costs of matching.
    iou, objects, parts: weights of the losses of the predicted IoU and of names.
    """

    matching: Literal["many_to_many", "many_to_one"] = "many_to_many"
    points: int = 12544
    cross_entropy: float = 5.0
    dice: float = 5.0
    box: float = 5.0
    giou: float = 2.0
    iou: float = 1.0
    objects: float = 4.0
    parts: float = 4.0


class Targets(Protocol):
    """What the losses read of a batch (``data.clicks.ClickBatch``).

    image_index: int64 [N], the image of each prompt, ascending.
    masks: uint8 [M, H, W], 1 inside, 0 outside, 255 unknown; all 255 where only the box is known, which then has no
        part in the losses of masks and of the predicted IoU. mask_boxes: float32 [M, 4]. mask_image: int64 [M].
    pair_prompt: int64 [K], ascending, each prompt at least once and at most T times; pair_mask: int64 [K].
    object_labels, part_labels: uint8 [M, O], 1 what a mask is called, 0 what it is not, 255 unknown.
    object_others, part_others: uint8 [B, O], the labels of tokens that answer for no mask: 0 or 255.
    """

    image_index: Tensor
    masks: Tensor
    mask_boxes: Tensor
    mask_image: Tensor
    pair_prompt: Tensor
    pair_mask: Tensor
    object_labels: Tensor
    part_labels: Tensor
    object_others: Tensor
    part_others: Tensor


class Pairs(NamedTuple):
    """Which token of which prompt answers for which mask: int64 [K] each. token: None where each layer chooses."""

    prompt: Tensor
    token: Tensor | None
    mask: Tensor


class Answers(NamedTuple):
    """What one layer answers. output: boxes, IoU and mask embeddings. objects, parts: logits [N, T, O], or None."""

    output: LayerOutput
    objects: Tensor | None = None
    parts: Tensor | None = None


def prompt_losses(
    layers: Sequence[Answers], mask_features: Tensor, targets: Targets, config: PromptLossConfig
) -> dict[str, Tensor]:
    """Weighted losses by kind, each summed over the layers.

    layers: first layer first. mask_features: float32 [B, D, h, w].
    """
    last, mask_features = layers[-1], mask_features.float()
    pairs = Pairs(targets.pair_prompt, None, targets.pair_mask)
    if config.matching == "many_to_many":
        pairs = match(last.output, mask_features, targets, config)  # of the last layer, for all
    totals: dict[str, Tensor] = {}
    for answers in (last, *layers[:-1]):
        for name, loss in layer_losses(answers, mask_features, targets, config, pairs).items():
            totals[name] = totals.get(name, 0.0) + getattr(config, name) * loss
    return totals


# ---------------------------------------------------------------------------------------------------- many-to-many


@torch.no_grad()
def match(output: LayerOutput, mask_features: Tensor, targets: Targets, config: PromptLossConfig) -> Pairs:
    """The cheapest choice of a token for each target, different ones for the targets of a prompt; tokens ascend.

    Raises ValueError when a prompt has more targets than there are tokens.
    """
    prompts = len(output.boxes)
    counts = torch.bincount(targets.pair_prompt, minlength=prompts)
    cost = matching_costs(output, mask_features, targets, config)
    tokens = assign_each(cost, counts.tolist())
    order = (targets.pair_prompt * cost.shape[1] + tokens).argsort()
    return Pairs(targets.pair_prompt[order], tokens[order], targets.pair_mask[order])


@torch.no_grad()
def matching_costs(output: LayerOutput, mask_features: Tensor, targets: Targets, config: PromptLossConfig) -> Tensor:
    """What each token costs as the answer for each target of its own prompt: [N, T, most targets of a prompt].

    Columns beyond a prompt's number of targets mean nothing. Masks are compared at P points an image.
    """
    table = _targets_of_prompts(targets, len(output.boxes))  # [N, C]
    points = torch.rand(len(mask_features), config.points, 2, device=mask_features.device)
    embeddings = torch.stack(
        [sample_points(row, point[None]) for row, point in zip(mask_features, points, strict=True)]
    )
    logits = output.mask_embeds.float() @ embeddings[targets.image_index]  # masks are linear in them: [N, T, P]
    every = torch.arange(len(targets.masks), device=points.device)
    wanted, known = sample_labels(targets.masks, every, points[targets.mask_image])
    cross_entropy, dice = mask_costs(logits, wanted[table], known[table])
    distance, overlap = box_costs(output.boxes.float(), targets.mask_boxes[table])
    # The released code adds -GIoU where this adds 1 - GIoU; what is cheapest stays the same.
    masks = config.cross_entropy * cross_entropy + config.dice * dice
    return masks + config.box * distance + config.giou * (overlap - 1)


def _targets_of_prompts(targets: Targets, prompts: int) -> Tensor:
    """int64 [N, C]: the masks of each prompt, filled up with 0."""
    counts = torch.bincount(targets.pair_prompt, minlength=prompts)
    place = (
        torch.arange(len(targets.pair_prompt), device=counts.device) - (counts.cumsum(0) - counts)[targets.pair_prompt]
    )
    table = counts.new_zeros(prompts, int(counts.max()))
    table[targets.pair_prompt, place] = targets.pair_mask
    return table


# ---------------------------------------------------------------------------------------------------- losses


def layer_losses(
    answers: Answers, mask_features: Tensor, targets: Targets, config: PromptLossConfig, pairs: Pairs
) -> dict[str, Tensor]:
    """The losses of one layer, not weighted, means over the pairs (of masks and of the predicted IoU, over those pairs
    whose mask is known at some point).

    pairs: of ``match``, or without tokens: then each target takes the one whose mask fits it best in this layer.
    """
    output, (prompt, tokens, mask) = answers.output, pairs
    wanted = targets.mask_boxes[mask]
    if tokens is None:
        embeds = output.mask_embeds[prompt]  # [K, T, D]
        tokens_of = embeds.shape[1]
        rows = prompt.repeat_interleave(tokens_of), mask.repeat_interleave(tokens_of)
        both = _mask_losses(embeds.flatten(0, 1), *rows, mask_features, targets, config)
        both = torch.stack(both, -1).unflatten(0, (-1, tokens_of))  # [K, T, 3]
        by_box = (output.boxes[prompt].float() - wanted[:, None]).abs().sum(-1)
        tokens = torch.where(both[..., 2] > 0, both[..., :2].sum(-1), by_box).argmin(1)
        cross_entropy, dice, masked = both[torch.arange(len(mask), device=mask.device), tokens].unbind(-1)
    else:
        embeds = output.mask_embeds[prompt, tokens]
        cross_entropy, dice, masked = _mask_losses(embeds, prompt, mask, mask_features, targets, config)
    boxes = output.boxes[prompt, tokens].float()

    def of_masks(losses: Tensor) -> Tensor:
        return (losses * masked).sum() / masked.sum().clamp(min=1)

    losses = {
        "cross_entropy": of_masks(cross_entropy),
        "dice": of_masks(dice),
        "box": (boxes - wanted).abs().sum(-1).mean(),
        "giou": (1 - generalised_iou(boxes, wanted)).mean(),
        # The gradient reaches the mask too, as in the released code.
        "iou": of_masks((output.predicted_iou[prompt, tokens].float() - (1 - dice)).square()),
    }
    for name, logits, labels, others in (
        ("objects", answers.objects, targets.object_labels, targets.object_others),
        ("parts", answers.parts, targets.part_labels, targets.part_others),
    ):
        if logits is not None and logits.shape[-1]:
            known = labels[mask], others[targets.image_index]
            losses[name] = name_loss(logits, *known, prompt, tokens, config.matching)
    return losses


def _mask_losses(
    embeds: Tensor,
    prompt: Tensor,
    mask: Tensor,
    mask_features: Tensor,
    targets: Targets,
    config: PromptLossConfig,
) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropy and Dice of R masks, [R] each: mask embeddings [R, D] of prompts [R] against target masks [R].

    Third: 1.0 where the target mask is known at any of the points, 0.0 for the others, whose losses are 0.
    """
    counts = torch.bincount(targets.image_index[prompt], minlength=len(mask_features))
    parts = zip(embeds.float().split(counts.tolist()), mask_features.float(), strict=True)
    logits = torch.cat([torch.einsum("rd,dhw->rhw", rows, features) for rows, features in parts])
    points = uncertain_points(logits, config.points)
    wanted, known = sample_labels(targets.masks, mask, points)
    return *each_point_loss(sample_points(logits, points), wanted, known), known.any(1).float()


def name_loss(
    logits: Tensor,
    labels: Tensor,
    others: Tensor,
    prompt: Tensor,
    tokens: Tensor,
    matching: Literal["many_to_many", "many_to_one"],
) -> Tensor:
    """Focal loss of names, over the number of pairs of which something is known (at least 1).

    logits: [N, T, O]. labels: uint8 [K, O], of the pairs. others: uint8 [N, O], of each prompt's tokens without target.
    prompt, tokens: int64 [K], which token a pair is. Many-to-many trains also the tokens without target, as the
    released code would; many-to-one the pairs alone, T times as much.
    """
    pairs = (labels != IGNORE).any(-1).sum().clamp(min=1)
    if matching == "many_to_one":
        return logits.shape[1] * focal(logits[prompt, tokens], labels).sum() / pairs
    every = others[:, None].repeat(1, logits.shape[1], 1)
    every[prompt, tokens] = labels
    return focal(logits, every).sum() / pairs
