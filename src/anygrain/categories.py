"""Lists of categories: those of well-known data sets, which ship in ``class_lists``, and a person's own.

A list is a text file with a category a line: its name, or ``id<TAB>name``, or ``id<TAB>name<TAB>thing`` (or ``stuff``).
Lines that begin with ``#`` are remarks; in the shipped lists they name the source.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).parent / "class_lists"
LISTS = ("coco", "coco80", "ade20k", "cityscapes", "pascal20", "pascal_context59", "pascal_context459")
"""Names of the shipped lists."""
_SPLIT_LISTS = ("coco", "ade20k", "cityscapes")  # that know things from stuff; where they differ the first one counts


@dataclass(frozen=True)
class CategoryList:
    """Names in the list's order, the id of each, and whether it is a thing: counted, not only measured."""

    names: tuple[str, ...]
    ids: tuple[int, ...]
    things: tuple[bool, ...]

    @property
    def id_of(self) -> dict[str, int]:
        """Name to id."""
        return dict(zip(self.names, self.ids, strict=True))


def categories(source: str) -> CategoryList:
    """A shipped list by its name, a list in a file, or names between commas ("person, dog, sky").

    Raises ValueError when it is none of these or the list has a fault, OSError when a file cannot be read.
    """
    if source in LISTS:
        return read_list(_FOLDER / f"{source}.txt")
    if Path(source).is_file():
        return read_list(Path(source))
    if Path(source).suffix == ".txt" or "/" in source:
        raise ValueError(f"there is no file {source}: check the path, or give one of {', '.join(LISTS)}")
    return _checked([(None, name.strip(), None) for name in source.split(",") if name.strip()], f"'{source}'")


@cache
def read_list(path: Path) -> CategoryList:
    """A list from a file. Raises ValueError that names the line with a fault, OSError when it cannot be read."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a list of categories: it is not text in UTF-8") from None
    rows: list[tuple[int | None, str, bool | None]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = [part.strip() for part in line.split("\t")]
        if len(parts) == 1:
            rows.append((None, parts[0], None))
        elif len(parts) <= 3 and parts[0].isdecimal() and parts[1] and parts[2:] in ([], ["thing"], ["stuff"]):
            rows.append((int(parts[0]), parts[1], parts[2] == "thing" if len(parts) == 3 else None))
        else:
            raise ValueError(f"{path}, line {number}: give a name, or id, name and 'thing' or 'stuff' between tabs")
    return _checked(rows, str(path))


def _checked(rows: list[tuple[int | None, str, bool | None]], where: str) -> CategoryList:
    if not rows:
        raise ValueError(f"{where} names no category: give a name a line, or names between commas")
    names = [name for _, name, _ in rows]
    ids = [place if number is None else number for place, (number, _, _) in enumerate(rows, 1)]
    for what, values in (("name", names), ("id", ids)):
        twice = [value for place, value in enumerate(values) if value in values[:place]]
        if twice:
            raise ValueError(f"{where} has the {what} '{twice[0]}' twice: give each category once")
    things = [guess_thing(name) if thing is None else thing for _, name, thing in rows]
    return CategoryList(tuple(names), tuple(ids), tuple(things))


def guess_thing(name: str) -> bool:
    """Whether a name means a thing: as COCO, ADE20K or Cityscapes have it, in this order.

    Looked up are the name, then its last word; of synonyms between commas the first counts. A name that none of them
    knows is a thing.
    """
    words = name.split(",")[0].strip().casefold()
    table = _known()
    return table.get(words, table.get(words.rsplit(" ", 1)[-1], True))


@cache
def _known() -> dict[str, bool]:
    """Every name of the lists that know; COCO's "wall-brick" also as "wall" and "brick wall"."""
    table: dict[str, bool] = {}
    for source in _SPLIT_LISTS:
        for line in (_FOLDER / f"{source}.txt").read_text(encoding="utf-8").splitlines():
            if line.startswith("#"):
                continue
            _, name, kind = line.split("\t")
            head, *rest = (part for part in name.split("-") if part not in ("merged", "other", "stuff"))
            for form in (name, head, " ".join([*rest, head])):
                table.setdefault(form, kind == "thing")
    return table
