"""From annotated photos to one training batch: which captions are asked, and what the answer is.

B images, N prompts, S side of the training square.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from PIL import Image

from anygrain.data import language, transforms
from anygrain.data.absent import near
from anygrain.data.boxes import only_boxed
from anygrain.data.labels import Candidate, Labels, absent_candidates, open_photo, present_candidates
from anygrain.data.referring import false_phrases, true_phrases
from anygrain.data.transforms import IGNORE, AugmentConfig, View
from anygrain.data.views import scene_of
from anygrain.types import Sample

_POINTING_RATIO = 0.8  # part of the true phrases that mean one thing among others, where there is one to mean


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """What one batch holds.

    size: side S of the training square in pixels.
    prompts_per_image: a batch of B images asks exactly B times this many prompts.
    absent_ratio: part of the prompts that name a category the photo certainly does not show (empty target).
    phrase_ratio: part of the other prompts that are phrases generated from place, size, colour and neighbours; half
        as many of these as ``absent_ratio`` says are false. This where there are several things of a name; elsewhere,
        where hardly more can be said than "the road and the car", a quarter of it.
    paraphrase: say categories and salient objects in many ways, not only in the paper's (Table 1).
    boxes: ask also about things of which only a box is known, or only that they are there.
    mosaic: probability that a photo is asked about as one of 2 to 4 in one picture, by categories and phrases only.
    copy_paste: probability that objects of another photo are pasted into it, with the same consequence; none of both
        happens to a photo without a mask of a category.
    mean, std: input normalisation in units of 255, as in the model's config; the trainer puts the model's own here.
    augment: variation of photo, masks and captions together.
    """

    size: int = 384
    prompts_per_image: int = 4
    absent_ratio: float = 0.0
    phrase_ratio: float = 0.0
    paraphrase: bool = False
    boxes: bool = False
    mosaic: float = 0.0
    copy_paste: float = 0.0
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self):
        for name, least in (("size", 1), ("prompts_per_image", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for name in ("absent_ratio", "phrase_ratio", "mosaic", "copy_paste"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in 0..1, got {getattr(self, name)}")
        if self.mosaic + self.copy_paste > 1:
            raise ValueError(f"mosaic {self.mosaic} and copy_paste {self.copy_paste} must not be more than 1 together")

    def of_model(self, model: Any) -> BatchConfig:
        """The same with the normalisation of a model's config."""
        return dataclasses.replace(self, mean=model.mean, std=model.std)


T = TypeVar("T", bound="TensorBatch")


