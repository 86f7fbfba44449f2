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

Kind = Literal["category", "salient", "phrase", "unmasked", "absent"]


@dataclass(frozen=True)
class Question:
    """One prompt about one photo.

    text: what is asked.
    kind: "category" ("all {name}"), "salient", "phrase" (any other natural caption), "unmasked" (a natural caption of
        something that is there but has no mask), or "absent" (a caption that fits nothing, or "all {name}" of something
        that is not in the photo).
    candidate: the regions whose union is the right answer.
    """

    text: str
    kind: Kind
    candidate: Candidate


def questions(sample: Sample, *, absent: int = ABSENT_PER_PHOTO) -> list[Question]:
    """All that is asked about a photo, always the same.

    Every natural caption as it is, "all {name}" for every category that has a mask, every caption known to be wrong,
    and "all {name}" for up to ``absent`` of the categories that certainly are not there.
    """
    asked = []
    for candidate in present_candidates(sample, boxes=True):
        masked = candidate.known == "mask"
        if candidate.category is not None and masked:
            asked.append(Question(all_category(candidate.category), "category", candidate))
        for text in dict.fromkeys(candidate.captions):
            kind = ("salient" if text == SALIENT else "phrase") if masked else "unmasked"
            asked.append(Question(text, kind, candidate))
    for candidate in choose_absent(sample, absent):
        texts = candidate.captions if candidate.category is None else (all_category(candidate.category),)
        asked += [Question(text, "absent", candidate) for text in texts]
    return asked


def choose_absent(sample: Sample, count: int) -> Sequence[Candidate]:
    """All absent captions and ``count`` of the absent categories.

    Chosen by a hash: each photo gets others, each run and machine the same.
    """
    absent = absent_candidates(sample)
    names = sorted(
        (candidate for candidate in absent if candidate.category is not None),
        key=lambda candidate: order(sample.id, candidate.category or ""),
    )
    return [candidate for candidate in absent if candidate.category is None] + names[:count]


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
