"""Fixtures of the evaluation's tests."""

import json

import pytest


@pytest.fixture
def put(tmp_path):
    """Writes bytes, or anything else as JSON, into a file below ``tmp_path``."""

    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())

    return write
