"""Answers of a model that reads (PSALM): to categories, phrases and regions, of this picture or of another.

Shapes: N prompts, Q queries, C conditions, h w size of mask logits, H W size of the picture.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from anygrain.categories import guess_thing
from anygrain.inference import Answering
from anygrain.models.psalm import postprocess, regions
from anygrain.models.psalm.network import Answer, Conditions, Features
from anygrain.models.psalm.prompts import BACKGROUND, Question, about_categories, about_phrase, about_regions
from anygrain.types import Category, ImageEmbedding, Prediction, Prompt

if TYPE_CHECKING:
    from anygrain.models.psalm.network import PSALM
    from anygrain.models.psalm.prompts import PhiTokenizer

_QUESTIONS_AT_ONCE = 32  # read together before the first is answered
_VISUAL = frozenset({"points", "scribble", "box", "mask"})


class LanguageAnswers:
    """How PSALM answers prompts. Safe to use from several threads.

    A phrase gives one row, a region one, several ``regions`` of one prompt one each, categories one for each segment or
    instance, best first. Prompts do not see each other; ``regions`` of one prompt do, as in the official evaluation.
    """

    def __init__(self, model: PSALM, how: Answering):
        if model.tokenizer is None:
            raise ValueError("this PSALM was built without a tokenizer: load it with anygrain.load")
        self.model, self.how = model, how
        self.tokenizer: PhiTokenizer = model.tokenizer
        self.level = math.log(how.threshold / (1 - how.threshold))

    def answer(self, embedding: ImageEmbedding, prompts: Sequence[Prompt]) -> Iterator[Prediction]:
        """Answers, made as they are asked for. Raises ValueError for a prompt that is none for this model."""
        for prompt in prompts:
            self._check(prompt)
        return self._answer(embedding, prompts)

    def _check(self, prompt: Prompt) -> None:
        kinds = prompt.kinds
        if len(kinds) > 1:
            raise ValueError(
                f"a prompt of this model is a phrase, categories or one region, not {' and '.join(sorted(kinds))} "
                "together: ask them as prompts of their own"
            )
        for region in prompt.regions or (prompt,):
            if prompt.regions and len(region.kinds & _VISUAL) != 1:
                raise ValueError("each of a prompt's regions is made by points, a scribble, a box or a mask")
            if 0 in region.point_labels:
                raise ValueError("this model knows no background clicks: mark only what you mean, or give a mask")
        if prompt.granularity not in (None, "all"):
            raise ValueError(f"this model knows no granularity, so it cannot keep to '{prompt.granularity}'")
        if prompt.part_categories:
            raise ValueError("this model knows no categories of parts: give their names as categories")
        if BACKGROUND in prompt.categories:
            raise ValueError(f"'{BACKGROUND}' is what the model calls all that no category names: leave it out")
        if len(set(prompt.categories)) < len(prompt.categories):
            raise ValueError("a category is named twice: give each name once")
        reference = prompt.reference
        if reference is not None and not (kinds & _VISUAL or prompt.regions):
            raise ValueError("a reference needs a region in it: points, a scribble, a box or a mask")
        if reference is not None and reference.model != self.how.info["fingerprint"]:
            raise ValueError(f"the embedding of '{reference.name}' was made by another model; embed the image again")

    # ------------------------------------------------------------------------------------------- asking

    def _answer(self, embedding: ImageEmbedding, prompts: Sequence[Prompt]) -> Iterator[Prediction]:
        for prompt, answer in self._ask(embedding, prompts):
            yield self.predict(embedding, prompt, answer)

    def evidence(self, embedding: ImageEmbedding, prompts: Sequence[Prompt]) -> list[tuple[float, float]]:
        """Of each phrase the best query's own logit and its mask's quality."""
        found = []
        for prompt, answer in self._ask(embedding, prompts):
            chance = self._chance(prompt, answer)[:, 0]
            query, score, _ = postprocess.best_query(chance, answer.mask_logits.float(), embedding.resize, self.level)
            found.append((float(answer.logits[query, 0]), score / float(chance[query])))
        return found

    def _ask(self, embedding: ImageEmbedding, prompts: Sequence[Prompt]) -> Iterator[tuple[Prompt, Answer]]:
        """The network's answers, a few prompts at a time."""
        features = Features(*embedding.features)
        size = self.how.batch_size(self.model, embedding)
        with self.how.arithmetic(self.model):
            memory = self.model.remember(features)
        for start in range(0, len(prompts), _QUESTIONS_AT_ONCE):
            group = prompts[start : start + _QUESTIONS_AT_ONCE]
            questions = [self.question(prompt) for prompt in group]
            conditions = self._consider(features, questions, [self._regions(prompt, embedding) for prompt in group])
            for row in range(0, len(group), size):
                rows = slice(row, row + size)
                with self.how.arithmetic(self.model):
                    answers = self.model.decide(features, conditions[rows], questions[rows], memory)
                yield from zip(group[rows], answers, strict=True)

    def question(self, prompt: Prompt) -> Question:
        """What the model is told. Warns when that is longer than what it was trained to read."""
        if prompt.categories:
            question = about_categories(
                self.tokenizer, prompt.categories, semantic=prompt.task == "semantic", order=_order(prompt)
            )
        elif prompt.text is not None:
            question = about_phrase(self.tokenizer, [prompt.text.strip().rstrip(".")])
        else:
            question = about_regions(self.tokenizer, len(prompt.regions) or 1)
        config = self.model.config
        length = len(question.ids) + config.image_tokens + config.mask_decoder.num_queries
        if length > config.language.context:
            warnings.warn(
                f"the prompt is {length} tokens long, and the model was trained with {config.language.context}: "
                "ask for fewer categories, or give them shorter names",
                stacklevel=2,
            )
        return question

    def _regions(self, prompt: Prompt, embedding: ImageEmbedding) -> list[Tensor]:
        """Features [1, D] of a prompt's regions, in their picture."""
        there = prompt.reference or embedding
        marked = prompt.regions or ((prompt,) if prompt.kinds & _VISUAL else ())
        tokens = Features(*there.features).tokens[0]
        with self.how.arithmetic(self.model):
            return [self.model.region(tokens, self._region_mask(one, there)) for one in marked]

    def _region_mask(self, prompt: Prompt, embedding: ImageEmbedding) -> Tensor:
        """Bool [S, S] of the input: what a prompt marks."""
        size = embedding.resize.source
        if prompt.mask is not None:
            mask = prompt.mask.to_array()
        elif prompt.box is not None:
            mask = regions.box_mask(prompt.box, size)
        elif prompt.scribble:
            mask = regions.discs(regions.stroke(prompt.scribble), regions.SCRIBBLE_RADIUS, size)
        else:
            mask = regions.discs(prompt.points, regions.POINT_RADIUS, size)
        return torch.from_numpy(embedding.resize.mask(mask)).to(self.model.device)

    def _consider(
        self, features: Features, questions: Sequence[Question], region_features: Sequence[Sequence[Tensor]]
    ) -> list[Conditions]:
        """The language model's part, for questions of like length together, so that little is padding."""
        order = sorted(range(len(questions)), key=lambda i: len(questions[i].ids))
        queries, budget = (
            self.model.config.mask_decoder.num_queries,
            self.how.memory_limit // self.model.bytes_per_token(),
        )
        found: dict[int, Conditions] = {}
        while order:
            count = 1
            while count < len(order) and (count + 1) * (len(questions[order[count]].ids) + queries) <= budget:
                count += 1
            rows, order = order[:count], order[count:]
            with self.how.arithmetic(self.model):
                conditions = self.model.consider(
                    features, [questions[i] for i in rows], [one for i in rows for one in region_features[i]]
                )
            found.update(zip(rows, conditions, strict=True))
        return [found[i] for i in range(len(questions))]

    # ------------------------------------------------------------------------------------------- answering

    def predict(self, embedding: ImageEmbedding, prompt: Prompt, answer: Answer) -> Prediction:
        """The network's answer to a prompt, in the picture's own size."""
        with torch.inference_mode():
            if prompt.categories:
                return {"panoptic": self._panoptic, "semantic": self._semantic, "instance": self._instances}[
                    prompt.task
                ](embedding, prompt, answer)
            return self._conditions(embedding, prompt, answer)

    def _conditions(self, embedding: ImageEmbedding, prompt: Prompt, answer: Answer) -> Prediction:
        """A phrase, which may mean nothing here, or regions, which always mean something: the best query of each."""
        chance = self._chance(prompt, answer)
        masks = np.zeros((chance.shape[1], *embedding.resize.source), bool)
        scores, queries = [], []
        for row in range(chance.shape[1]):
            query, score, grown = postprocess.best_query(
                chance[:, row], answer.mask_logits.float(), embedding.resize, self.level
            )
            scores.append(score)
            queries.append(query)
            if prompt.text is None or score >= self.how.presence_threshold:
                masks[row] = (grown > self.level).cpu().numpy()
        return self._prediction(embedding, prompt, masks, scores, answer.mask_logits[queries])

    def _chance(self, prompt: Prompt, answer: Answer) -> Tensor:
        """[Q, C] in 0..1: how likely each query is what a phrase or a region means; of phrases calibrated."""
        logits, config = answer.logits.float(), self.model.config
        if prompt.text is not None:
            logits = config.presence_slope * logits + config.presence_offset
        return logits.sigmoid()

    def _panoptic(self, embedding: ImageEmbedding, prompt: Prompt, answer: Answer) -> Prediction:
        config, things = self.model.config, things_of(prompt)
        found = postprocess.panoptic(
            answer.logits,
            answer.mask_logits,
            torch.tensor(things, device=answer.logits.device),
            embedding.resize,
            sure=config.keep_probability,
            left=config.keep_overlap,
        )
        segment_map = found.segment_map.cpu().numpy()
        masks = segment_map == np.arange(1, len(found.scores) + 1)[:, None, None]
        return self._prediction(
            embedding, prompt, masks, found.scores, answer.mask_logits[found.queries], found.categories, things
        )

    def _semantic(self, embedding: ImageEmbedding, prompt: Prompt, answer: Answer) -> Prediction:
        winner, strength = postprocess.semantic_map(answer.logits, answer.mask_logits, embedding.resize)
        categories = winner.unique().tolist()
        masks = [winner == category for category in categories]
        scores = [min(1.0, float(strength[mask].mean())) for mask in masks]
        chance = answer.logits.float().softmax(-1)[:, categories]  # [Q, C]
        small = torch.einsum("qc,qhw->chw", chance, answer.mask_logits.float().sigmoid())
        logits = small.clamp(1e-6, 1 - 1e-6).logit()
        return self._prediction(
            embedding, prompt, torch.stack(masks).cpu().numpy(), scores, logits, categories, things_of(prompt)
        )

    def _instances(self, embedding: ImageEmbedding, prompt: Prompt, answer: Answer) -> Prediction:
        things = things_of(prompt)
        kept = torch.tensor(things, device=answer.logits.device)
        found = postprocess.instances(answer.logits, answer.mask_logits, embedding.resize, things=kept)
        kept = (found.scores >= self.how.presence_threshold) & found.masks.flatten(1).any(1)
        return self._prediction(
            embedding,
            prompt,
            found.masks[kept].cpu().numpy(),
            found.scores[kept].tolist(),
            answer.mask_logits[found.queries[kept]],
            found.categories[kept].tolist(),
            things,
        )

    def _prediction(
        self,
        embedding: ImageEmbedding,
        prompt: Prompt,
        masks: np.ndarray,
        scores: Sequence[float],
        low_res_logits: Tensor,
        categories: Sequence[int] = (),
        things: Sequence[bool] = (),
    ) -> Prediction:
        rows = zip(categories, scores, strict=True) if prompt.categories else ()
        return Prediction(
            masks=masks,
            scores=np.array(scores, np.float32),
            present=np.asarray(masks.any((1, 2))),
            prompts=(prompt,) * len(masks),
            low_res_logits=low_res_logits.float().cpu().numpy(),
            image=embedding.image,
            name=embedding.name,
            model=self.how.info,
            categories=tuple(Category(prompt.categories[number], score) for number, score in rows),
            things=tuple(things[number] for number in categories),
        )


def things_of(prompt: Prompt) -> list[bool]:
    """Whether each of a prompt's categories is a thing: as it says, or as the lists of known names do."""
    return list(prompt.things) or [guess_thing(name) for name in prompt.categories]


def _order(prompt: Prompt) -> list[int] | None:
    """In which order names are told: as they are given, or by the alphabet; the background comes last."""
    if not prompt.any_order:
        return None
    count = len(prompt.categories)
    return [*sorted(range(count), key=lambda i: (prompt.categories[i].casefold(), prompt.categories[i])), count]
