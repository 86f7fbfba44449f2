"""Means whose parts merge to the last bit: numbers are summed as whole multiples of 1 / UNIT, in any order."""

from __future__ import annotations

from dataclasses import dataclass

UNIT = 1 << 48  # sums of floats would depend on their order


def share(part: int, whole: int) -> int:
    """part / whole as a multiple of 1 / UNIT, rounded down."""
    return part * UNIT // whole


@dataclass
class ExactMean:
    """A mean of numbers. total: their sum in multiples of 1 / UNIT."""

    count: int = 0
    total: int = 0

    def update(self, value: float) -> None:
        """Count one number."""
        self.count += 1
        self.total += round(value * UNIT)

    def merge(self, other: ExactMean) -> None:
        """Take in what another one counted."""
        self.count += other.count
        self.total += other.total

    @property
    def mean(self) -> float:
        """The mean; 0 of nothing."""
        return self.total / (UNIT * self.count) if self.count else 0.0
