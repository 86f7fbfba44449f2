"""Does the answer depend on how one says it? The same thing by three paraphrases, and by words never trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from anygrain.data.held_out import UNSEEN_WORDS
from anygrain.data.labels import Candidate
from anygrain.data.language import SALIENT, all_category, readable
from anygrain.eval.metrics import CategoryIoU
from anygrain.eval.photo import Asked, Photo
from anygrain.nouns import is_plural, plural
from anygrain.types import Prediction

SALIENT_PARAPHRASES = (SALIENT, "the main object of the picture", "what the photo is about")


def paraphrases(candidate: Candidate) -> tuple[str, ...]:
    """Three ways to ask for a category or for the salient object; none for other phrases.

    For a category "all {name}", "{name}" and "every {name}", or "the {name}" for what has no plural (sky) or is one.
    """
    if candidate.category is not None:
        name = readable(candidate.category)
        countable = plural(name) is not None and not is_plural(name)
        return all_category(candidate.category), name, f"{'every' if countable else 'the'} {name}"
    return SALIENT_PARAPHRASES if SALIENT in candidate.captions else ()


@dataclass
class Paraphrases:
    """``paraphrases.worst_over_mean``: the mean over targets of the worst IoU of three paraphrases, over the mean IoU.

    A target is a category or the salient object of one of the sampled photos; both means go over all targets of all
    sources alike, and the mean IoU over all three paraphrases.
    """

    ious: dict[tuple[str, str, str], list[float]] = field(default_factory=dict)

    def ask(self, photo: Photo) -> Asked:
        """All paraphrases of all targets of a sampled photo."""
        for candidate in photo.present if photo.sampled else ():
            for text in paraphrases(candidate):
                key = photo.source, photo.sample.id, candidate.category or SALIENT
                yield text, partial(self._take, photo, key, candidate)

    def _take(self, photo: Photo, key: tuple[str, str, str], candidate: Candidate, prediction: Prediction) -> None:
        self.ious.setdefault(key, []).append(photo.overlap(candidate, prediction).iou)

    def figures(self) -> dict[str, float]:
        """The ratio; nothing when no target was found at all."""
        ratio = self._ratio(list(self.ious.values()))
        return {} if ratio is None else {"paraphrases.worst_over_mean": ratio}

    def details(self) -> dict[str, object]:
        """Number of targets, and the ratio of each source."""
        sources = sorted({source for source, _, _ in self.ious})
        by_source = {name: [v for (source, _, _), v in self.ious.items() if source == name] for name in sources}
        return {"targets": len(self.ious), **{name: self._ratio(values) for name, values in by_source.items()}}

    @staticmethod
    def _ratio(targets: list[list[float]]) -> float | None:
        mean = np.mean([np.mean(ious) for ious in targets]) if targets else 0.0
        return float(np.mean([min(ious) for ious in targets]) / mean) if mean > 0 else None


@dataclass
class UnseenWords:
    """``unseen.word_over_name``: mean IoU by the words held out of training over mean IoU by the names trained on.

    Both are asked as "all {word}". The IoU of a pair is that of all photos of its source that show the thing (sum of
    intersections over sum of unions), and the means go over the pairs.
    """

    pairs: Sequence[tuple[str, str, str]] = UNSEEN_WORDS
    by_word: CategoryIoU = field(default_factory=CategoryIoU)
    by_name: CategoryIoU = field(default_factory=CategoryIoU)

    def ask(self, photo: Photo) -> Asked:
        """Word and name of each pair that is there."""
        for source, name, word in self.pairs:
            if source == photo.source and (candidate := photo.category(name)) is not None:
                pair = f"{source}: {word} for {readable(name)}"
                yield all_category(word), partial(self._take, self.by_word, photo, pair, candidate)
                yield all_category(name), partial(self._take, self.by_name, photo, pair, candidate)

    def _take(self, sums: CategoryIoU, photo: Photo, pair: str, candidate: Candidate, prediction: Prediction) -> None:
        sums.update(pair, photo.overlap(candidate, prediction))

    def figures(self) -> dict[str, float]:
        """The ratio, and the two means."""
        word, name = (sums.compute().get("category_miou") for sums in (self.by_word, self.by_name))
        if not name or word is None:
            return {}
        return {"unseen.word_over_name": word / name, "unseen.word_iou": word, "unseen.name_iou": name}

    def details(self) -> dict[str, object]:
        """IoU by word and by name of each pair."""
        names = self.by_name.per_category()
        return {pair: {"word": iou, "name": names[pair]} for pair, iou in self.by_word.per_category().items()}
