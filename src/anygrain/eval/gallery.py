"""A few examples out of very many answers, drawn only when they are kept: memory and time do not grow with the rest."""

from __future__ import annotations

import heapq
import io
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from anygrain.data.transforms import IGNORE
from anygrain.draw import draw_masks
from anygrain.eval.metrics import Overlap
from anygrain.eval.tasks import Question, order
from anygrain.types import Prediction, Sample

SIDE = 280  # long side of a thumbnail in pixels
TRUTH, ANSWER = 2, 1  # rows of the palette: green and orange


@dataclass(frozen=True, kw_only=True)
class Example:
    """One answer. picture: JPEG, truth and answer side by side. iou: None when the thing asked for is absent."""

    sample: str
    text: str
    kind: str
    iou: float | None
    score: float
    answered: bool
    picture: bytes


class Best:
    """The ``size`` examples with the smallest keys of all that were offered."""

    def __init__(self, size: int):
        self.size = size
        self._heap: list[tuple[float, float, int, Example]] = []  # keys negated: the largest comes first
        self._offered = 0

    def offer(self, key: tuple[float, float], draw: Callable[[], Example]) -> None:
        """Keep what ``draw`` makes if the key is small enough; of equal keys the earlier one stays."""
        self._offered += 1
        entry = (-key[0], -key[1], -self._offered)
        if self.size < 1 or (len(self._heap) == self.size and entry <= self._heap[0][:3]):
            return
        heapq.heappush(self._heap, (*entry, draw()))
        if len(self._heap) > self.size:
            heapq.heappop(self._heap)

    def merge(self, other: Best) -> None:
        """Keep the smallest of both."""
        for entry in sorted(other._heap, key=lambda entry: entry[:3], reverse=True):
            self.offer((-entry[0], -entry[1]), lambda example=entry[3]: example)

    def examples(self) -> list[Example]:
        """The kept ones, smallest key first."""
        return [entry[3] for entry in sorted(self._heap, key=lambda entry: entry[:3], reverse=True)]


@dataclass
class Gallery:
    """Examples of one source: the worst answers, the largest answers to what is not there, and some by chance."""

    size: int
    worst: Best = field(init=False)
    invented: Best = field(init=False)
    random: Best = field(init=False)

    def __post_init__(self):
        if self.size < 0:
            raise ValueError(f"overlays is {self.size}; give 0 or more")
        self.worst, self.random = Best(self.size), Best(self.size)
        self.invented = Best(-(-self.size // 2))

    def offer(
        self, sample: Sample, question: Question, prediction: Prediction, labels: np.ndarray, pair: Overlap
    ) -> None:
        """Consider one answer for each of the three; there is nothing to show where the right mask is not known."""
        if question.kind == "unmasked":
            return

        def draw() -> Example:
            return Example(
                sample=sample.id,
                text=question.text,
                kind=question.kind,
                iou=None if question.kind == "absent" else pair.iou,
                score=float(prediction.scores[0]),
                answered=bool(prediction.present[0]),
                picture=side_by_side(prediction.image, labels, prediction.masks[0]),
            )

        if question.kind != "absent":
            self.offer_right(draw, sample.id, question.text, pair.iou, labels)
        elif prediction.present[0]:
            self.invented.offer((-float(prediction.masks[0].mean()), 0), draw)

    def offer_right(self, draw: Callable[[], Example], sample: str, text: str, iou: float, labels: np.ndarray) -> None:
        """Consider an answer to what is there for the worst, and for those by chance."""
        # Of answers equally bad (most often: none at all) the larger object is the more telling failure.
        self.worst.offer((iou, -float((labels == 1).mean())), draw)
        self.random.offer((order("random", sample, text), 0), draw)

    def merge(self, other: Gallery) -> None:
        """Take in the examples of another one."""
        for mine, theirs in ((self.worst, other.worst), (self.invented, other.invented), (self.random, other.random)):
            mine.merge(theirs)


def side_by_side(image: Image.Image, labels: np.ndarray, mask: np.ndarray) -> bytes:
    """JPEG: the photo with the truth in green (unknown places greyed), and beside it with the answer in orange."""
    scale = min(1, SIDE / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    truth = _paint(_greyed(small, _shrunk(labels == IGNORE, size)), _shrunk(labels == 1, size), TRUTH)
    answer = _paint(small, _shrunk(mask, size), ANSWER)
    both = Image.new("RGB", (2 * size[0] + 4, size[1]), (255, 255, 255))
    both.paste(truth, (0, 0))
    both.paste(answer, (size[0] + 4, 0))
    out = io.BytesIO()
    both.save(out, "JPEG", quality=70)
    return out.getvalue()


def _shrunk(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bool [H, W] -> bool [h, w], size (w, h). Averaged first, so that thin and small things are still to be seen."""
    grey = Image.fromarray(mask.astype(np.uint8) * np.uint8(255))
    return np.asarray(grey.resize(size, Image.Resampling.BOX)) >= 96


def _paint(image: Image.Image, mask: np.ndarray, row: int) -> Image.Image:
    """The mask in the colour that row ``row`` of a prediction has."""
    masks = np.zeros((row + 1, *mask.shape), bool)
    masks[row] = mask
    return draw_masks(image, masks, [""] * (row + 1))


def _greyed(image: Image.Image, where: np.ndarray) -> Image.Image:
    grey = Image.blend(image.convert("L").convert("RGB"), Image.new("RGB", image.size, (128, 128, 128)), 0.6)
    return Image.composite(grey, image, Image.fromarray(where.astype(np.uint8) * np.uint8(255)))
