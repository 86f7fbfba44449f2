"""Swin beyond its numbers (see parity/): sizes, gradients, drop-path."""

from dataclasses import replace

import pytest
import torch

from anygrain.models.swin import Swin, SwinConfig

SMALL = SwinConfig(embed_dim=8, depths=(1, 2, 1, 2), num_heads=(1, 2, 2, 4), window_size=3)


def test_widths_of_the_named_sizes():
    assert SwinConfig.tiny().channels == (96, 192, 384, 768)
    assert SwinConfig.base().channels == (128, 256, 512, 1024)
    assert SwinConfig.large().channels == (192, 384, 768, 1536)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (61, 50), (3, 70)])
def test_map_sizes_round_up(height, width):
    maps = Swin(SMALL).eval()(torch.zeros(2, 3, height, width))
    for level, (feature_map, channels) in enumerate(zip(maps, SMALL.channels, strict=True)):
        stride = 4 * 2**level
        assert feature_map.shape == (2, channels, -(-height // stride), -(-width // stride))


def test_it_trains_after_it_was_used_for_inference():
    swin, pixels = Swin(replace(SMALL, drop_path=0.0)), torch.randn(2, 3, 40, 40)
    with torch.inference_mode():
        swin(pixels)
    sum(feature_map.square().mean() for feature_map in swin(pixels)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in swin.parameters())


def test_drop_path_skips_whole_branches_and_keeps_the_mean():
    torch.manual_seed(0)
    swin, pixels = Swin(replace(SMALL, drop_path=0.5)), torch.randn(1, 3, 24, 24).expand(8, -1, -1, -1)
    block = swin.stages[3].blocks[1]  # the last one: dropped with the full probability
    x = torch.randn(1, 2, 2, 64).expand(400, -1, -1, -1)
    branch = block.train()._drop_path(x)
    kept = branch.flatten(1).any(1)
    assert 0.4 < kept.float().mean() < 0.6
    torch.testing.assert_close(branch[kept], 2 * x[kept])
    assert len(swin.train()(pixels)[3].unique(dim=0)) > 1  # each image draws for itself
    assert len(swin.eval()(pixels)[3].unique(dim=0)) == 1


def test_without_drop_path_training_computes_the_same():
    swin, pixels = Swin(replace(SMALL, drop_path=0.0)), torch.randn(2, 3, 40, 40)
    assert torch.equal(swin.train()(pixels)[3], swin.eval()(pixels)[3])


def test_exports_with_a_free_batch_size():
    swin, batch = Swin(SMALL).eval(), torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(swin, (torch.zeros(2, 3, 40, 40),), dynamic_shapes=({0: batch},))
    pixels = torch.randn(5, 3, 40, 40)
    for exported, direct in zip(program.module()(pixels), swin(pixels), strict=True):
        torch.testing.assert_close(exported, direct)
