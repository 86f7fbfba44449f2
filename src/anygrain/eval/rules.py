"""How a benchmark asks about a Sample, what it keeps of the answers, and how it counts what was kept.

Figures are counted from records that fit into JSON and from nothing else. A run that goes on from the records of an
earlier one has therefore the same figures to the last bit.
"""

from __future__ import annotations

import base64
import io
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from anygrain.data.labels import Labels
from anygrain.data.language import SALIENT
from anygrain.data.transforms import IGNORE
from anygrain.eval.expressions import Convention, ExpressionIoU, SameTarget
from anygrain.eval.metrics import Overlap, overlap
from anygrain.eval.presence import PresenceScores
from anygrain.eval.saliency import Saliency
from anygrain.eval.video import JAndF
from anygrain.types import Mask, Prompt, Sample, Size

if TYPE_CHECKING:
    from anygrain.segmenter import Segmenter
    from anygrain.types import ImageEmbedding


class Answer(NamedTuple):
    """What a model says to one text.

    mask: bool [H, W], empty for "not there". present, score: see Prediction. probability: makes float32 [H, W] in the
    image's size, of each pixel, whatever the threshold and the presence say.
    """

    mask: np.ndarray
    present: bool
    score: float
    probability: Callable[[], np.ndarray]


Record = Mapping[str, Any]
"""What is kept of an answer, ready for JSON. With the "text"; masks are COCO RLE in the image's size."""


class Shown(NamedTuple):
    """One answer that was counted, for who wants to look at it.

    labels: truth uint8 [H, W], 1 inside and 255 where it is not known. mask: answer bool [H, W]. pair: their overlap.
    score, answered: see Prediction.
    """

    text: str
    labels: np.ndarray
    mask: np.ndarray
    pair: Overlap
    score: float
    answered: bool


Show = Callable[[Shown], None]


class Rule(Protocol):
    """Questions about a Sample, and what is counted of the answers. Parts of several processes merge exactly.

    A `TextRule` asks texts, a `PromptRule` whatever it likes.
    """

    def ask(self, sample: Sample) -> Sequence[Any]:
        """What is asked, each once; nothing when there is nothing to ask."""
        ...

    def count(self, sample: Sample, records: Sequence[Record], show: Show | None = None) -> None:
        """Count what was recorded, and show what may be worth looking at."""
        ...

    def compute(self) -> dict[str, float]:
        """The figures."""
        ...


@runtime_checkable
class TextRule(Rule, Protocol):
    """Asks texts, and gets a mask for each."""

    def record(self, sample: Sample, answers: Iterable[Answer]) -> list[Record]:
        """What the figures need of the answers, in the order of the texts; each is made when it is asked for."""
        ...


@runtime_checkable
class PromptRule(Rule, Protocol):
    """Puts its questions itself: they are no texts, or the next depends on the last answer, or are asked at once."""

    def answer(self, sample: Sample, segmenter: Segmenter, embedding: ImageEmbedding) -> list[Record]:
        """What the figures need of the answers."""
        ...


def answers(segmenter: Segmenter, embedding: ImageEmbedding, texts: Sequence[str]) -> Iterator[Answer]:
    """What a model says to texts about an encoded photo, one at a time."""
    import torch

    for prediction in segmenter.answer(embedding, [Prompt(text=text) for text in texts]):

        def probability(logits: Any = prediction.low_res_logits) -> Any:
            return segmenter.model.probabilities(torch.from_numpy(logits), embedding.resize)[0]

        yield Answer(prediction.masks[0], bool(prediction.present[0]), float(prediction.scores[0]), probability)


def mask_record(text: str, answer: Answer) -> dict[str, Any]:
    """A mask as it was answered."""
    record = {"text": text, "present": bool(answer.present), "score": float(answer.score)}
    return record | ({"segmentation": Mask.from_array(answer.mask).to_coco()} if answer.mask.any() else {})


def recorded_mask(record: Record, size: Size, key: str = "segmentation") -> np.ndarray:
    """bool [H, W]: the mask of a record, empty when it has none."""
    return Mask.from_coco(record[key], size).to_array() if key in record else np.zeros(size, bool)


def unknown_labels(sample: Sample) -> np.ndarray:
    """uint8 [H, W]: 255 where nothing counts, 0 elsewhere."""
    return np.where(Labels(sample).unknown, np.uint8(IGNORE), np.uint8(0))


