"""How a benchmark asks about a Sample and counts the answers: expressions, salient objects, video, label maps."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from anygrain.data.labels import Labels
from anygrain.data.language import SALIENT, all_category
from anygrain.data.transforms import IGNORE
from anygrain.eval.expressions import Convention, ExpressionIoU, SameTarget
from anygrain.eval.metrics import Overlap, overlap
from anygrain.eval.presence import PresenceScores
from anygrain.eval.saliency import Saliency
from anygrain.eval.semantic import Confusion
from anygrain.eval.video import JAndF
from anygrain.types import Mask, Sample


class Answer(NamedTuple):
    """What a model says to one text.

    mask: bool [H, W], empty for "not there". present, score: see Prediction. probability: makes float32 [H, W] in the
    image's size, of each pixel, whatever the threshold and the presence say.
    """

    mask: np.ndarray
    present: bool
    score: float
    probability: Callable[[], np.ndarray]


class Rule(Protocol):
    """Texts about a Sample, and what is counted of the answers. Parts of several processes merge exactly."""

    def ask(self, sample: Sample) -> Sequence[str]:
        """The texts, each once."""
        ...

    def take(self, sample: Sample, answers: Iterable[Answer]) -> None:
        """Count the answers, in the order of the texts; each is made when it is asked for."""
        ...

    def compute(self) -> dict[str, float]:
        """The figures."""
        ...


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

    def take(self, sample: Sample, answers: Iterable[Answer]) -> None:
        """Each answer against the mask of every object that is called so."""
        meant: dict[str, list[tuple[int, Mask | None]]] = defaultdict(list)
        for place, region in enumerate(sample.regions):
            for text in () if region.ignore else region.captions:
                meant[text].append((place, region.mask))
        unmeant = Counter(sample.absent)
        base = np.where(Labels(sample).unknown, np.uint8(IGNORE), np.uint8(0))
        for text, answer in zip(self.ask(sample), answers, strict=True):
            for place, mask in meant[text]:
                labels = base.copy()
                if mask is not None:
                    labels[mask.to_array()] = 1
                pair = overlap(answer.mask, labels)
                self._count(answer, pair, True)
                self.same.update(f"{sample.id}#{place}", pair)
            for _ in range(unmeant[text]):
                self._count(answer, overlap(answer.mask, base), False)

    def _count(self, answer: Answer, pair: Overlap, target: bool) -> None:
        for convention, count in self.counts.items():
            answered = bool(answer.mask.any()) if convention == "lisa" else answer.present
            count.update(pair, target=target, answered=answered)
        self.presence.update(answer.score, there=target)

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

    def take(self, sample: Sample, answers: Iterable[Answer]) -> None:
        """The probabilities against the mask."""
        truth = np.zeros(sample.size, bool)
        for region in sample.regions:
            if region.mask is not None and not region.ignore:
                truth |= region.mask.to_array()
        for answer in answers:
            soft = np.rint(answer.probability().clip(0, 1) * 255).astype(np.uint8)
            self.counts.update(soft, truth)

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

    def take(self, sample: Sample, answers: Iterable[Answer]) -> None:
        """J and F of each expression in this frame; of a hidden object an empty mask is right."""
        video, _, frame = sample.id.rpartition("/")
        shown: dict[str, list[Mask | None]] = defaultdict(list)
        for region in sample.regions:
            for text in () if region.ignore else region.captions:
                shown[text].append(region.mask)
        for text in sample.absent:
            shown[text].append(None)
        for text, answer in zip(self.ask(sample), answers, strict=True):
            for place, mask in enumerate(shown[text]):
                truth = np.zeros(sample.size, bool) if mask is None else mask.to_array()
                self.counts.update(video, f"{text}#{place}", frame, answer.mask, truth)

    def merge(self, other: VideoRule) -> None:
        """Take in what another one counted."""
        self.counts.merge(other.counts)

    def compute(self) -> dict[str, float]:
        """See JAndF."""
        return self.counts.compute()


@dataclass
class LabelMapRule:
    """ "all {name}" for every category of the set, and the masks joined to one label map.

    The papers that segment by text do not say how masks become a map. Here a pixel gets the category of the highest
    probability (of equal ones the first in the alphabet). Figures beginning with ``present_`` leave out categories that
    the model calls absent from the photo; the distance between the two shows what that choice does.

    background: the set counts the rest as a category of its own, as PASCAL VOC does; a pixel is background where no
        category is above one half. Without, every pixel gets a category.
    """

    background: bool = False
    names: tuple[str, ...] = ()
    counts: dict[str, Confusion] = field(default_factory=dict)

    def ask(self, sample: Sample) -> Sequence[str]:
        """The categories that the set marks exhaustively, in alphabetical order. They must be the same each time."""
        names = (("background",) if self.background else ()) + tuple(sorted(sample.exhaustive))
        if self.names and names != self.names:
            raise ValueError(f"{sample.id}: the set's categories differ from those of the photos before")
        if not self.names:
            self.names = names
            self.counts = {"": Confusion(names, IGNORE_INDEX), "present_": Confusion(names, IGNORE_INDEX)}
        return [all_category(name) for name in names[self.background :]]

    def take(self, sample: Sample, answers: Iterable[Answer]) -> None:
        """One map by each way of joining, against the truth."""
        best = {way: np.full(sample.size, 0.5 if self.background else -1.0, np.float32) for way in self.counts}
        maps = {way: np.full(sample.size, 0 if self.background else NONE, np.int32) for way in self.counts}
        for number, answer in enumerate(answers, start=int(self.background)):
            probability = answer.probability()
            for way in self.counts:
                if way == "" or answer.present:
                    higher = probability > best[way]
                    best[way][higher], maps[way][higher] = probability[higher], number
        truth = self._truth(sample)
        for way, count in self.counts.items():
            count.update(maps[way], truth)

    def _truth(self, sample: Sample) -> np.ndarray:
        numbers = {name: number for number, name in enumerate(self.names)}
        truth = np.full(sample.size, 0 if self.background else IGNORE_INDEX, np.int32)
        for region in sample.regions:
            if region.mask is not None and region.category is not None and not region.ignore:
                truth[region.mask.to_array()] = numbers[region.category]
        truth[Labels(sample).unknown] = IGNORE_INDEX
        return truth

    def merge(self, other: LabelMapRule) -> None:
        """Take in what another one counted."""
        if not self.counts:
            self.names, self.counts = other.names, other.counts
        elif other.counts:
            for way, count in self.counts.items():
                count.merge(other.counts[way])

    def compute(self) -> dict[str, float]:
        """See Confusion; each figure twice."""
        return {way + name: value for way, count in self.counts.items() for name, value in count.compute().items()}


NONE = -1  # no category is the best: only where all are called absent
IGNORE_INDEX = 1 << 20  # 255 is a category of sets with more than 255
