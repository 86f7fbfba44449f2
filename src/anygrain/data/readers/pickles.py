"""Pickles of plain data, without trust: a pickle can run any code when it is loaded the usual way."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from anygrain.data.readers.files import need


class _Plain(pickle.Unpickler):
    """Everything but lists, dicts, texts and numbers needs a name to be looked up; no name is."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, and a table of plain data needs no code")


def read_plain_pickle(path: Path, what: str) -> Any:
    """Load a pickle of lists, dicts, texts and numbers, of Python 2 or 3; whatever would run code is refused.

    Raises FileNotFoundError, or ValueError naming the file and what it asked for.
    """
    with need(path, what).open("rb") as file:
        try:
            return _Plain(file, encoding="utf-8").load()
        except (pickle.UnpicklingError, EOFError, ValueError, IndexError, KeyError, AttributeError, TypeError) as error:
            raise ValueError(f"{path}: not loaded: {error}; expected {what}") from None
