"""Dataclass <-> JSON and YAML. The only place that parses such files; unknown keys are errors."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def to_dict(config: Any) -> dict[str, Any]:
    """A nested dataclass as plain JSON-ready values (tuples become lists, paths strings)."""
    return json.loads(json.dumps(dataclasses.asdict(config), default=str))


def from_dict(cls: type[T], values: Any, *, where: str = "config") -> T:
    """Build dataclass ``cls`` from plain values, strictly at every depth.

    where: what the error message calls the input, normally the file name.
    Raises ValueError with one sentence that names the field and what was wrong.
    """
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    if not isinstance(values, dict):
        raise ValueError(f"{where}: expected an object with the fields of {cls.__name__}, got {type(values).__name__}")
    # A plain dataclass takes its settings from what is around it, hence the tuple of one.
    adapter = TypeAdapter(tuple[cls], config=ConfigDict(extra="forbid"))  # pyright: ignore[reportInvalidTypeForm]
    try:
        return adapter.validate_python((values,))[0]
    except ValidationError as error:
        raise ValueError(f"{where}: {_sentence(error.errors()[0], cls)}") from None


def _sentence(error: Any, cls: Any) -> str:
    """One pydantic error in words, with the field's dotted name."""
    path = error["loc"][1:]  # without the index in the tuple of one
    name = ".".join(str(part) for part in path) or cls.__name__
    if error["type"] == "unexpected_keyword_argument":
        known = ", ".join(sorted(field.name for field in dataclasses.fields(cls)))
        return f"unknown field '{name}'" + (f"; known: {known}" if len(path) == 1 else "")
    return f"{name}: {error['msg'][0].lower()}{error['msg'][1:]} (got {error['input']!r})"


def read(cls: type[T], path: str | Path) -> T:
    """Read a ``.json``, ``.yaml`` or ``.yml`` file into dataclass ``cls``. Raises ValueError or OSError."""
    import yaml

    path = Path(path)
    is_yaml = path.suffix in (".yaml", ".yml")
    try:
        text = path.read_text(encoding="utf-8")
        values = yaml.safe_load(text) if is_yaml else json.loads(text)
    except (ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())  # YAML's messages have several lines
        raise ValueError(f"{path}: not valid {'YAML' if is_yaml else 'JSON'}: {reason}") from None
    return from_dict(cls, values, where=str(path))
