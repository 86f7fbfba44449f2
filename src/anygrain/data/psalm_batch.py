"""Batches of PSALM's tasks: one task a batch, in fixed proportions (paper §4.1: joint training).

B images, M masks of all images together, R regions, S side of the training square, T ids of a chat.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from anygrain.data.batch import TensorBatch
from anygrain.data.loader import Source, StepDataset, annotation, some_annotations
from anygrain.data.mixture import Mixture, MixtureConfig
from anygrain.data.psalm_tasks import MAKE, SERVES, Asked, Example, PSALMBatchConfig
from anygrain.models.psalm import prompts
from anygrain.models.psalm.loss import Target
from anygrain.types import Sample

if TYPE_CHECKING:
    from anygrain.models.psalm.network import PSALM

_LOOKED_AT = 64  # samples of a source by which it is seen what it can teach
TEXT_TASKS = ("chat", "caption")


@dataclass(frozen=True)
class PSALMBatch(TensorBatch):
    """One batch of one task.

    pixels: float32 [B, 3, S, S], normalised. asked: B questions in words.
    masks: uint8 [M, S, S], 1 inside; conditions: int64 [M], the category or region of each, 0 for a phrase; counts: how
    many of them are of each photo. unknown: bool [B, S, S].
    marks: bool [R, S, S], the regions asked for; as many of a photo as it has masks, none in other tasks.
    """

    pixels: Tensor
    task: str
    asked: tuple[Asked, ...]
    masks: Tensor
    conditions: Tensor
    counts: tuple[int, ...]
    unknown: Tensor
    marks: Tensor
    most_tokens: int

    texts: tuple[str, ...] = ()
    """Nothing is read by a text encoder of its own."""

    @property
    def targets(self) -> list[Target]:
        """The answer to each question."""
        parts = zip(self.masks.split(self.counts), self.conditions.split(self.counts), self.unknown, strict=True)
        return [Target(masks, conditions, unknown if unknown.any() else None) for masks, conditions, unknown in parts]

    def questions(self, tokenizer: prompts.PhiTokenizer) -> tuple[list[prompts.Question], list[tuple[int, ...]]]:
        """The questions as ids; and, for chats, a label for each id."""
        if self.task in TEXT_TASKS:
            pairs = [self._said(tokenizer, asked.words) for asked in self.asked]
            return [question for question, _ in pairs], [labels for _, labels in pairs]
        if self.task == "panoptic":
            return [
                prompts.about_categories(tokenizer, asked.words, semantic=asked.semantic, order=asked.order)
                for asked in self.asked
            ], []
        if self.task == "referring":
            return [prompts.about_phrase(tokenizer, [_sentence(w) for w in asked.words]) for asked in self.asked], []
        return [prompts.about_regions(tokenizer, count) for count in self.counts], []

    def _said(self, tokenizer: prompts.PhiTokenizer, words: Sequence[str]) -> tuple[prompts.Question, tuple[int, ...]]:
        if self.task == "caption":
            return prompts.about_caption(tokenizer, words[0], self.most_tokens)
        turns = list(zip(words[::2], words[1::2], strict=True))
        return prompts.about_chat(tokenizer, turns, self.most_tokens)

    def encode(self, model: PSALM, pixels: Tensor) -> tuple[Tensor, ...]:
        """The image encoder's maps."""
        return model.image_encoder(pixels)

    def decode(self, model: PSALM, features: tuple[Tensor, ...], _texts: None) -> Any:
        """Answers of every level; for chats the logits of next words, and their labels."""
        assert model.tokenizer is not None
        questions, labels = self.questions(model.tokenizer)
        if labels:
            return model.next_words(features, questions), model.labels(questions, labels)
        marks = self.marks.split(self.counts) if self.task == "interactive" else ()
        return model.levels(features, questions, marks)


def _sentence(phrase: str) -> str:
    """As a phrase is asked at inference."""
    return phrase.strip().rstrip(".")


class PSALMDataset(StepDataset[PSALMBatch]):
    """The batch of every step of a run, in any order; item i depends on (seed, i) only.

    Each task has a mixture of its own, of the sources that can teach it.
    Raises ValueError when no source teaches a task that has a weight.
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        mixture: MixtureConfig,
        batch: PSALMBatchConfig,
        *,
        images: int,
        seed: int,
    ):
        super().__init__(sources, mixture, images=images, seed=seed)
        self.batch = batch
        weights = {task: weight for task, weight in batch.tasks.items() if weight > 0}
        self.tasks = Mixture(dict.fromkeys(weights, 1), MixtureConfig(weights=weights), seed)
        self.mixtures = {
            task: self._mixture(task, mixture, seed + number + 1) for number, task in enumerate(sorted(weights))
        }

    def _mixture(self, task: str, mixture: MixtureConfig, seed: int) -> Mixture:
        sizes = {name: len(source) for name, source in self.sources.items() if _teaches(source, task)}
        own = mixture.of(sizes)
        if not any(own.weights.get(name, 1.0) > 0 for name in sizes):
            raise ValueError(
                f"no source has anything for the task {task!r}: add one, or give the task the weight 0 "
                f"(there are {', '.join(sorted(self.sources))})"
            )
        return Mixture(sizes, own, seed)

    def __getitem__(self, step: int) -> PSALMBatch:
        """The batch of step ``step`` (from 0)."""
        task, earlier = self.tasks.turn(step)
        rng, slots = self.numbers(4, step), self.positions(earlier)
        examples = [self._example(task, slot, rng) for slot in slots]
        while task == "referring" and not any(example.conditions for example in examples):
            # With nothing to find in any photo there is no loss: ask anew.
            examples = [self._example(task, slot, rng) for slot in slots]
        return make_psalm_batch(task, examples, self.batch)

    def _example(self, task: str, position: int, rng: np.random.Generator) -> Example:
        """The photo at a position of the task's mixture, or its next neighbour about which that can be asked."""
        name, index = self.mixtures[task][position]
        for sample in _samples(self.sources[name], index, task):
            example = MAKE[task](sample, self.batch, rng)
            if example is not None:
                return example
        raise ValueError(f"source {name!r}: no sample shows anything for the task {task!r} at this size")


def _samples(source: Source, index: int, task: str) -> Iterator[Sample]:
    """The samples from ``index`` on, once around, that can teach a task."""
    for further in range(len(source)):
        number = (index + further) % len(source)
        if SERVES[task](annotation(source, number)):
            yield source[number]


def _teaches(source: Source, task: str) -> bool:
    return any(map(SERVES[task], some_annotations(source, _LOOKED_AT)))


def make_psalm_batch(task: str, examples: Sequence[Example], config: PSALMBatchConfig) -> PSALMBatch:
    """Examples of one task as tensors."""
    mean, std = (np.asarray(values, np.float32) for values in (config.mean, config.std))
    pixels = (np.stack([example.image for example in examples]).astype(np.float32) - mean) / std
    return PSALMBatch(
        pixels=torch.from_numpy(pixels).permute(0, 3, 1, 2),  # [B, 3, S, S] in channels_last layout, without a copy
        task=task,
        asked=tuple(example.asked for example in examples),
        masks=torch.from_numpy(np.concatenate([example.masks for example in examples]).astype(np.uint8)),
        conditions=torch.tensor([number for example in examples for number in example.conditions], dtype=torch.long),
        counts=tuple(len(example.masks) for example in examples),
        unknown=torch.from_numpy(np.stack([example.unknown for example in examples])),
        marks=torch.from_numpy(np.concatenate([example.marks for example in examples])),
        most_tokens=config.most_tokens,
    )
