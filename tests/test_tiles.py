"""Tiles: where they lie, how they are fused, and what a segmenter does with them."""

import json
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

import anygrain
from anygrain.models.layers import fold_batch_norm
from anygrain.resize import Resize
from anygrain.segmenter import Segmenter
from anygrain.tiles import Fusion, Tile, layout
from anygrain.types import Prompt
from tiny_unilseg import build, nano_config, official_config

INFO = {"name": "tiny", "architecture": "unilseg", "fingerprint": "0123456789ab"}
TEXTS = ["all people", "the red car on the left", "sky"]


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """Input size 96, so that photos from 144 pixels on are large."""
    return fold_batch_norm(build(nano_config(), tmp_path_factory.mktemp("tokenizer")))


def picture(height, width, seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


# --------------------------------------------------------------------------------------------------- layout


@pytest.mark.parametrize("size", [(384, 384), (570, 380), (100, 575), (20, 30)])
def test_photos_that_are_not_large_have_no_tiles(size):
    assert layout(size, 384, 8) == []


@pytest.mark.parametrize(
    ("size", "most", "across", "down"),
    [
        ((576, 320), 8, 1, 2),
        ((700, 700), 8, 2, 2),
        ((3000, 4000), 2, 2, 2),
        ((3000, 4000), 3, 3, 3),
        ((600, 6000), 4, 4, 1),
    ],
)
def test_as_many_tiles_as_the_photo_needs_and_is_allowed(size, most, across, down):
    boxes = layout(size, 384, most)
    assert len({left for _, left, _, _ in boxes}) == across
    assert len({top for top, _, _, _ in boxes}) == down
    assert len(boxes) == across * down


@pytest.mark.parametrize("size", [(576, 400), (701, 997), (3000, 4000), (1, 5000), (9999, 77)])
@pytest.mark.parametrize("most", [2, 3, 8])
def test_tiles_of_one_size_cover_the_photo_and_overlap_by_a_quarter(size, most):
    boxes = np.array(layout(size, 384, most))
    height, width = (boxes[:, 2:] - boxes[:, :2]).T
    assert len(set(height)) == len(set(width)) == 1
    assert max(height[0], width[0]) * 7 / 6 >= 384
    for axis, length in enumerate(size):
        starts, side = sorted(set(boxes[:, axis])), (height, width)[axis][0]
        assert (starts[0], starts[-1] + side) == (0, length)
        assert all(after - before <= 0.75 * side + 1 for before, after in pairwise(starts))


# --------------------------------------------------------------------------------------------------- fusion


def make_tiles(size, most=3, input_size=96):
    return [
        Tile(top=top, left=left, features=(), resize=Resize.fit((bottom - top, right - left), input_size))
        for top, left, bottom, right in layout(size, input_size, most)
    ]


def sampled(function, resize, top=0, left=0):
    """``function(y, x)`` of the photo's pixels at the cell centres of a decoder's map [1, h, w] at stride 4."""
    y, x = np.mgrid[: resize.canvas[0] // 4, : resize.canvas[1] // 4] * 4.0 + 2
    scale = np.divide(resize.source, resize.content)
    return torch.from_numpy(function(y * scale[0] + top, x * scale[1] + left)).float()[None]


@pytest.mark.parametrize("size", [(300, 230), (200, 777), (500, 500)])
def test_tiles_that_agree_with_the_whole_change_nothing(size):
    def slope(y, x):
        return 0.01 * y - 0.02 * x

    resize, tiles = Resize.fit(size, 96), make_tiles(size)
    fusion = Fusion(sampled(slope, resize), resize, tiles)
    before = fusion.logits.clone()
    for tile in tiles:
        fusion.add(tile, torch.tensor([0]), sampled(slope, tile.resize, tile.top, tile.left), torch.tensor([0.9]))
    # Beyond the outermost cell centres a map is flat; the whole's cells are the largest.
    edge = int(np.ceil(4 * max(size) / 96))
    inner = np.s_[0, edge:-edge, edge:-edge]
    back = resize.maps_back(fusion.logits.numpy())
    exact = slope(*(np.mgrid[: size[0], : size[1]] + 0.5))
    np.testing.assert_allclose(back[inner], exact[inner[1:]], atol=0.05)
    np.testing.assert_allclose(resize.maps_back(before.numpy())[inner], exact[inner[1:]], atol=0.05)


@pytest.mark.parametrize("presence", [0.0, 0.5, 1.0, None])
def test_a_tile_counts_as_far_as_it_believes_the_thing_is_there(presence):
    size = (300, 230)
    resize, tiles = Resize.fit(size, 96), make_tiles(size)
    fusion = Fusion(torch.full((1, 24, 24), -2.0), resize, tiles)
    for tile in tiles:
        h, w = (side // 4 for side in tile.resize.canvas)
        there = None if presence is None else torch.tensor([presence])
        fusion.add(tile, torch.tensor([0]), torch.full((1, h, w), 8.0), there)
    share = 0.5 * (1.0 if presence is None else presence)
    torch.testing.assert_close(fusion.logits, torch.full_like(fusion.logits, -2 + share * 10))


def test_only_the_prompts_asked_of_a_tile_change():
    size = (300, 230)
    resize, tiles = Resize.fit(size, 96), make_tiles(size)
    fusion = Fusion(torch.zeros(3, 24, 24), resize, tiles)
    for tile in tiles:
        h, w = (side // 4 for side in tile.resize.canvas)
        fusion.add(tile, torch.tensor([0, 2]), torch.stack([torch.full((h, w), v) for v in (1.0, 3.0)]), None)
    for row, value in enumerate((0.5, 0.0, 1.5)):
        torch.testing.assert_close(fusion.logits[row], torch.full_like(fusion.logits[row], value))


def test_what_only_a_tile_sees_is_put_where_it_is():
    """A square of 30 pixels, smaller than two cells of the whole's map."""
    size, (top, left) = (800, 1000), (530, 770)

    def square(y, x):
        return np.where((y > top) & (y < top + 30) & (x > left) & (x < left + 30), 20.0, -20.0)

    resize, tiles = Resize.fit(size, 96), make_tiles(size, most=8)
    fusion = Fusion(torch.full((1, 24, 24), -1.0), resize, tiles)
    for tile in tiles:
        seen = sampled(square, tile.resize, tile.top, tile.left)
        fusion.add(tile, torch.tensor([0]), seen, (seen.amax((1, 2)) > 0).float())
    mask = resize.masks_back(fusion.logits.numpy(), 0.0)[0]
    y, x = np.nonzero(mask)
    assert abs(y.mean() + 0.5 - top - 15) < 4
    assert abs(x.mean() + 0.5 - left - 15) < 4
    assert 500 < mask.sum() < 1600


# ------------------------------------------------------------------------------------------------ segmenter


@pytest.mark.parametrize("size", [(96, 96), (140, 90), (60, 143)])
def test_photos_that_are_not_large_are_answered_the_same_to_the_bit(network, size):
    off, auto, most = (Segmenter(network, INFO, tile=tile)(picture(*size), TEXTS) for tile in ("off", "auto", 8))
    for other in (auto, most):
        np.testing.assert_array_equal(other.masks, off.masks)
        np.testing.assert_array_equal(other.scores, off.scores)
        np.testing.assert_array_equal(other.low_res_logits, off.low_res_logits)


def test_a_large_photo_is_refined_by_its_tiles(network):
    photo = picture(232, 320)
    logits = Segmenter(network, INFO)(photo, "sky").low_res_logits
    options = {"threshold": float(1 / (1 + np.exp(-np.median(logits)))), "presence_threshold": 1e-6}
    off, auto = (Segmenter(network, INFO, tile=tile, **options)(photo, "sky") for tile in ("off", "auto"))
    assert auto.masks.shape == off.masks.shape == (1, 232, 320)
    assert auto.low_res_logits.shape[1] > logits.shape[1]
    assert 0.002 < (auto.masks != off.masks).mean() < 0.5
    np.testing.assert_array_equal(auto.scores, off.scores)  # the whole says whether a thing is there


def test_tiled_prompts_together_equal_one_by_one(network):
    photo = picture(232, 320)
    together = Segmenter(network, INFO, tile="auto", presence_threshold=0.4, memory_limit=2**40)(photo, TEXTS)
    alone = Segmenter(network, INFO, tile="auto", presence_threshold=0.4, memory_limit=1)(photo, TEXTS)
    np.testing.assert_allclose(alone.low_res_logits, together.low_res_logits, atol=1e-5)
    assert (alone.masks != together.masks).mean() < 1e-3


def test_what_is_not_there_is_not_looked_for_in_tiles(network, monkeypatch):
    segmenter = Segmenter(network, INFO, tile="auto", presence_threshold=0.999999)
    (embedding,) = segmenter.embed([picture(232, 320)])
    assert len(embedding.tiles) > 1
    decoded = []
    decode = network.decode
    monkeypatch.setattr(network, "decode", lambda *asked: decoded.append(asked) or decode(*asked))
    answers = list(segmenter.answer(embedding, [Prompt(text=text) for text in TEXTS]))
    assert len(decoded) == 1
    assert not any(answer.present.any() for answer in answers)


def test_video_frames_have_no_tiles(network):
    segmenter = Segmenter(network, INFO, tile="auto")
    assert [len(e.tiles) for e in segmenter.embed([picture(232, 320)], tiles=False)] == [0]


@pytest.mark.parametrize("tile", ["on", 1, 0, -3, 9, 2.5, None])
def test_no_such_tiles(network, tile):
    with pytest.raises(ValueError, match=r"tile must be 'off', 'auto' or a whole number from 2 to 8, got "):
        Segmenter(network, INFO, tile=tile)


def test_a_letterbox_model_refuses_tiles():
    network = build(official_config())
    with pytest.raises(ValueError, match="model 'tiny' cannot look at a photo in tiles: leave tile at 'off'"):
        Segmenter(network, INFO, tile="auto")


def test_a_large_photo_takes_little_memory_beside_itself(network):
    """A few copies of 36 MB of pixels at the most: tiles are encoded one at a time and hold features only."""
    segmenter = Segmenter(network, INFO, tile=8, presence_threshold=1e-6)
    photo = Image.new("RGB", (4000, 3000), (90, 120, 60))
    tracemalloc.start()
    (embedding,) = segmenter.embed([photo])
    list(segmenter.answer(embedding, [Prompt(text="sky")]))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 150 * 2**20
    assert len(embedding.tiles) == 48
    assert sum(level.numel() * 4 for tile in embedding.tiles for level in tile.features) < 48 * 2**18


# -------------------------------------------------------------------------------------------------- command


def test_the_option_reaches_the_model(segment, tiny_model, photos, folder):
    with Image.open(photos / "dog.jpg") as photo:
        photo.resize((260, 150)).save(folder / "large.png")
    records = [
        json.loads(segment("large.png", "-t", "the dog", "--json", "-", "--tile", tile).out)
        for tile in ("off", "auto", "2", "4")
    ]
    expected = [
        anygrain.load(tiny_model, device="cpu", tile=tile)("large.png", "the dog") for tile in ("off", "auto", 2, 4)
    ]
    assert records == [prediction.to_json() for prediction in expected]
    codes = {record["segments"][0]["segmentation"]["counts"] for record in records}
    assert len(codes) >= 3


@pytest.mark.parametrize("tile", ["1", "9"])
def test_a_wrong_number_of_tiles_is_one_sentence(segment, photos, folder, tile):
    result = segment(photos / "dog.jpg", "-t", "the dog", "--tile", tile)
    assert result.status == 2
    assert result.err == f"anygrain: error: tile must be 'off', 'auto' or a whole number from 2 to 8, got {tile}\n"
