"""``predictions.jsonl``: what a model answered to a benchmark, from which the figures are counted and a run goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anygrain.eval.rules import Record


class Predictions:
    """A first line that says whose answers to what these are, then a line a sample, in the order of the data set.

    A sample is written when all of its texts are answered, in one piece. The half line that a killed run leaves is
    cut off when another run goes on.

    path: the file. head: what must be the same in both runs. resume: go on with what is there; nothing there is no
    error. Raises ValueError when the file is of another run.
    """

    def __init__(self, path: Path, head: Mapping[str, Any], *, resume: bool):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.reading = path, resume and path.exists()
        self._file = path.open("r+b" if self.reading else "wb")
        if self.reading and (before := self._line()) is not None:
            if before != head:
                self._file.close()
                raise ValueError(f"{path}: of another run ({_difference(before, head)}); take another --out")
        else:
            self._write(head)

    def kept(self, sample: str) -> tuple[list[Record], float] | None:
        """Records of the next sample and the seconds it took, when an earlier run has answered it.

        Raises ValueError when the file goes on with another sample.
        """
        line = self._line() if self.reading else None
        if line is None:
            return None
        if line["id"] != sample:
            raise ValueError(f"{self.path}: {line['id']} stands where the data set has {sample}; take another --out")
        return line["answers"], line["seconds"]

    def write(self, sample: str, records: Sequence[Record], seconds: float) -> None:
        """Add a sample."""
        self._write({"id": sample, "seconds": round(seconds, 3), "answers": records})

    def _write(self, content: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(content, ensure_ascii=False).encode() + b"\n")
        self._file.flush()

    def _line(self) -> dict[str, Any] | None:
        """The next whole line; at the end the file is ready to be written on."""
        start, line = self._file.tell(), self._file.readline()
        if not line.endswith(b"\n"):
            self._file.seek(start)
            self._file.truncate()
            self.reading = False
            return None
        try:
            return json.loads(line)
        except ValueError as error:
            raise ValueError(f"{self.path}: a line at byte {start} is not JSON; take another --out") from error

    def __enter__(self) -> Predictions:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


def _difference(before: Mapping[str, Any], head: Mapping[str, Any]) -> str:
    names = [name for name in head if before.get(name) != head[name]]
    return ", ".join(f"{name} was {before.get(name)} and is {head[name]}" for name in names) or "no first line"
