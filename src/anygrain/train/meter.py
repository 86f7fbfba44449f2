"""Means over the steps of training, and where the time went."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor


class Meter:
    """Means since it was last read. images: of a step."""

    def __init__(self, images: int):
        self.images = images
        self._clear()

    def _clear(self) -> None:
        self.steps, self.loader, self.compute = 0, 0.0, 0.0
        self.sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros(()))
        self.counts: dict[str, int] = defaultdict(int)

    def batch_wanted(self) -> None:
        """A step begins."""
        self.mark = time.perf_counter()

    def batch_came(self) -> None:
        """Its batch is there."""
        now = time.perf_counter()
        self.loader += now - self.mark
        self.mark = now

    def step_done(self, losses: Mapping[str, Tensor], norm: Tensor) -> None:
        """The weights have moved; losses by name, those of some steps only too, and the gradient's norm."""
        values = {f"loss/{name}": value for name, value in losses.items()} | {"gradient_norm": norm}
        for name, value in values.items():
            self.sums[name] = self.sums[name] + value.cpu()
            self.counts[name] += 1
        self.compute += time.perf_counter() - self.mark
        self.steps += 1

    def read(self) -> dict[str, float]:
        """The means, a loss's over the steps that had it; then begin anew."""
        values = {name: float(value) / self.counts[name] for name, value in self.sums.items()}
        values["images_per_second"] = self.images * self.steps / (self.loader + self.compute)
        values["seconds/loader"] = self.loader / self.steps
        values["seconds/step"] = self.compute / self.steps
        self._clear()
        return values
