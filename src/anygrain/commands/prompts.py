"""Clicks, boxes and names from the words of a command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anygrain.types import Prompt

MOST_PROMPTS = 1000  # clicks and boxes for a photo


def click_prompts(
    points: Sequence[str],
    boxes: Sequence[str],
    granularity: str = "all",
    categories: str | None = None,
    part_categories: str | None = None,
) -> list[Prompt]:
    """Prompts of ``--point`` and ``--box``, in this order. Raises ValueError with one sentence for bad ones."""
    from anygrain.types import Prompt

    if len(points) + len(boxes) > MOST_PROMPTS:
        raise ValueError(
            f"{len(points) + len(boxes):,} clicks and boxes are more than the {MOST_PROMPTS:,} that one photo takes "
            "here: use `anygrain everything` for a grid of clicks"
        )
    common = {
        "granularity": granularity,
        "categories": read_names(categories, "--categories"),
        "part_categories": read_names(part_categories, "--part-categories"),
    }
    if common["part_categories"] and not (points or boxes):
        raise ValueError("--part-categories name parts of what is clicked: give a --point or a --box too")
    prompts = []
    for text in points:
        clicks = [_numbers(word, (2, 3), "--point", "X,Y") for word in text.split()]
        if not clicks:
            raise ValueError("--point is empty: give a click as X,Y, for instance 310,200")
        labels = tuple(_label(click[2]) if len(click) == 3 else 1 for click in clicks)
        prompts.append(Prompt(points=tuple((c[0], c[1]) for c in clicks), point_labels=labels, **common))
    for text in boxes:
        x0, y0, x1, y1 = _numbers(text, (4,), "--box", "X0,Y0,X1,Y1")
        prompts.append(Prompt(box=(x0, y0, x1, y1), **common))
    return prompts


def scribble_prompts(scribbles: Sequence[str]) -> list[Prompt]:
    """Prompts of ``--scribble``. Raises ValueError with one sentence for bad ones."""
    from anygrain.types import Prompt

    prompts = []
    for text in scribbles:
        points = tuple((x, y) for x, y in (_numbers(word, (2,), "--scribble", "X,Y") for word in text.split()))
        if not points:
            raise ValueError("--scribble is empty: give the points of a stroke, for instance '300,180 320,200'")
        prompts.append(Prompt(scribble=points))
    return prompts


def read_names(text: str | None, option: str) -> tuple[str, ...]:
    """Names between commas, each once. Raises ValueError when there is none."""
    if text is None:
        return ()
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise ValueError(f"{option} holds no name: give names with commas between them, for instance 'person,dog'")
    return names


def _numbers(text: str, counts: Sequence[int], option: str, form: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) not in counts:
        raise ValueError(f"{option} {text!r} is not of the form {form}: give numbers with commas between them")
    return numbers


def _label(value: float) -> int:
    if value not in (0, 1):
        raise ValueError(f"the third number of a --point is 1 (on the thing) or 0 (not on it), got {value:g}")
    return int(value)
