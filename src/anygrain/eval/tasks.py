"""What is asked about the photos of a source, and which answer is right."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from anygrain.data.labels import Candidate, absent_candidates, present_candidates
from anygrain.data.language import SALIENT, all_category
from anygrain.types import Sample

ABSENT_PER_PHOTO = 4


@dataclass(frozen=True)
class Question:
    """One prompt about one photo.

    text: what is asked.
    kind: "category" ("all {name}"), "salient", "phrase" (any other natural caption), or "absent" ("all {name}" of
        something that is not in the photo).
    candidate: the regions whose union is the right answer.
    """

    text: str
    kind: Literal["category", "salient", "phrase", "absent"]
    candidate: Candidate


def questions(sample: Sample, *, absent: int = ABSENT_PER_PHOTO) -> list[Question]:
    """All that is asked about a photo, always the same.

    Every natural caption as it is, "all {name}" for every category that is present, and for up to ``absent`` of the
    categories that certainly are not.
    """
    asked = []
    for candidate in present_candidates(sample):
        if candidate.category is not None:
            asked.append(Question(all_category(candidate.category), "category", candidate))
        for text in dict.fromkeys(candidate.captions):
            asked.append(Question(text, "salient" if text == SALIENT else "phrase", candidate))
    for candidate in choose_absent(sample, absent):
        asked.append(Question(all_category(candidate.category or ""), "absent", candidate))
    return asked


def choose_absent(sample: Sample, count: int) -> Sequence[Candidate]:
    """``count`` of the absent categories. Chosen by a hash: each photo gets others, each run and machine the same."""
    return sorted(absent_candidates(sample), key=lambda candidate: order(sample.id, candidate.category or ""))[:count]


def order(*parts: str) -> int:
    """A number as if by chance, but the same everywhere."""
    return int.from_bytes(hashlib.sha256("\0".join(parts).encode()).digest()[:6], "big")


def spread(length: int, limit: int | None) -> Sequence[int]:
    """``limit`` evenly spaced numbers out of ``range(length)``: neighbours are often frames of one video.

    Raises ValueError for a limit below 1.
    """
    if limit is None or limit >= length:
        return range(length)
    if limit < 1:
        raise ValueError(f"limit is {limit}; evaluate at least 1 photo of a source")
    return [place * length // limit for place in range(limit)]
