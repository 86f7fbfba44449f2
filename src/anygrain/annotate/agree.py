"""How far a mask can be believed, without large teachers: two questions that a guess does not pass.

Does the model give the same mask when it is asked in other words, and when it sees the photograph mirrored? And does an
ImageNet classifier see the named thing inside the mask, and less of it without? For names that the classifier does not
know only the first question is left; what either kind of answer is worth has been measured on labelled photographs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from anygrain.annotate.names import imagenet_names, plain
from anygrain.annotate.origin import changed
from anygrain.annotate.own import UniLSegTeacher
from anygrain.annotate.pictures import crop, only, without
from anygrain.annotate.platt import Curve, probability
from anygrain.annotate.rank import Thresholds, above
from anygrain.annotate.refer import inside
from anygrain.annotate.small import ImageNetClassifier, ImageNetTeacher
from anygrain.annotate.step import Worker
from anygrain.types import ImageEmbedding, Prompt, Region, Sample

if TYPE_CHECKING:
    from anygrain.segmenter import Segmenter


@dataclass(frozen=True, kw_only=True)
class Agree:
    """Scores every mask that has a category or caption; low ones go.

    belief = score so far x agreement x evidence, and the score is how likely a pair of that belief is right.
    agreement: the lower of two IoUs with the mask: the mean over paraphrases, and that of the mirrored photograph.
    evidence: of the classifier for the category, inside / (inside + outside + ``doubt``); 1 for names that ImageNet has
        no class for, or too few.
    seen, unseen: from belief to score, for names with and without the classifier's evidence
        (``benchmarks/annotation_quality.py`` fits them).
    threshold, thresholds: as in ``Rank``.
    """

    name: ClassVar[str] = "rank"
    teacher: UniLSegTeacher = field(default_factory=UniLSegTeacher)
    classifier: ImageNetTeacher = field(default_factory=ImageNetTeacher)
    threshold: float = 0.8
    thresholds: Thresholds = ()
    doubt: float = 0.05
    seen: Curve = (0.11, 1.25)
    unseen: Curve = (-0.59, 1.14)

    @property
    def teachers(self) -> tuple[UniLSegTeacher, ImageNetTeacher]:
        """The model that segments and the classifier."""
        return (self.teacher, self.classifier)

    def __call__(self, samples: list[Sample], worker: Worker) -> list[Sample]:
        """Regions without a mask or without words stay as they are."""
        segmenter, classifier = worker.teacher(self.teacher), worker.teacher(self.classifier)
        embeddings = worker.embeddings(samples, segmenter)
        done = []
        for sample, embedding in zip(samples, embeddings, strict=True):
            threshold = dict(self.thresholds).get(sample.source, self.threshold)
            said = {n: ways for n, region in enumerate(sample.regions) if (ways := ways_to_say(region))}
            beliefs = {number: self._belief(sample, sample.regions[number], worker, classifier) for number in said}
            # Agreement costs most and only lowers a score: what is below the threshold already need not be asked again.
            asked = {n: said[n] for n in said if self._score(sample.regions[n], beliefs[n]) >= threshold}
            if asked:
                agreed = _agreement(sample, embedding, asked, worker, segmenter)
                beliefs |= {number: beliefs[number] * agreed[number] for number in asked}
            scores = {number: self._score(sample.regions[number], belief) for number, belief in beliefs.items()}
            done.append(changed(sample, above(self, sample, scores, worker)))
        return done

    def _score(self, region: Region, belief: float) -> float:
        return probability(belief, self.seen if class_of(region) is not None else self.unseen)

    def _belief(self, sample: Sample, region: Region, worker: Worker, classifier: ImageNetClassifier) -> float:
        """Score so far x evidence."""
        before, word = 1.0 if region.score is None else region.score, class_of(region)
        if word is None or region.mask is None or region.mask.box is None:
            return before
        image = worker.image(sample)
        views = [crop(image, region.mask.box, 0.1), only(image, region.mask, 0.1), without(image, region.mask)]
        whole, alone, rest = classifier.probabilities(views)[:, classifier.column[word]].tolist()
        within = max(whole, alone)
        return before * within / (within + rest + self.doubt)


def class_of(region: Region) -> str | None:
    """The classifier's word for a region's category; None where it has none that can be relied on.

    >>> class_of(Region(category="dogs")), class_of(Region(category="person"))
    ('dog', None)
    """
    if region.category is None:
        return None
    names, word = imagenet_names(), plain(region.category)
    return word if word in names.words and word not in names.poor else None


def ways_to_say(region: Region) -> tuple[str, ...]:
    """The first asks what the region was asked by, the others mean the same; () for a region without mask or words.

    >>> ways_to_say(Region(mask=Mask.from_array(np.ones((2, 2))), category="dog"))
    ('all dog', 'dog', 'the dog')
    """
    from anygrain.data.language import readable

    if region.mask is None or region.mask.area == 0 or region.ignore:
        return ()
    if region.captions:
        words = region.captions[0]
        article, _, rest = words.partition(" ")
        other = f"the {rest}" if article.lower() in ("a", "an") else f"the {words}"
        return (words, words if article.lower() == "the" else other)
    if region.category is None:
        return ()
    word = readable(region.category)
    return (f"all {word}", word, f"the {word}")


def _agreement(
    sample: Sample, embedding: ImageEmbedding, asked: dict[int, tuple[str, ...]], worker: Worker, segmenter: Segmenter
) -> dict[int, float]:
    """By region: the lower of its mean IoU with the paraphrases' masks and of that with the mirror's."""
    from PIL import Image

    from anygrain.data.transforms import swap_sides

    paraphrases = list(dict.fromkeys(text for texts in asked.values() for text in texts[1:]))
    (mirrored,) = segmenter.embed([worker.image(sample).transpose(Image.Transpose.FLIP_LEFT_RIGHT)])
    plainly = _iou(sample, asked, segmenter, embedding, paraphrases, False)
    firsts = list(dict.fromkeys(swap_sides(texts[0]) for texts in asked.values()))
    turned = _iou(sample, asked, segmenter, mirrored, firsts, True)
    return {
        number: min(float(np.mean([plainly[number, text] for text in texts[1:]])), turned[number, swap_sides(texts[0])])
        for number, texts in asked.items()
    }


def _iou(
    sample: Sample,
    asked: dict[int, tuple[str, ...]],
    segmenter: Segmenter,
    embedding: ImageEmbedding,
    texts: Sequence[str],
    mirrored: bool,
) -> dict[tuple[int, str], float]:
    """IoU of the mask that each text gives with every region that asks it, by (region's number, text)."""
    from anygrain.data.transforms import swap_sides

    overlap: dict[tuple[int, str], float] = {}
    answers: Any = segmenter.answer(embedding, [Prompt(text=text) for text in texts])
    for text, answer in zip(texts, answers, strict=True):  # one mask in memory at a time
        array = answer.masks[0][:, ::-1] if mirrored else answer.masks[0]
        for number, said in asked.items():
            if text not in ([swap_sides(said[0])] if mirrored else said[1:]):
                continue
            region = sample.regions[number]
            mask = region.mask.to_array() if region.mask is not None else np.zeros_like(array)
            here = array if region.box is None else inside(array, region.box)
            union = np.count_nonzero(mask | here)
            overlap[number, text] = float(np.count_nonzero(mask & here) / union) if union else 0.0
    return overlap