class TensorBatch:
    """A frozen dataclass of tensors, and of things that stay where they are."""

    def to(self: T, device: torch.device | str) -> T:
        """The same batch with its tensors on another device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self: T) -> T:
        """The same batch in page-locked memory (called by torch's DataLoader)."""
        return self._map(torch.Tensor.pin_memory)

    def encode(self, model: Any, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What the model makes of the pictures alone, without a gradient while its image encoder is frozen."""
        return model.encode_image(pixels)

    def _map(self: T, function: Any) -> T:
        fields = ((f.name, getattr(self, f.name)) for f in dataclasses.fields(self))  # type: ignore[arg-type]
        return type(self)(**{name: function(v) if isinstance(v, torch.Tensor) else v for name, v in fields})


@dataclass(frozen=True)
class Batch(TensorBatch):
    """One training batch.

    pixels: float32 [B, 3, S, S], normalised; zero (the mean colour) in the padding.
    valid: bool [B, S, S], False in the padding.
    texts: N captions.
    image_index: int64 [N], the row of ``pixels`` that each caption is about.
    targets: uint8 [N, S, S]: 1 inside, 0 outside, 255 unknown (ignored regions and padding).
    present: bool [N], False when the caption names something that is not in the photo.
    boxed: bool [N], True where the 1s of the target are boxes around the thing, not its mask.
    """

    pixels: torch.Tensor
    valid: torch.Tensor
    texts: tuple[str, ...]
    image_index: torch.Tensor
    targets: torch.Tensor
    present: torch.Tensor
    boxed: torch.Tensor

    def decode(self, model: Any, features: tuple[torch.Tensor, ...], texts: Any) -> Any:
        """The model's answers. texts: of ``model.encode_text``."""
        return model.decode(features, texts, self.image_index)


def usable(sample: Sample, *, boxes: bool = False) -> bool:
    """Whether anything at all can be asked about the sample; boxes as in ``present_candidates``."""
    return bool(present_candidates(sample, boxes=boxes) or absent_candidates(sample))


def make_batch(samples: Sequence[Sample], config: BatchConfig, rng: np.random.Generator) -> Batch:
    """Ask about each photo and answer from its masks.

    One random caption an object and pass. Every photo gets ``prompts_per_image`` prompts; one with fewer things to ask
    leaves its places to the others of the batch, and only when all are exhausted is a thing asked twice. So N is fixed.
    Raises ValueError when nothing can be asked about a sample (see ``usable``).
    """
    plans = _plan(samples, config, rng)
    rows = [_build(sample, plan, config, rng) for sample, plan in zip(samples, plans, strict=True)]
    pixels = torch.from_numpy(np.stack([row.pixels for row in rows]))  # [B, S, S, 3]
    asked = [prompt for row in rows for prompt in row.asked]
    return Batch(
        pixels=pixels.permute(0, 3, 1, 2),  # [B, 3, S, S] in channels_last layout, without a copy
        valid=torch.from_numpy(np.stack([row.valid for row in rows])),
        texts=tuple(prompt.text for prompt in asked),
        image_index=torch.from_numpy(np.repeat(np.arange(len(rows)), [len(row.asked) for row in rows])),
        targets=torch.from_numpy(np.stack([prompt.target for prompt in asked])),
        present=torch.tensor([prompt.present for prompt in asked]),
        boxed=torch.tensor([prompt.boxed for prompt in asked]),
    )


@dataclass(frozen=True)
class _Plan:
    """What is asked about a photo. phrases: how many of the last candidates may give way to generated phrases."""

    candidates: list[Candidate]
    phrases: int


def _plan(samples: Sequence[Sample], config: BatchConfig, rng: np.random.Generator) -> list[_Plan]:
    """What is asked about each photo; B * prompts_per_image candidates in all."""
    present = [present_candidates(sample, boxes=config.boxes) for sample in samples]
    absent = [absent_candidates(sample) for sample in samples]
    for sample, there, missing in zip(samples, present, absent, strict=True):
        if not there and not missing:
            raise ValueError(f"sample {sample.id!r} has no mask with a caption or category: leave it out of the shards")
    several = [_has_several(sample) for sample in samples]
    more = 2 * config.prompts_per_image if config.phrase_ratio else 1  # so much can be said where there are several
    available = [max(len(there), more if many else 1) for there, many in zip(present, several, strict=True)]
    quotas = share(available, config.prompts_per_image)
    names = [_names(there) for there in present]
    shown = set[str]().union(*names)
    plans = []
    for quota, there, missing, many, own in zip(quotas, present, absent, several, names, strict=True):
        negatives = min(len(missing), int(rng.binomial(quota, config.absent_ratio))) if there else quota
        named = many or any(candidate.category is not None and candidate.known == "mask" for candidate in there)
        ratio = config.phrase_ratio if many else config.phrase_ratio / 4
        phrases = int(rng.binomial(quota - negatives, ratio)) if named else 0
        chosen = _pick_absent(missing, negatives, own, shown, rng) + _pick(there, quota - negatives, rng)
        plans.append(_Plan(chosen, phrases))
    return plans


def _has_several(sample: Sample) -> bool:
    """Whether there are several things of a name, all of them known one by one, so that one can be meant among them."""
    things = [region for region in sample.regions if region.instance is not None or only_boxed(region)]
    counts = Counter(region.category for region in things if region.mask is not None or region.box is not None)
    return any(count > 1 and name in sample.exhaustive for name, count in counts.items())


def _pick(candidates: list[Candidate], count: int, rng: np.random.Generator) -> list[Candidate]:
    """``count`` of them at random; each once before any comes twice."""
    picked: list[Candidate] = []
    while len(picked) < count:
        order = rng.permutation(len(candidates))[: count - len(picked)]
        picked += [candidates[i] for i in order]
    return picked


def _pick_absent(
    missing: list[Candidate], count: int, own: set[str], shown: set[str], rng: np.random.Generator
) -> list[Candidate]:
    """``count`` of the missing: hard ones (false phrases, names close to an ``own`` one), ``shown`` ones, and any.

    own, shown: readable names of what the photo shows, and of what all photos of the batch show. A name is so asked in
    vain as often, in proportion, as it is asked about what is there: of 80 names drawn alike, "person" would nearly
    always be there when it is asked for.
    """
    if not count:
        return []
    hard = [c for c in missing if c.category is None or near(language.readable(c.category), own)]
    known = [c for c in missing if c.category is not None and language.readable(c.category) in shown]
    from_hard = int(rng.binomial(count, 0.4)) if hard else 0
    from_known = int(rng.binomial(count - from_hard, 0.6)) if known else 0
    return (
        _pick(hard, from_hard, rng)
        + _pick(known, from_known, rng)
        + _pick(missing, count - from_hard - from_known, rng)
    )


def _names(candidates: Sequence[Candidate]) -> set[str]:
    """Readable names of the categories among candidates."""
    return {language.readable(candidate.category) for candidate in candidates if candidate.category is not None}


def share(available: Sequence[int], each: int) -> list[int]:
    """Deal out ``each`` places a photo: first what each can use, then the rest to those that can use more.

    >>> share([1, 9, 4], 4)
    [1, 7, 4]
    """
    quotas = [min(count, each) for count in available]
    left = each * len(available) - sum(quotas)
    while left:
        takers = [i for i, count in enumerate(available) if quotas[i] < count] or list(range(len(available)))
        for i in takers[:left]:
            quotas[i] += 1
        left -= min(left, len(takers))
    return quotas


@dataclass(frozen=True)
class _Asked:
    text: str
    target: np.ndarray  # uint8 [S, S]
    present: bool
    boxed: bool = False


@dataclass(frozen=True)
class _Row:
    pixels: np.ndarray  # float32 [S, S, 3]
    valid: np.ndarray  # bool [S, S]
    asked: list[_Asked]


def _build(sample: Sample, plan: _Plan, config: BatchConfig, rng: np.random.Generator) -> _Row:
    """The pixels and targets of one photo under one random view."""
    augment, chosen, maps = config.augment, plan.candidates, Labels(sample)
    labels = [maps.of(candidate) for candidate in chosen]
    targets = [(map_ == 1, c.category is None) for map_, c in zip(labels, chosen, strict=True) if (map_ == 1).any()]
    view = transforms.choose_view(sample.size, config.size, targets, augment, rng)
    image = view.image(open_photo(sample))
    phrases = _phrases(sample, plan.phrases, view, np.asarray(image), maps, config, rng)
    asked = [
        _ask(candidate, map_, view, config, rng)
        for candidate, map_ in zip(chosen[: len(chosen) - len(phrases)], labels, strict=False)
    ]
    asked += phrases
    if augment.jitter and not any(transforms.names_colour(prompt.text) for prompt in asked):
        image = transforms.jitter_colours(image, augment.jitter, rng)
    content = normalised(image, *(np.asarray(values, np.float32) * 255 for values in (config.mean, config.std)))
    if augment.hide_and_seek:
        transforms.hide_patches(content, augment.hide_and_seek, rng)
    return _Row(pixels=view.place(content, 0.0), valid=view.place(np.ones(content.shape[:2], bool), False), asked=asked)


def normalised(image: Image.Image, mean: ArrayLike, std: ArrayLike) -> np.ndarray:
    """A picture as float32 [h, w, 3], less the mean and over the deviation, both in 0..255."""
    mean, std = np.asarray(mean, np.float32), np.asarray(std, np.float32)
    return (np.asarray(image, np.float32) - mean) * (1 / std)


def _ask(candidate: Candidate, labels: np.ndarray, view: View, config: BatchConfig, rng: np.random.Generator) -> _Asked:
    """A candidate's caption and its labels [H, W] as the view shows them."""
    text = _say(candidate, config, rng)
    target, present = view.labels(labels), bool(candidate.regions)
    if present and not (target == 1).any():  # so small that sampling lost it: that says nothing of its surroundings
        target = np.full_like(target, IGNORE)
    return _Asked(transforms.swap_sides(text) if view.flip else text, target, present, candidate.known == "box")


def _phrases(
    sample: Sample,
    count: int,
    view: View,
    pixels: np.ndarray,
    maps: Labels,
    config: BatchConfig,
    rng: np.random.Generator,
) -> list[_Asked]:
    """Up to ``count`` generated phrases about what the view shows (pixels [h, w, 3]), some of them false."""
    if not count:
        return []
    scene = scene_of(sample, view, pixels, maps)
    # Half as many false ones as elsewhere: they say left, right and numbers more often than the true ones do, and these
    # words alone must not become a reason to answer "not there".
    false = false_phrases(scene, rng, int(rng.binomial(count, config.absent_ratio / 2)))
    asked = [_Asked(phrase.text, view.place(np.zeros(scene.size, np.uint8), IGNORE), False) for phrase in false]
    wanted = count - len(false)
    for phrase in true_phrases(scene, rng, wanted, pointing=int(rng.binomial(wanted, _POINTING_RATIO))):
        target = np.where(phrase.mask, np.uint8(1), np.where(phrase.unknown, np.uint8(IGNORE), np.uint8(0)))
        asked.append(_Asked(phrase.text, view.place(target, IGNORE), True, phrase.boxed))
    return asked


def _say(candidate: Candidate, config: BatchConfig, rng: np.random.Generator) -> str:
    """A random one of the natural captions, or a way to say the category: the paper's (Table 1), or any."""
    if candidate.category is None:
        text = candidate.captions[rng.integers(len(candidate.captions))]
        return language.say_salient(rng) if text == language.SALIENT and config.paraphrase else text
    if not config.paraphrase:
        return language.all_category(candidate.category)
    return language.say_category(language.readable(candidate.category), rng, len(candidate.regions) or None)
