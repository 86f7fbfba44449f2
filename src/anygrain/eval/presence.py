"""How well presence scores tell "there" from "not there": area under the ROC curve and calibration error."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from anygrain.eval.reliability import Reliability


@dataclass
class PresenceScores:
    """``presence_auroc``: the chance that something present has a higher score than something absent, ties half
    (Mann-Whitney), exact over all pairs. ``calibration_error``: see Reliability.

    there, absent: how often each score was given to prompts about present and about absent things.
    """

    there: Counter[float] = field(default_factory=Counter)
    absent: Counter[float] = field(default_factory=Counter)
    reliability: Reliability = field(default_factory=Reliability)

    def update(self, score: float, *, there: bool) -> None:
        """Count one prompt with its presence score in 0..1. there: the truth."""
        (self.there if there else self.absent)[float(score)] += 1
        self.reliability.update(score, there=there)

    def merge(self, other: PresenceScores) -> None:
        """Take in what another one counted."""
        self.there.update(other.there)
        self.absent.update(other.absent)
        self.reliability.merge(other.reliability)

    def compute(self) -> dict[str, float]:
        """The figures that can be told: the area needs prompts of both kinds, the error one of any."""
        figures: dict[str, float] = {}
        there, absent = sum(self.there.values()), 0
        won = 0  # twice the number of pairs won
        for score in sorted(self.there.keys() | self.absent.keys()):
            won += self.there[score] * (2 * absent + self.absent[score])
            absent += self.absent[score]
        if there and absent:
            figures["presence_auroc"] = won / (2 * there * absent)
        if (error := self.reliability.error()) is not None:
            figures["calibration_error"] = error
        return figures
