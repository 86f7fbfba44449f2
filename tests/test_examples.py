"""The scripts of examples/, run as a person runs them."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from anygrain import hub
from anygrain.images import open_image
from tiny_semantic_sam import build

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return hub.save(build(), tmp_path_factory.mktemp("models") / "clicks", card="# tiny\n")


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["click_levels.py", *map(str, arguments)])
    runpy.run_path(str(EXAMPLES / "click_levels.py"), run_name="__main__")


def test_click_levels_draws_three_photographs_at_six_levels(monkeypatch, model, tmp_path, capsys):
    run(monkeypatch, "--model", model, "--out", tmp_path / "all.png")
    assert capsys.readouterr().out == f"3 photographs -> {tmp_path / 'all.png'}\n"
    sheet = np.asarray(open_image(tmp_path / "all.png"))
    run(monkeypatch, "--model", model, "--out", tmp_path / "one.png", EXAMPLES / "cat.jpg", "175,150")
    row = np.asarray(open_image(tmp_path / "one.png"))
    gap = row.shape[0] - 260
    assert row.shape[1] == sheet.shape[1] == 7 * (320 + gap // 2) + gap // 2
    np.testing.assert_array_equal(sheet[260 + gap // 2 :][: 260 + gap], row)
    cells = [row[:, gap // 2 + place * (320 + gap // 2) :][:, :320] for place in range(7)]
    assert all((cells[0] != cell).any() for cell in cells[1:])  # masks are drawn
    with pytest.raises(SystemExit):
        run(monkeypatch, "--model", model, "photo.jpg")
