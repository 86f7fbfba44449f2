"""Who made a region: every step that touches one leaves its teacher, the teacher's version and its score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from anygrain.annotate.step import Teacher
from anygrain.types import Region, Sample


def trace(
    region: Region, step: str, teachers: Iterable[Teacher[Any]] = (), sure: float | None = None, **fields: Any
) -> Region:
    """The region with ``fields`` changed and the step written into ``origin``, with how sure its teacher was.

    ``origin["step"]`` is the last step; under each step's own name stands "teacher@version score", e.g.
    ``{"step": "propose", "detect": "grounding-dino-tiny@a2bb8149 0.482", "propose": "sam-vit-base@70c1a07f 0.951"}``.
    Several teachers of a step are joined by " + "; a step without teachers leaves an empty text, or its score.
    """
    who = " + ".join(f"{teacher.name}@{teacher.version()}" for teacher in teachers)
    words = [who] if who else []
    if sure is not None:
        words.append(f"{sure:.3f}")
    return replace(region, origin={**region.origin, "step": step, step: " ".join(words)}, **fields)


def changed(sample: Sample, regions: Iterable[Region]) -> Sample:
    """The sample with other regions. A category that lost a region is no longer exhaustively annotated."""
    regions = tuple(regions)
    before = Counter(region.category for region in sample.regions)
    after = Counter(region.category for region in regions)
    lost = {category for category, count in before.items() if category is not None and after[category] < count}
    return replace(sample, regions=regions, exhaustive=sample.exhaustive - lost)
