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
    """Build dataclass ``cls`` from plain values, strictly.

    where: what the error message calls the input, normally the file name.
    Raises ValueError with one sentence that names the field, what was wrong and the allowed names.
    """
    from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

    _forbid_unknown(cls, values, where)
    try:
        return TypeAdapter(with_config(ConfigDict(arbitrary_types_allowed=True))(cls)).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or cls.__name__
        raise ValueError(f"{where}: {field}: {first['msg']} (got {first['input']!r})") from None


def _forbid_unknown(cls: Any, values: Any, where: str) -> None:
    if not isinstance(values, dict):
        raise ValueError(f"{where}: expected an object with the fields of {cls.__name__}, got {type(values).__name__}")
    known = {field.name for field in dataclasses.fields(cls)}
    for key in values:
        if key not in known:
            raise ValueError(f"{where}: unknown field '{key}' of {cls.__name__}; known: {', '.join(sorted(known))}")


def read(cls: type[T], path: str | Path) -> T:
    """Read a ``.json``, ``.yaml`` or ``.yml`` file into dataclass ``cls``. Raises ValueError or OSError."""
    path = Path(path)
    text = path.read_text(encoding="utf-8")
    try:
        if path.suffix in (".yaml", ".yml"):
            import yaml

            values = yaml.safe_load(text)
        else:
            values = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path}: not valid {path.suffix.lstrip('.') or 'JSON'}: {error}") from None
    return from_dict(cls, values, where=str(path))
