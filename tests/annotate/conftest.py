"""Tiny teachers for the steps."""

import pytest

from tiny_semantic_sam import build


@pytest.fixture(scope="session")
def tiny_teachers(tmp_path_factory):
    """A folder with sam/, dino/, blip/, clip/ and ram/: random weights in the form of the Hub."""
    from tiny_teachers import TINY

    root = tmp_path_factory.mktemp("teachers")
    for name, write in TINY.items():
        (root / name).mkdir()
        write(root / name)
    return root


@pytest.fixture(scope="session")
def tiny_clicks(tmp_path_factory):
    """A model folder with a small Semantic-SAM of random weights."""
    from anygrain import hub

    return hub.save(build(), tmp_path_factory.mktemp("models") / "clicks", card="# tiny\n")
