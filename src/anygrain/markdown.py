"""Tables in Markdown that also read well as they are."""

from __future__ import annotations

from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equally many cells, the first of them the head -> text; the first column left-aligned, others right.

    >>> print(table([["set", "IoU"], ["pets", "0.9"]]))
    | set  | IoU |
    |------|----:|
    | pets | 0.9 |
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["| " + " | ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) + " |" for row in rows]
    rule = "|".join(["", "-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:]), ""])
    return "\n".join([lines[0], rule, *lines[1:]])
