"""Fixtures of the whole suite: a small model in a folder, real photographs, and the command line as a function."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture(scope="session")
def photos() -> Path:
    """Folder of real photographs: dog.jpg, facade.jpg, kite.jpg, pet.jpg, and masks as PNG. Not to be written to."""
    return FIXTURES / "photos"


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with a small UniLSeg of random weights, that finds something in every photograph."""
    import torch

    from anygrain import hub
    from anygrain.models.clip_text import CLIPTextConfig
    from anygrain.models.clip_tokenizer import ClipTokenizer
    from anygrain.models.swin import SwinConfig
    from anygrain.models.unilseg import UniLSeg, UniLSegConfig

    config = UniLSegConfig(
        image_encoder=SwinConfig(embed_dim=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), window_size=4),
        text_encoder=CLIPTextConfig(width=16, heads=2, layers=1, embed_dim=16),
        input_size=64,
        resize="fit",
        word_len=12,
        level_dims=(16, 16, 16, 16),
        ffn_dim=16,
        mask_dim=16,
        query_dim=16,
        query_layers=1,
        query_ffn_dim=16,
        num_heads=2,
        fusion_heads=2,
        dropout=0.0,
        threshold=0.5,
    )
    torch.manual_seed(3)
    network = UniLSeg(config, ClipTokenizer()).eval()
    network.text_encoder.projection.data *= 40  # so that different phrases give different masks
    return hub.save(network, tmp_path_factory.mktemp("models") / "tiny", card="# tiny\n")


@dataclass(frozen=True)
class Result:
    """What a command left: exit status and both streams."""

    status: int
    out: str
    err: str


@pytest.fixture
def anygrain(capsys: pytest.CaptureFixture[str]):
    """``anygrain("segment", ...)``: run a command in this process, without the cost of a new one."""
    from anygrain.__main__ import main

    def run(*arguments: str | Path) -> Result:
        capsys.readouterr()
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as exit:  # tyro's, for --help and wrong options
            status = exit.code if isinstance(exit.code, int) else 1
        captured = capsys.readouterr()
        return Result(status, captured.out, captured.err)

    return run


@pytest.fixture
def segment(anygrain, tiny_model: Path):
    """``anygrain segment`` with the tiny model."""
    return lambda *arguments: anygrain("segment", "--model", tiny_model, "--device", "cpu", *arguments)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
