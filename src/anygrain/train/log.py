"""What a run leaves to look at: one JSON line every few steps, and the curves as a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class Log:
    """Append-only JSON lines. A resumed run drops what was written after its checkpoint. silent: writes nothing."""

    def __init__(self, path: Path, step: int, *, silent: bool = False):
        self.path, self.silent = path, silent
        if silent:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [record for record in read(path) if record["step"] <= step] if path.exists() and step else []
        path.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")

    def write(self, step: int, values: dict[str, Any]) -> None:
        """One line ``{"step": ..., **values}``; floats are rounded to six significant digits."""
        if self.silent:
            return
        rounded = {k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in values.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **rounded}) + "\n")


def read(path: Path) -> list[dict[str, Any]]:
    """All whole lines; a last line cut off by a crash is left out."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines]


def draw_curves(log: Path, picture: Path) -> None:
    """Draw every number of the log over the step, losses together, evaluation figures together, into a PNG.

    An empty log draws nothing.
    Raises ImportError with the command to run when matplotlib is missing.
    """
    records = read(log)
    panels = _panels(records)
    if not panels:  # stopped before the first line of the log
        return
    figure = figure_class()(figsize=(9, 3 * len(panels)), layout="constrained")
    for axes, (title, names) in zip(figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels.items(), strict=True):
        for name in names:
            points = [(record["step"], record[name]) for record in records if name in record]
            label = name.removeprefix(f"{title}/")
            axes.plot(*zip(*points, strict=True), label=label, marker="." if len(points) < 30 else None)
        axes.set_title(title)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    figure.savefig(picture, dpi=100)


def _panels(records: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Names of the numbers by their first part: "loss/dice" and "loss/total" share the panel "loss".

    Losses of several tasks have a panel a task: "loss/chat/text".
    """
    names = dict.fromkeys(name for record in records for name, v in record.items() if isinstance(v, int | float))
    panels: dict[str, list[str]] = {}
    for name in names:
        if name != "step":
            title = name.rpartition("/")[0] if name.startswith("loss/") else name.split("/")[0]
            panels.setdefault(title, []).append(name)
    return panels


def figure_class() -> Any:
    """matplotlib's Figure, which needs no display. Raises ImportError with the command to run when it is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("drawing curves needs matplotlib: pip install 'anygrain[train]'") from None
    return Figure
