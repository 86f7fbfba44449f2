"""Options of a command from its arguments."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Annotated, TypeVar

import tyro
from tyro.conf import AvoidSubcommands, FlagCreatePairsOff, UseAppendAction

T = TypeVar("T")
MARKERS = (FlagCreatePairsOff, AvoidSubcommands)
Many = Annotated[tuple[str, ...], UseAppendAction]
"""An option that may be given several times."""


def parse(options: type[T], name: str, arguments: Sequence[str]) -> T:
    """An instance of the dataclass ``options``, whose docstring is the help of command ``name``.

    Prints help, or what is wrong with the arguments, and raises SystemExit (0 or 2), when asked to or when it must.
    """
    text = inspect.cleandoc(options.__doc__ or "")
    return tyro.cli(options, prog=f"anygrain {name}", description=text, args=list(arguments), config=MARKERS)