@dataclass
class ExpressionRule:
    """Every expression of every object as it is, and those that mean nothing, by each of some conventions.

    Expressions that a file has twice count twice, as the published evaluators do. Figures of the first convention have
    their plain names, those of another begin with its name. With the presence scores and the same-target figures.
    """

    conventions: tuple[Convention, ...]
    counts: dict[Convention, ExpressionIoU] = field(default_factory=dict)
    same: SameTarget = field(default_factory=SameTarget)
    presence: PresenceScores = field(default_factory=PresenceScores)

    def __post_init__(self):
        self.counts = {convention: ExpressionIoU(convention) for convention in self.conventions}

    def ask(self, sample: Sample) -> Sequence[str]:
        """All captions and all absent phrases."""
        captions = (text for region in sample.regions if not region.ignore for text in region.captions)
        return list(dict.fromkeys([*captions, *sample.absent]))

    def record(self, sample: Sample, answers: Iterable[Answer]) -> list[Record]:
        """Each mask."""
        return [mask_record(*pair) for pair in zip(self.ask(sample), answers, strict=True)]

    def count(self, sample: Sample, records: Sequence[Record], show: Show | None = None) -> None:
        """Each answer against the mask of every object that is called so."""
        meant: dict[str, list[tuple[int, Mask | None]]] = defaultdict(list)
        for place, region in enumerate(sample.regions):
            for text in () if region.ignore else region.captions:
                meant[text].append((place, region.mask))
        unmeant = Counter(sample.absent)
        base = unknown_labels(sample)
        for record in records:
            text, found = record["text"], recorded_mask(record, sample.size)
            for place, mask in meant[text]:
                labels = base.copy()
                if mask is not None:
                    labels[mask.to_array()] = 1
                pair = overlap(found, labels)
                self._count(record, pair, True)
                self.same.update(f"{sample.id}#{place}", pair)
                if show is not None:
                    show(Shown(text, labels, found, pair, record["score"], record["present"]))
            for _ in range(unmeant[text]):
                self._count(record, overlap(found, base), False)

    def _count(self, record: Record, pair: Overlap, target: bool) -> None:
        for convention, count in self.counts.items():
            answered = "segmentation" in record if convention == "lisa" else record["present"]
            count.update(pair, target=target, answered=answered)
        self.presence.update(record["score"], there=target)

    def merge(self, other: ExpressionRule) -> None:
        """Take in what another one counted."""
        for convention, count in self.counts.items():
            count.merge(other.counts[convention])
        self.same.merge(other.same)
        self.presence.merge(other.presence)

    def compute(self) -> dict[str, float]:
        """See ExpressionIoU, SameTarget and PresenceScores."""
        figures: dict[str, float] = {}
        for convention, count in self.counts.items():
            prefix = "" if convention == self.conventions[0] else f"{convention}_"
            figures |= {prefix + name: figure for name, figure in count.compute().items()}
        figures.pop(f"{self.conventions[-1]}_prompts", None)
        return figures | self.same.compute() | self.presence.compute()


@dataclass
class SaliencyRule:
    """ "the most salient object" as a soft map of 8 bits, as the field's evaluators read saved maps."""

    counts: Saliency = field(default_factory=Saliency)

    def ask(self, sample: Sample) -> Sequence[str]:  # noqa: ARG002
        """One text, whatever the photo shows."""
        return [SALIENT]

    def record(self, sample: Sample, answers: Iterable[Answer]) -> list[Record]:  # noqa: ARG002
        """The probabilities times 255 as a PNG, in base64."""
        return [{"text": SALIENT, "map": _png(np.rint(a.probability().clip(0, 1) * 255))} for a in answers]

    def count(self, sample: Sample, records: Sequence[Record], show: Show | None = None) -> None:
        """The map against the mask."""
        truth = np.zeros(sample.size, bool)
        for region in sample.regions:
            if region.mask is not None and not region.ignore:
                truth |= region.mask.to_array()
        for record in records:
            soft = np.asarray(Image.open(io.BytesIO(base64.b64decode(record["map"]))))
            self.counts.update(soft, truth)
            if show is not None:
                labels, found = truth.astype(np.uint8), soft >= HALF
                pair = overlap(found, labels)
                show(Shown(SALIENT, labels, found, pair, float(soft.max()) / 255, bool(found.any())))

    def merge(self, other: SaliencyRule) -> None:
        """Take in what another one counted."""
        self.counts.merge(other.counts)

    def compute(self) -> dict[str, float]:
        """See Saliency."""
        return self.counts.compute()


@dataclass
class VideoRule:
    """Every expression in every frame on its own: no mask is carried from frame to frame.

    An expression is told by its text; of two objects of a video that are called the same, the first named in a frame is
    the first.
    """

    counts: JAndF = field(default_factory=JAndF)

    def ask(self, sample: Sample) -> Sequence[str]:
        """All captions, and those whose object is hidden in this frame."""
        captions = (text for region in sample.regions if not region.ignore for text in region.captions)
        return list(dict.fromkeys([*captions, *sample.absent]))

    def record(self, sample: Sample, answers: Iterable[Answer]) -> list[Record]:
        """Each mask."""
        return [mask_record(*pair) for pair in zip(self.ask(sample), answers, strict=True)]

    def count(self, sample: Sample, records: Sequence[Record], show: Show | None = None) -> None:
        """J and F of each expression in this frame; of a hidden object an empty mask is right."""
        video, _, frame = sample.id.rpartition("/")
        shown: dict[str, list[Mask | None]] = defaultdict(list)
        for region in sample.regions:
            for text in () if region.ignore else region.captions:
                shown[text].append(region.mask)
        for text in sample.absent:
            shown[text].append(None)
        for record in records:
            text, found = record["text"], recorded_mask(record, sample.size)
            for place, mask in enumerate(shown[text]):
                truth = np.zeros(sample.size, bool) if mask is None else mask.to_array()
                self.counts.update(video, f"{text}#{place}", frame, found, truth)
                if show is not None and mask is not None:
                    labels = truth.astype(np.uint8)
                    show(Shown(text, labels, found, overlap(found, labels), record["score"], record["present"]))

    def merge(self, other: VideoRule) -> None:
        """Take in what another one counted."""
        self.counts.merge(other.counts)

    def compute(self) -> dict[str, float]:
        """See JAndF."""
        return self.counts.compute()


HALF = 128  # of an 8-bit map


def _png(values: np.ndarray) -> str:
    out = io.BytesIO()
    Image.fromarray(values.astype(np.uint8)).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode("ascii")
