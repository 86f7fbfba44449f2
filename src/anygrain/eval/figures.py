"""The table of figures that a model worth shipping has to reach, out of sources and protocols."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from anygrain import markdown
from anygrain.eval.photo import Asked, Photo
from anygrain.eval.protocols import HUMAN, BestPerson, HumanPhrases, Named, VideoPhrases
from anygrain.eval.referring import Referring
from anygrain.eval.report import POOLED, SourceReport, total
from anygrain.eval.targets import FREQUENT_CLOTHING, TARGETS, Target
from anygrain.eval.wording import Paraphrases, UnseenWords

# Sentences about a whole photo: whether they are true is another question than whether a thing is there.
STATEMENTS = "statements"


class FigureProtocol(Protocol):
    """Asks about photos of the sources that concern it, and makes figures of the answers."""

    def ask(self, photo: Photo) -> Asked:
        """All texts to ask about this photo."""
        ...

    def figures(self) -> dict[str, float]:
        """Figures by key; none when nothing was asked."""
        ...

    def details(self) -> dict[str, Any]:
        """What stands behind the figures, ready for JSON."""
        ...


def all_protocols() -> dict[str, FigureProtocol]:
    """A fresh one of each, by name."""
    return {
        "named": Named(),
        "best_person": BestPerson(),
        "davis": VideoPhrases(),
        "referring": Referring(),
        "human": HumanPhrases(),
        "paraphrases": Paraphrases(),
        "unseen": UnseenWords(),
    }


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Measured figures beside their targets; ``print`` it for the table.

    values: by key, "source.figure" or "protocol.figure". details: what stands behind them, by protocol.
    """

    values: Mapping[str, float]
    details: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, protocols: Mapping[str, FigureProtocol], sources: Mapping[str, SourceReport]) -> Figures:
        """Put together what the protocols and the questions of all sources measured."""
        values = {f"{name}.{key}": value for name, source in sources.items() for key, value in source.figures.items()}
        overall = total([source.figures for name, source in sources.items() if name != STATEMENTS])
        values |= {f"presence.{key}": overall[key] for key in POOLED if key in overall}
        categories = sources["clothing"].categories if "clothing" in sources else {}
        frequent = [categories[name]["iou"] for name in FREQUENT_CLOTHING if name in categories]
        if frequent:
            values["clothing.frequent_miou"] = sum(frequent) / len(frequent)
        for protocol in protocols.values():
            values |= protocol.figures()
        return cls(values=values, details={name: protocol.details() for name, protocol in protocols.items()})

    def rows(self) -> list[tuple[Target, float | None]]:
        """Each target with its value, None when it was not measured; then the mIoU of every further source."""
        named = {target.key.partition(".")[0] for target in TARGETS} | set(HUMAN)
        further = [
            Target(key, f"{source}: mIoU of its categories")
            for key in sorted(self.values)
            for source, _, name in [key.partition(".")]
            if name == "category_miou" and source not in named
        ]
        return [(target, self.values.get(target.key)) for target in (*TARGETS, *further)]

    def table(self) -> str:
        """figure | measured | at least | aim, a line a figure, as Markdown that also reads well as it is."""
        lines = [["figure", "measured", "at least", "aim"]]
        lines += [
            [target.figure, *(number(value, target) for value in (measured, target.at_least, target.aim))]
            for target, measured in self.rows()
        ]
        return markdown.table(lines)

    def __str__(self) -> str:
        return self.table()

    def to_json(self) -> dict[str, Any]:
        """Rows with their targets, and what stands behind them."""
        table = [
            {
                "key": target.key,
                "figure": target.figure,
                "measured": measured,
                "at_least": target.at_least,
                "aim": target.aim,
            }
            for target, measured in self.rows()
        ]
        return {"table": table, "values": dict(self.values), "details": dict(self.details)}


def number(value: float | None, target: Target) -> str:
    """A value as the table shows it: three digits or a percentage; "-" for none."""
    if value is None:
        return "-"
    return f"{value:.1%}" if target.percent else f"{value:.3f}"
