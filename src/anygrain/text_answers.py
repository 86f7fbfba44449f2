"""Answers to texts: encode the words, decode them in batches, and say what is there."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from anygrain.inference import Answering
from anygrain.label_maps import LabelMaps
from anygrain.masks import main_part
from anygrain.models.texts import TextFeatures
from anygrain.phrases import points_at_one
from anygrain.tiles import Fusion
from anygrain.types import ImageEmbedding, Prediction, Prompt
from anygrain.vocabulary import Reader

if TYPE_CHECKING:
    from anygrain.models.unilseg import UniLSeg

_TEXTS_KEPT = 4096
_TEXTS_AT_ONCE = 32  # encoding them together takes a fraction of the time, and the first answer waits for them


class TextAnswers:
    """How a model of texts (UniLSeg) answers prompts. Safe to use from several threads."""

    def __init__(self, model: UniLSeg, how: Answering):
        self.model, self.how = model, how
        encode = model.encode_text
        self._reader = Reader(model.vocabulary, lambda texts: encode(texts).sentence) if model.vocabulary else None
        self._texts: OrderedDict[str, tuple[Tensor, Tensor, Tensor]] = OrderedDict()
        self._lock = Lock()

    def answer(self, embedding: ImageEmbedding, prompts: Sequence[Prompt]) -> Iterator[Prediction]:
        """One row a prompt, made as they are asked for: memory does not grow with the number of prompts."""
        for first, logits, scores in self._batches(embedding, [prompt.text or "" for prompt in prompts]):
            presence = [None] * len(logits) if scores is None else scores.tolist()
            for row, score in enumerate(presence):  # one at a time: the masks of a large photo are big
                yield self._predict(embedding, prompts[first + row], logits[row : row + 1], score)

    def label_maps(self, embedding: ImageEmbedding, texts: Sequence[str], *, background: bool) -> np.ndarray:
        """See ``Segmenter.label_maps``."""
        maps = LabelMaps(embedding.resize, 2, 0.0 if background else -math.inf)
        for first, logits, scores in self._batches(embedding, texts):
            there = self._there(embedding, logits, scores)
            maps.add(logits, np.stack([np.ones_like(there), there], 1), first)
        return maps.index

    def _there(self, embedding: ImageEmbedding, logits: Tensor, scores: Tensor | None) -> np.ndarray:
        """bool [N]: what ``present`` of the predictions would say, at a fraction of the cost."""
        level = math.log(self.how.threshold / (1 - self.how.threshold))
        there = (logits.amax((1, 2)) > level).numpy()  # enlarging does not raise the largest
        if scores is not None:
            there &= (scores.cpu() >= self.how.presence_threshold).numpy()
        for row in np.flatnonzero(there).tolist():
            there[row] = self.model.masks(logits[row : row + 1], embedding.resize, self.how.threshold).any()
        return there

    def _batches(self, embedding: ImageEmbedding, texts: Sequence[str]) -> Iterator[tuple[int, Tensor, Tensor | None]]:
        """Some texts at a time: the number of the first, logits [N, h, w] and presence scores [N], if predicted."""
        size = self.how.batch_size(self.model, embedding)
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            group = texts[start : start + _TEXTS_AT_ONCE]
            with self.how.arithmetic(self.model):
                features = self._encode_texts(group)
            for row in range(0, len(group), size):
                text = features.select(slice(row, row + size))
                logits, scores = self._ask(embedding.features, text)
                if embedding.tiles:
                    logits = self._refine(embedding, text, logits, scores)
                yield start + row, logits.cpu(), scores

    def _ask(self, features: tuple[Tensor, ...], text: TextFeatures) -> tuple[Tensor, Tensor | None]:
        """Mask logits [N, h, w] and presence scores [N], if predicted, of N prompts about one picture."""
        with self.how.arithmetic(self.model):
            index = torch.zeros(len(text.real), dtype=torch.long, device=self.model.device)
            output = self.model.decode(features, text, index)
            presence = None if output.presence_logits is None else output.presence_logits.float().sigmoid()
            return output.mask_logits.float(), presence

    def _refine(self, embedding: ImageEmbedding, text: TextFeatures, logits: Tensor, presence: Tensor | None) -> Tensor:
        """Logits of the whole [N, h, w] -> with those of the tiles [N, H, W]; what is not there is not looked for."""
        fusion = Fusion(logits, embedding.resize, embedding.tiles)
        there = (
            torch.ones(len(logits), dtype=torch.bool) if presence is None else presence >= self.how.presence_threshold
        )
        rows = there.nonzero()[:, 0].to(logits.device)
        if len(rows):
            asked = text.select(rows)
            for tile in embedding.tiles:
                fusion.add(tile, rows, *self._ask(tile.features, asked))
        return fusion.logits

    def _predict(self, embedding: ImageEmbedding, prompt: Prompt, logits: Tensor, score: float | None) -> Prediction:
        """logits [1, h, w], score of the presence head -> the answer in the image's own size."""
        shown = logits
        if self.model.config.main_part and points_at_one(prompt.text or ""):
            shown = self._main_part(logits)
        masks = self.model.masks(shown, embedding.resize, self.how.threshold)  # [1, H, W]
        there = bool(masks.any())
        if score is None:
            score = self._mean_inside(logits) if there else 0.0
        elif not there:
            score = min(score, float(logits.sigmoid().max()))  # a high presence without a pixel is no confidence
        elif score < self.how.presence_threshold:
            there, masks = False, np.zeros_like(masks)
        return Prediction(
            masks=masks,
            scores=np.array([score], np.float32),
            present=np.array([there]),
            prompts=(prompt,),
            low_res_logits=logits.numpy(),
            image=embedding.image,
            name=embedding.name,
            model=self.how.info,
        )

    def _main_part(self, logits: Tensor) -> Tensor:
        """Logits [1, h, w] with all parts of the mask but the largest as far below the threshold as they were above."""
        level = math.log(self.how.threshold / (1 - self.how.threshold))
        inside = (logits[0] > level).numpy()
        others = torch.from_numpy(inside & ~main_part(inside))
        return torch.where(others, 2 * level - logits, logits)

    def _mean_inside(self, logits: Tensor) -> float:
        """The score of a model without a presence head: mean probability inside the mask, at the decoder's size."""
        probability = logits.sigmoid()
        inside = probability[probability > self.how.threshold]
        return float(inside.mean() if len(inside) else probability.max())  # a mask between cells: their largest

    def reading(self, text: str) -> str:
        """How the model reads a text: a noun that it was never trained on stands for the nearest name that it was.

        The text itself where there is no such noun or name, and for models that have no ``vocabulary.json``.
        """
        if self._reader is None:
            return text
        with self.how.arithmetic(self.model):
            return self._reader(text)

    def _encode_texts(self, texts: Sequence[str]) -> TextFeatures:
        """Text features of N prompts; each string goes through the text encoder once."""
        with self._lock:
            new = [text for text in dict.fromkeys(texts) if text not in self._texts]
            if new:
                fresh = self.model.encode_text([self.reading(text) for text in new])
                for row, text in enumerate(new):
                    self._texts[text] = (fresh.words[row], fresh.real[row], fresh.sentence[row])
            rows = [self._texts[text] for text in texts]
            for text in texts:
                self._texts.move_to_end(text)  # the least recently used goes first
            while len(self._texts) > _TEXTS_KEPT:
                self._texts.popitem(last=False)
        words, real, sentence = (torch.stack(column) for column in zip(*rows, strict=True))
        return TextFeatures(words, real, sentence)
