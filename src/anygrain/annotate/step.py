"""What a step is, and what a worker holds for its steps: teachers, and each photograph decoded and encoded once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from anygrain.types import ImageEmbedding, Sample

if TYPE_CHECKING:
    from PIL import Image

    from anygrain.segmenter import Segmenter

Loaded = TypeVar("Loaded", covariant=True)


class Teacher(Hashable, Protocol[Loaded]):
    """Settings of a teacher: a frozen dataclass. Equal settings share one loaded teacher in a worker."""

    @property
    def name(self) -> str:
        """What messages and ``origin`` call it, e.g. "sam-vit-base"."""
        ...

    @property
    def size(self) -> str:
        """What loading it costs for the first time, e.g. "375 MB from the Hub", for messages and ``--dry-run``."""
        ...

    def version(self) -> str:
        """Identifies the weights without loading them, e.g. a Hub revision or a model's fingerprint."""
        ...

    def load(self, device: str) -> Loaded:
        """Load the weights. Raises ValueError with one sentence: the teacher, the size, and the small route."""
        ...


class Step(Protocol):
    """A pure function over Samples with its settings: a frozen dataclass, so that its fields can be hashed.

    name: the word in routes, reports and ``origin``.
    """

    name: ClassVar[str]

    @property
    def teachers(self) -> tuple[Teacher[Any], ...]:
        """What it needs loaded; empty for steps without a teacher."""
        ...

    def __call__(self, samples: list[Sample], worker: Worker) -> list[Sample]:
        """As many samples as came in, in the same order, with other regions. Same input, same output."""
        ...


class Worker:
    """One process's teachers and photographs. Teachers are loaded once and stay; photographs go after each batch.

    device: as for ``anygrain.load``.
    drops: how many regions a step left out for a reason, by (step, reason), since the engine last took the counts.
    """

    def __init__(self, device: str = "cpu"):
        self.device = device
        self.drops: Counter[tuple[str, str]] = Counter()
        self._teachers: dict[Teacher[Any], Any] = {}
        self._images: dict[str, Image.Image] = {}
        self._embeddings: dict[tuple[str, str], ImageEmbedding] = {}

    def teacher(self, settings: Teacher[Loaded]) -> Loaded:
        """The loaded teacher."""
        if settings not in self._teachers:
            self._teachers[settings] = settings.load(self.device)
        return self._teachers[settings]

    def image(self, sample: Sample) -> Image.Image:
        """The decoded RGB photograph, decoded once a batch. Raises ImageError when it cannot be read."""
        from anygrain.images import open_image

        if sample.id not in self._images:
            self._images[sample.id] = open_image(sample.image)
        return self._images[sample.id]

    def keep_image(self, sample: Sample, image: Image.Image) -> None:
        """Called by the engine, which has decoded the photograph already to see whether it can be."""
        self._images[sample.id] = image

    def embeddings(self, samples: list[Sample], segmenter: Segmenter) -> list[ImageEmbedding]:
        """The photographs as ``segmenter`` sees them, encoded once a batch whichever steps ask."""
        model = segmenter.info["fingerprint"]
        new = list({sample.id: sample for sample in samples if (sample.id, model) not in self._embeddings}.values())
        fresh = segmenter.embed([self.image(sample) for sample in new]) if new else []
        self._embeddings.update({(sample.id, model): one for sample, one in zip(new, fresh, strict=True)})
        return [self._embeddings[sample.id, model] for sample in samples]

    def drop(self, step: str, reason: str, count: int = 1) -> None:
        """Say that ``step`` left out ``count`` regions. reason: a few constant words, for the report."""
        self.drops[step, reason] += count

    def forget_photographs(self) -> None:
        """Called by the engine after each batch: memory does not grow with the number of photographs."""
        self._images.clear()
        self._embeddings.clear()
