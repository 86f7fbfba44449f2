"""Whether presence scores mean what they say: of all answers with a score of 0.7, is the thing there in 70 %?"""

from __future__ import annotations

from dataclasses import dataclass, field

from anygrain.eval.exact import UNIT

BINS = 10


def _zeros() -> list[int]:
    return [0] * BINS


@dataclass
class Reliability:
    """Prompts by score, in ten bins of equal width; a score on an edge belongs to the upper bin, and 1 to the last.

    prompts, there, scores: of each bin the number of prompts, of those about something present, and the sum of scores.
    """

    prompts: list[int] = field(default_factory=_zeros)
    there: list[int] = field(default_factory=_zeros)
    scores: list[int] = field(default_factory=_zeros)

    def update(self, score: float, *, there: bool) -> None:
        """Count one prompt with its presence score in 0..1. there: the truth."""
        place = min(int(score * BINS), BINS - 1)
        self.prompts[place] += 1
        self.there[place] += there
        self.scores[place] += int(score * UNIT)

    def merge(self, other: Reliability) -> None:
        """Take in what another one counted."""
        for mine, theirs in ((self.prompts, other.prompts), (self.there, other.there), (self.scores, other.scores)):
            mine[:] = [a + b for a, b in zip(mine, theirs, strict=True)]

    def curve(self) -> list[dict[str, float]]:
        """Each bin that has prompts: its edges ``low`` and ``high``, number, mean ``score`` and share ``there``."""
        return [
            {
                "low": place / BINS,
                "high": (place + 1) / BINS,
                "prompts": count,
                "score": self.scores[place] / (UNIT * count),
                "there": self.there[place] / count,
            }
            for place, count in enumerate(self.prompts)
            if count
        ]

    def error(self) -> float | None:
        """Expected calibration error: mean distance of score and share there, each bin by its prompts; None without."""
        total = sum(self.prompts)
        if not total:
            return None
        return sum(abs(point["score"] - point["there"]) * point["prompts"] for point in self.curve()) / total

    def to_json(self) -> dict[str, object]:
        """The curve and its error."""
        return {"calibration_error": self.error(), "curve": self.curve()}
