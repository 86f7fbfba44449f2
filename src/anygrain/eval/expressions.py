"""Referring expressions: cIoU, gIoU, P@X, N-acc and T-acc, by the conventions of the published evaluators."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from anygrain.eval.exact import UNIT, share
from anygrain.eval.metrics import Overlap

TENTHS = (5, 6, 7, 8, 9)  # P@0.5 ... P@0.9
ALL_AT = 7  # tenths: every expression of an object at IoU 0.7

Convention = Literal["refcoco", "rela", "lisa"]


def _none() -> list[int]:
    return [0] * len(TENTHS)


@dataclass
class ExpressionIoU:
    """Figures over expressions, each with its mask, its truth and, for some, nothing to be found.

    ``ciou`` (also called oIoU, overall or cumulative IoU) is the sum of intersections over the sum of unions;
    ``giou`` (mIoU) the mean of the IoU of each expression; ``p_at_X`` the share with IoU >= X. The published evaluators
    differ in what is not an ordinary target:

    - "refcoco" (LAVT ``test.py``, and CRIS, UNINEXT ...): every expression has a target. An IoU of 0 / 0 is 0.
    - "rela" (gRefCOCO, ``refer_evaluation.py`` of the ReLA code): that nothing is there is an answer of its own. No
      target and called so: IoU 1, no pixels counted. No target but answered: IoU 0, the answer's pixels join the union.
      A target called absent: intersection 0, union as drawn. P@X is over targets only, 0 / 0 is 0. ``n_acc``: share of
      no-target expressions called so. ``t_acc``: share of targets not called absent.
    - "lisa" (``train_ds.py``, and GSVA, PixelLM ...): the masks alone decide. IoU is I / (U + 1e-5), and 1 is added
      where the union is empty. n_acc and t_acc are of masks with no and with some pixel.
    """

    convention: Convention = "rela"
    prompts: int = 0
    total: int = 0
    intersection: int = 0
    union: int = 0
    over: list[int] = field(default_factory=_none)
    targets: int = 0
    targets_answered: int = 0
    refused: int = 0

    def update(self, pair: Overlap, *, target: bool = True, answered: bool = True) -> None:
        """Count one expression.

        pair: of the mask as drawn with the truth (a truth without a pixel for no target).
        target: the expression has one, even if its mask has no pixel.
        answered: the model says that something is there; for "lisa": its mask has a pixel.
        Raises ValueError for an expression without a target under the convention "refcoco".
        """
        if self.convention == "refcoco" and not target:
            raise ValueError("RefCOCO, RefCOCO+ and RefCOCOg have a target for each expression; use rela or lisa")
        if self.convention == "rela" and not answered:
            pair = Overlap(0, pair.union if target else 0)
        self.prompts += 1
        self.total += self._iou(pair, target, answered)
        self.intersection += pair.intersection
        self.union += pair.union
        if target:
            self.targets += 1
            self.targets_answered += answered
            for place, tenths in enumerate(TENTHS):
                self.over[place] += pair.union > 0 and 10 * pair.intersection >= tenths * pair.union
        else:
            self.refused += not answered

    def _iou(self, pair: Overlap, target: bool, answered: bool) -> int:
        """In multiples of 1 / UNIT."""
        if self.convention == "lisa":
            return UNIT if pair.union == 0 else share(10**5 * pair.intersection, 10**5 * pair.union + 1)
        if not target:
            return 0 if answered else UNIT
        return share(pair.intersection, pair.union) if pair.union else 0

    def merge(self, other: ExpressionIoU) -> None:
        """Take in what another one of the same convention counted. Raises ValueError for another convention."""
        if other.convention != self.convention:
            raise ValueError(f"figures by the convention {other.convention} cannot join those by {self.convention}")
        for name in ("prompts", "total", "intersection", "union", "targets", "targets_answered", "refused"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.over = [a + b for a, b in zip(self.over, other.over, strict=True)]

    def compute(self) -> dict[str, float]:
        """All figures in 0..1, and the number of ``prompts``; those without a prompt are left out."""
        if not self.prompts:
            return {}
        figures: dict[str, float] = {"prompts": self.prompts, "giou": self.total / (UNIT * self.prompts)}
        figures["ciou"] = self.intersection / self.union if self.union else 0.0
        if self.targets:
            figures |= {f"p_at_0.{t}": n / self.targets for t, n in zip(TENTHS, self.over, strict=True)}
        if self.prompts > self.targets:
            figures["n_acc"] = self.refused / (self.prompts - self.targets)
            if self.targets:
                figures["t_acc"] = self.targets_answered / self.targets
        return figures


@dataclass
class SameTarget:
    """Several expressions mean one object: are all of them understood?

    ``all_at_0.7``: share of objects of which every expression reaches IoU 0.7. ``worst_iou``: mean over objects of the
    lowest IoU. Over objects with at least two expressions.
    worst: by object (image and annotation) the pair of lowest IoU and the number of expressions.
    """

    worst: dict[str, tuple[Overlap, int]] = field(default_factory=dict)

    def update(self, target: str, pair: Overlap) -> None:
        """Count one expression about the object ``target``."""
        self._add(target, pair, 1)

    def merge(self, other: SameTarget) -> None:
        """Take in what another one counted; the expressions of one object may be in both."""
        for target, (pair, count) in other.worst.items():
            self._add(target, pair, count)

    def _add(self, target: str, pair: Overlap, count: int) -> None:
        low, before = self.worst.get(target, (pair, 0))
        # Compared by cross products; of equal IoU the smaller union, so that the order does not matter.
        key, key_low = (pair.intersection * low.union, pair.union), (low.intersection * pair.union, low.union)
        if pair.union == 0 or low.union == 0:
            key, key_low = (pair.intersection, pair.union), (low.intersection, low.union)
        self.worst[target] = (min((key, pair), (key_low, low))[1], before + count)

    def compute(self) -> dict[str, float]:
        """``all_at_0.7``, ``worst_iou`` and the number of ``same_targets``; nothing when there was none."""
        pairs = [pair for pair, count in self.worst.values() if count > 1]
        if not pairs:
            return {}
        return {
            "same_targets": len(pairs),
            "all_at_0.7": sum(p.union > 0 and 10 * p.intersection >= ALL_AT * p.union for p in pairs) / len(pairs),
            "worst_iou": sum(share(*p) if p.union else 0 for p in pairs) / (UNIT * len(pairs)),
        }
