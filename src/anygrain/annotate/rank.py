"""How well words fit a mask: CLIP (arXiv 2103.00020) through ``transformers``; and how thresholds are chosen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from anygrain.annotate.hub_teacher import HubTeacher
from anygrain.annotate.origin import changed, trace
from anygrain.annotate.pictures import CLIP_MEAN, CLIP_STD, normalised, only, square
from anygrain.annotate.step import Worker
from anygrain.types import Region, Sample

if TYPE_CHECKING:
    from PIL import Image

Thresholds = tuple[tuple[str, float], ...]
"""(source, threshold) pairs."""


def by_quantile(samples: Iterable[Sample], quantile: float) -> Thresholds:
    """For each source the score below which this part of its scored regions lies: scores of sources do not compare.

    samples: annotated with ``threshold`` 0. Raises ValueError for a quantile outside 0..1.
    """
    if not 0 <= quantile <= 1:
        raise ValueError(f"a quantile lies between 0 and 1, got {quantile}")
    scores: dict[str, list[float]] = {}
    for sample in samples:
        known = [region.score for region in sample.regions if region.score is not None and not region.ignore]
        scores.setdefault(sample.source, []).extend(known)
    return tuple((name, float(np.quantile(values, quantile))) for name, values in sorted(scores.items()) if values)


def by_precision(curve: Iterable[tuple[float, float | None]], wanted: float) -> float | None:
    """The lowest threshold at which precision is at least ``wanted``; None when it never is.

    curve: (threshold, precision) measured on a labelled set, in any order; precision None where nothing was judged.
    """
    enough = [threshold for threshold, precision in curve if precision is not None and precision >= wanted]
    return min(enough, default=None)


@dataclass(frozen=True, kw_only=True)
class ClipTeacher(HubTeacher):
    """CLIP, ViT-B/16 by default."""

    model: str = "openai/clip-vit-base-patch16"
    sizes: ClassVar = {
        "openai/clip-vit-base-patch16": "600 MB",
        "openai/clip-vit-base-patch32": "610 MB",
        "openai/clip-vit-large-patch14": "1.7 GB",
    }

    def load(self, device: str) -> Clip:
        """Read weights and tokenizer."""
        from anygrain.hub import pick_device

        device, transformers = pick_device(device), self.transformers()
        model = self.read(transformers.CLIPModel).to(device).eval().requires_grad_(False)
        return Clip(model, self.read(transformers.AutoTokenizer), device)


class Clip:
    """How well pictures and texts fit.

    model: transformers' CLIPModel in eval mode on ``device``; tokenizer: its own.
    """

    def __init__(self, model: Any, tokenizer: Any, device: str):
        self.model, self.tokenizer, self.device = model, tokenizer, device
        self.side = int(model.config.vision_config.image_size)

    def scores(self, images: Sequence[Image.Image], texts: Sequence[str]) -> np.ndarray:
        """Cosine of each picture, squared with grey, with the text of the same number: float32 [N] in -1..1."""
        import torch
        from PIL import Image

        size = (self.side, self.side)
        small = [square(image).resize(size, Image.Resampling.BICUBIC) for image in images]
        length = self.model.config.text_config.max_position_embeddings
        words = self.tokenizer(list(texts), padding=True, truncation=True, max_length=length, return_tensors="pt")
        with torch.inference_mode():
            output = self.model(
                pixel_values=normalised(small, CLIP_MEAN, CLIP_STD, self.device),
                input_ids=words["input_ids"].to(self.device),
                attention_mask=words["attention_mask"].to(self.device),
            )
            return (output.image_embeds * output.text_embeds).sum(1).float().cpu().numpy()  # both of length 1


@dataclass(frozen=True, kw_only=True)
class Rank:
    """Scores every mask by CLIP against its first caption, or "a photo of a {category}"; low ones go.

    threshold: below it a region is dropped; thresholds: the same for named sources, e.g. from ``by_quantile``.
    context: how much of the mask's box is shown around it.
    batch_size: pairs that go through the model together.
    """

    name: ClassVar[str] = "rank"
    teacher: ClipTeacher = ClipTeacher()
    threshold: float = 0.2
    thresholds: Thresholds = ()
    context: float = 0.1
    batch_size: int = 16

    @property
    def teachers(self) -> tuple[ClipTeacher]:
        """CLIP."""
        return (self.teacher,)

    def __call__(self, samples: list[Sample], worker: Worker) -> list[Sample]:
        """Regions without a mask or without words stay as they are."""
        clip = worker.teacher(self.teacher)
        places = [
            (row, number)
            for row, sample in enumerate(samples)
            for number, region in enumerate(sample.regions)
            if words_of(region) is not None
        ]
        scores = {}
        for start in range(0, len(places), self.batch_size):
            group = [(row, samples[row].regions[number]) for row, number in places[start : start + self.batch_size]]
            pictures = [only(worker.image(samples[row]), r.mask, self.context) for row, r in group if r.mask]
            texts = [str(words_of(region)) for _, region in group]
            here = places[start : start + self.batch_size]
            scores.update(zip(here, clip.scores(pictures, texts).tolist(), strict=True))
        return [
            changed(sample, above(self, sample, {n: s for (r, n), s in scores.items() if r == row}, worker))
            for row, sample in enumerate(samples)
        ]


def above(step: Any, sample: Sample, scores: dict[int, float], worker: Worker) -> list[Region]:
    """The regions of a sample with new scores, by number, without those below the threshold of the sample's source."""
    threshold = dict(step.thresholds).get(sample.source, step.threshold)
    kept = []
    for number, region in enumerate(sample.regions):
        score = scores.get(number)
        if score is None:
            kept.append(region)
        elif score < threshold:
            worker.drop(step.name, "score below threshold")
        else:
            kept.append(trace(region, step.name, step.teachers, score, score=score))
    return kept


def words_of(region: Region) -> str | None:
    """What CLIP is asked about a mask; None when there is no mask or nothing to say."""
    from anygrain.data.language import readable

    if region.mask is None or region.mask.area == 0 or region.ignore:
        return None
    if region.captions:
        return region.captions[0]
    return None if region.category is None else f"a photo of a {readable(region.category)}"
