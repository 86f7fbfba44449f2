"""Fixtures of the data tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from layouts import Layouts, box_mask


@pytest.fixture
def layouts(tmp_path: Path) -> Layouts:
    return Layouts(tmp_path / "data")


@pytest.fixture
def rectangle():
    """Bool [H, W] with a filled box: ``rectangle(size, x0, y0, x1, y1)``."""
    return box_mask
