"""From annotated photos to one training batch: which captions are asked, and what the answer is.

B images, N prompts, S side of the training square.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from anygrain.data import transforms
from anygrain.data.labels import Candidate, Labels, absent_candidates, open_photo, present_candidates
from anygrain.data.transforms import IGNORE, AugmentConfig
from anygrain.types import Sample


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """What one batch holds.

    size: side S of the training square in pixels.
    prompts_per_image: a batch of B images asks exactly B times this many prompts.
    absent_ratio: part of the prompts that name a category the photo certainly does not show (empty target).
    plain_name_ratio: part of the category prompts said as the bare name, or as "the {name}" when there is one region.
    mean, std: input normalisation in units of 255, as in the model's config; the trainer puts the model's own here.
    augment: variation of photo, masks and captions together.
    """

    size: int = 384
    prompts_per_image: int = 4
    absent_ratio: float = 0.0
    plain_name_ratio: float = 0.0
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self):
        for name, least in (("size", 1), ("prompts_per_image", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for name in ("absent_ratio", "plain_name_ratio"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in 0..1, got {getattr(self, name)}")


@dataclass(frozen=True)
class Batch:
    """One training batch.

    pixels: float32 [B, 3, S, S], normalised; zero (the mean colour) in the padding.
    valid: bool [B, S, S], False in the padding.
    texts: N captions.
    image_index: int64 [N], the row of ``pixels`` that each caption is about.
    targets: uint8 [N, S, S]: 1 inside, 0 outside, 255 unknown (ignored regions and padding).
    present: bool [N], False when the caption names something that is not in the photo.
    """

    pixels: torch.Tensor
    valid: torch.Tensor
    texts: tuple[str, ...]
    image_index: torch.Tensor
    targets: torch.Tensor
    present: torch.Tensor

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with its tensors on another device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory (called by torch's DataLoader)."""
        return self._map(torch.Tensor.pin_memory)

    def _map(self, function: Any) -> Batch:
        fields = ((f.name, getattr(self, f.name)) for f in dataclasses.fields(self))
        return Batch(**{name: function(v) if isinstance(v, torch.Tensor) else v for name, v in fields})


def usable(sample: Sample) -> bool:
    """Whether anything at all can be asked about the sample."""
    return bool(present_candidates(sample) or absent_candidates(sample))


def make_batch(samples: Sequence[Sample], config: BatchConfig, rng: np.random.Generator) -> Batch:
    """Ask about each photo and answer from its masks.

    One random caption an object and pass. Every photo gets ``prompts_per_image`` prompts; one with fewer things to ask
    leaves its places to the others of the batch, and only when all are exhausted is a thing asked twice. So N is fixed.
    Raises ValueError when nothing can be asked about a sample (see ``usable``).
    """
    choices = _choose(samples, config, rng)
    rows = [_build(sample, chosen, config, rng) for sample, chosen in zip(samples, choices, strict=True)]
    pixels = torch.from_numpy(np.stack([row.pixels for row in rows]))  # [B, S, S, 3]
    targets = np.concatenate([row.targets for row in rows])
    return Batch(
        pixels=pixels.permute(0, 3, 1, 2),  # [B, 3, S, S] in channels_last layout, without a copy
        valid=torch.from_numpy(np.stack([row.valid for row in rows])),
        texts=tuple(text for row in rows for text in row.texts),
        image_index=torch.from_numpy(np.repeat(np.arange(len(rows)), [len(row.texts) for row in rows])),
        targets=torch.from_numpy(targets),
        present=torch.tensor([there for row in rows for there in row.present]),
    )


def _choose(samples: Sequence[Sample], config: BatchConfig, rng: np.random.Generator) -> list[list[Candidate]]:
    """What is asked about each photo; B * prompts_per_image in all."""
    present = [present_candidates(sample) for sample in samples]
    absent = [absent_candidates(sample) for sample in samples]
    for sample, there, missing in zip(samples, present, absent, strict=True):
        if not there and not missing:
            raise ValueError(f"sample {sample.id!r} has no mask with a caption or category: leave it out of the shards")
    quotas = share([max(1, len(there)) for there in present], config.prompts_per_image)
    chosen = []
    for quota, there, missing in zip(quotas, present, absent, strict=True):
        negatives = min(len(missing), int(rng.binomial(quota, config.absent_ratio))) if there else quota
        chosen.append(_pick(missing, negatives, rng) + _pick(there, quota - negatives, rng))
    return chosen


def _pick(candidates: list[Candidate], count: int, rng: np.random.Generator) -> list[Candidate]:
    """``count`` of them at random; each once before any comes twice."""
    picked: list[Candidate] = []
    while len(picked) < count:
        order = rng.permutation(len(candidates))[: count - len(picked)]
        picked += [candidates[i] for i in order]
    return picked


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
class _Row:
    pixels: np.ndarray  # float32 [S, S, 3]
    valid: np.ndarray  # bool [S, S]
    texts: list[str]
    targets: np.ndarray  # uint8 [n, S, S]
    present: list[bool]


def _build(sample: Sample, chosen: list[Candidate], config: BatchConfig, rng: np.random.Generator) -> _Row:
    """The pixels and targets of one photo under one random view."""
    augment = config.augment
    texts = [_say(candidate, config, rng) for candidate in chosen]
    maps = Labels(sample)
    labels = [maps.of(candidate) for candidate in chosen]
    targets = [(map_ == 1, c.category is None) for map_, c in zip(labels, chosen, strict=True) if c.regions]
    view = transforms.choose_view(sample.size, config.size, targets, augment, rng)
    if view.flip:
        texts = [transforms.swap_sides(text) for text in texts]
    image = view.image(open_photo(sample))
    if augment.jitter and not any(map(transforms.names_colour, texts)):
        image = transforms.jitter_colours(image, augment.jitter, rng)
    mean, std = (np.asarray(values, np.float32) * 255 for values in (config.mean, config.std))
    content = (np.asarray(image, np.float32) - mean) * (1 / std)  # [h, w, 3]
    if augment.hide_and_seek:
        transforms.hide_patches(content, augment.hide_and_seek, rng)
    return _Row(
        pixels=view.place(content, 0.0),
        valid=view.place(np.ones(content.shape[:2], bool), False),
        texts=texts,
        targets=np.stack([_target(view.labels(map_), bool(c.regions)) for map_, c in zip(labels, chosen, strict=True)]),
        present=[bool(candidate.regions) for candidate in chosen],
    )


def _target(target: np.ndarray, present: bool) -> np.ndarray:
    """A thing so small that sampling lost it says nothing about its surroundings: ignore it all."""
    return np.full_like(target, IGNORE) if present and not (target == 1).any() else target


def _say(candidate: Candidate, config: BatchConfig, rng: np.random.Generator) -> str:
    """A random one of the natural captions, or the category in the paper's form (Table 1)."""
    from anygrain.data import language

    if candidate.category is None:
        return candidate.captions[rng.integers(len(candidate.captions))]
    if rng.random() >= config.plain_name_ratio:
        return language.all_category(candidate.category)
    name = language.readable(candidate.category)
    return f"the {name}" if len(candidate.regions) == 1 and rng.random() < 0.5 else name
