"""A quick look at PSALM in training: figures of each task on some photos, from questions as in training.

Everything is measured on the square input, without variation of the photos and always with the same questions.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from anygrain.categories import guess_thing
from anygrain.data.loader import open_sources
from anygrain.data.mixture import MixtureConfig
from anygrain.data.psalm_batch import PSALMBatch, PSALMDataset
from anygrain.data.psalm_tasks import PSALMBatchConfig
from anygrain.data.transforms import AugmentConfig
from anygrain.eval.panoptic import PanopticQuality
from anygrain.models.psalm import postprocess
from anygrain.models.psalm.loss import Target
from anygrain.models.psalm.prompts import IGNORE
from anygrain.recipes.sources import find_sources
from anygrain.resize import Resize

if TYPE_CHECKING:
    from anygrain.data.psalm_tasks import Asked
    from anygrain.models.psalm.network import PSALM, Answer

_TOGETHER = 4  # photos of a batch


@torch.no_grad()
def evaluate_psalm(
    model: PSALM, data: str | Path, batch: PSALMBatchConfig, photos: int, mixture: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Figures by task, for those that ``batch`` trains.

    model: in eval mode. data: folders of shards. photos: at most so many of each task, at least four. mixture: weights
        of sources, by which photos are drawn.

    "panoptic/pq": panoptic quality; "panoptic/iou": IoU of each mask and the query nearest to it, whatever its name;
    "panoptic/named": part of these queries of which the best name is right. "referring/iou", "interactive/iou": of the
    query with the best score, with what is there; "referring/absent": mean score of phrases that mean nothing.
    "chat/loss", "chat/accuracy": cross-entropy, and part of the answers' tokens that are foretold.
    """
    still = AugmentConfig(scale=(1.0, 1.0), flip=0.0, jitter=0.0)
    folders = find_sources(data)
    figures: dict[str, float] = {}
    for task, weight in sorted(batch.tasks.items()):
        if not weight:
            continue
        alone = dataclasses.replace(batch, tasks={task: 1.0}, augment=still).of_model(model.config)
        weights = MixtureConfig(weights=mixture or {}).of(folders)
        dataset = PSALMDataset(open_sources(folders), weights, alone, images=_TOGETHER, seed=1)
        meter = _Meter(model)
        for step in range(max(1, photos // _TOGETHER)):
            meter.update(dataset[step].to(model.device))
        figures |= {f"{task}/{name}": value for name, value in meter.compute().items()}
    return figures


class _Meter:
    """Sums up one task."""

    def __init__(self, model: PSALM):
        self.model = model
        self.values: dict[str, list[float]] = defaultdict(list)
        self.quality: PanopticQuality | None = None
        size = (model.config.input_size, model.config.input_size)
        self.resize = Resize.corner(size, size[0])

    def update(self, batch: PSALMBatch) -> None:
        """Ask a batch."""
        output: Any = batch.decode(self.model, batch.encode(self.model, batch.pixels), None)
        if isinstance(output, tuple):
            self._text(*output)
            return
        for asked, answer, target in zip(batch.asked, output[-1], batch.targets, strict=True):
            if batch.task == "panoptic":
                self._categories(asked, answer, target)
            else:
                self._conditions(answer, target)

    def compute(self) -> dict[str, float]:
        """Means."""
        figures = {name: float(np.mean(values)) for name, values in sorted(self.values.items())}
        return figures | ({} if self.quality is None else {"pq": self.quality.compute().get("pq", 0.0)})

    def _text(self, logits: Tensor, labels: Tensor) -> None:
        wanted = labels[:, 1:].flatten()
        known = wanted != IGNORE
        logits, wanted = logits[:, :-1].flatten(0, 1)[known].float(), wanted[known]
        self.values["loss"] += torch.nn.functional.cross_entropy(logits, wanted, reduction="none").tolist()
        self.values["accuracy"] += (logits.argmax(1) == wanted).float().tolist()

    def _conditions(self, answer: Answer, target: Target) -> None:
        for row in range(answer.logits.shape[1]):
            chance = answer.logits[:, row].float().sigmoid()
            _, score, grown = postprocess.best_query(chance, answer.mask_logits.float(), self.resize)
            truth = target.masks[target.conditions == row]
            if len(truth):
                self.values["iou"].append(_iou((grown > 0)[None], truth.bool(), target.unknown)[0, 0])
            else:
                self.values["absent"].append(score)

    def _categories(self, asked: Asked, answer: Answer, target: Target) -> None:
        masks = postprocess.enlarge(answer.mask_logits, self.resize) > 0
        iou = _iou(masks, target.masks.bool(), target.unknown)  # [Q, K]
        nearest = iou.argmax(0)
        self.values["iou"] += iou.max(0).tolist()
        said = answer.logits[nearest, :-1].argmax(1).cpu()
        self.values["named"] += (said == target.conditions.cpu()).float().tolist()
        things = [not asked.semantic and guess_thing(name) for name in asked.words]
        config = self.model.config
        found = postprocess.panoptic(
            answer.logits,
            answer.mask_logits,
            torch.tensor(things, device=answer.logits.device),
            self.resize,
            sure=config.keep_probability,
            left=config.keep_overlap,
        )
        truth = torch.zeros(self.resize.source, dtype=torch.int32)
        for number, mask in enumerate(target.masks, 1):  # from large to small
            truth[mask.bool().cpu()] = number
        names = {n: asked.words[c] for n, c in enumerate(target.conditions.tolist(), 1) if (truth == n).any()}
        self.quality = self.quality or PanopticQuality()
        drawn = {number: asked.words[category] for number, category in enumerate(found.categories, 1)}
        self.quality.update(found.segment_map.cpu().numpy(), drawn, truth.numpy(), names)


def _iou(masks: Tensor, truth: Tensor, unknown: Tensor | None) -> np.ndarray:
    """IoU of bool [Q, H, W] with bool [K, H, W], unknown pixels bool [H, W] left out: float64 [Q, K]."""
    known = torch.ones_like(truth[0]) if unknown is None else ~unknown
    a, b = (maps[:, known].double() for maps in (masks, truth))
    shared = a @ b.T
    return (shared / (a.sum(1)[:, None] + b.sum(1) - shared).clamp(min=1)).cpu().numpy()
