"""What a folder of annotations was made with, as plain values: steps with all their fields, teachers with versions."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from anygrain.annotate.step import Step, Teacher


def settings_of(steps: Sequence[Step]) -> dict[str, Any]:
    """``{"steps": [...], "teachers": {name: version}}``, ready for JSON.

    Versions are asked for here. Raises ValueError for a field that is no plain value, and what ``version`` raises.
    """
    return {
        "steps": [
            {"name": step.name, "teachers": [teacher.name for teacher in step.teachers]} | _plain(step, step.name)
            for step in steps
        ],
        "teachers": {teacher.name: teacher.version() for teacher in teachers_of(steps)},
    }


def digest(settings: Mapping[str, Any]) -> str:
    """64 bits of the SHA-256 of settings."""
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def teachers_of(steps: Sequence[Step]) -> tuple[Teacher[Any], ...]:
    """Every teacher once, in the order of the steps."""
    return tuple(dict.fromkeys(teacher for step in steps for teacher in step.teachers))


def labels_of(steps: Sequence[Step]) -> tuple[str, ...]:
    """The steps' names; one that comes again gets a number ("tidy", "tidy 2")."""
    names = [step.name for step in steps]
    counts = [names[: place + 1].count(name) for place, name in enumerate(names)]
    return tuple(name if count == 1 else f"{name} {count}" for name, count in zip(names, counts, strict=True))


def difference(there: Any, here: Any, where: str = "") -> str:
    """The first place where two settings differ, in words; "" when they are equal."""
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        for name in sorted({*there, *here}):
            if there.get(name) != here.get(name):
                return difference(there.get(name), here.get(name), f"{where}.{name}" if where else str(name))
        return ""
    if isinstance(there, list) and isinstance(here, list):
        names = [[step.get("name") if isinstance(step, Mapping) else None for step in steps] for steps in (there, here)]
        if names[0] != names[1]:
            return f"{where} {_short(names[0])} there, {_short(names[1])} here"
        for one, other, name in zip(there, here, names[0], strict=True):
            if one != other:
                return difference(one, other, f"{where}.{name}" if name else where)
        return ""
    return "" if there == here else f"{where} {_short(there)} there, {_short(here)} here"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _plain(value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: _plain(getattr(value, f.name), f"{where}.{f.name}") for f in dataclasses.fields(value)}
        return {"kind": type(value).__name__} | fields
    if isinstance(value, Mapping):
        return {str(name): _plain(entry, f"{where}.{name}") for name, entry in value.items()}
    if isinstance(value, (frozenset, set)):
        return sorted(_plain(entry, where) for entry in value)
    if isinstance(value, (tuple, list)):
        return [_plain(entry, where) for entry in value]
    if isinstance(value, PurePath):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(
        f"field {where} of a step is a {type(value).__name__}: settings must be plain values or dataclasses"
    )
