"""Label maps of many texts: the same as comparing every enlarged mask, pixel by pixel."""

import numpy as np
import pytest
import torch
from PIL import Image

from anygrain import hub
from anygrain.label_maps import LabelMaps
from anygrain.resize import Resize
from anygrain.types import Prompt

TEXTS = [f"all {name}" for name in ("dogs", "cats", "sky", "grass", "people", "cars", "trees", "red", "windows", "it")]


def smooth(count, height, width, seed):
    """Logits of blobs, as a network's are."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.normal(0, 6, (count, 1, max(2, height // 6), max(2, width // 6))).astype(np.float32))
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[:, 0] - 3


@pytest.mark.parametrize("floor", [-np.inf, 0.0])
@pytest.mark.parametrize(
    ("resize", "shape"),
    [
        (Resize.fit((200, 301), 96), (24, 24)),
        (Resize.fit((301, 77), 96), (24, 8)),
        (Resize.fit((33, 40), 96), (24, 24)),  # not much larger than the map
        (Resize.fit((10, 96), 96), (8, 24)),  # a thin one
        (Resize.fit((15, 15), 96), (24, 24)),  # smaller than the map: means of several
    ],
)
def test_the_map_is_that_of_all_enlarged_masks(resize, shape, floor):
    logits = smooth(40, *shape, seed=sum(shape))
    logits[7] = logits[3]  # of equal ones the first
    takes_part = np.random.default_rng(1).random((40, 2)) < (1, 0.2)
    maps = LabelMaps(resize, 2, floor)
    for first in range(0, 40, 7):
        maps.add(logits[first : first + 7], takes_part[first : first + 7], first)
    large = resize.maps_back(logits.numpy())
    for way in (0, 1):
        rows = np.flatnonzero(takes_part[:, way])
        best = large[rows].max(0)
        wanted = np.where(best > floor, rows[large[rows].argmax(0)], -1)
        wrong = maps.index[way] != wanted
        # where another one wins, the two differ by no more than rounding
        chosen = np.take_along_axis(large, np.maximum(maps.index[way], 0)[None], 0)[0]
        assert np.all(np.abs(chosen - best)[wrong] < 1e-5)
        assert wrong.mean() < 1e-3
        assert not np.any(maps.index[way] == 7)
    assert len(np.unique(maps.index[0])) > 5


def test_masks_that_win_nowhere_are_not_enlarged(monkeypatch):
    resize, sizes = Resize.fit((200, 300), 96), []
    original = Resize.window_back

    def spy(self, values, rows, columns):
        out = original(self, values, rows, columns)
        sizes.append(out.size)
        return out

    monkeypatch.setattr(Resize, "window_back", spy)
    logits = torch.full((30, 16, 24), -9.0)
    logits[4, :, :] = 1
    logits[9, 4:7, 5:9] = 5
    LabelMaps(resize, 1, -np.inf).add(logits, np.ones((30, 1), bool), 0)
    assert len(sizes) == 2
    assert sizes[0] == 200 * 300
    assert sizes[1] < 0.2 * sizes[0]


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("tile", ["off", "auto"])
def test_a_model_joins_its_texts_as_its_answers_do(tiny_model, photos, background, tile):
    segmenter = hub.load(tiny_model, device="cpu", tile=tile)
    (embedding,) = segmenter.embed([photos / "kite.jpg"])
    assert bool(embedding.tiles) == (tile == "auto")
    maps = segmenter.label_maps(embedding, TEXTS, background=background)
    assert (maps.shape, maps.dtype) == ((2, *embedding.resize.source), np.int32)
    answers = list(segmenter.answer(embedding, [Prompt(text=text) for text in TEXTS]))
    large = embedding.resize.maps_back(np.concatenate([answer.low_res_logits for answer in answers]))
    present = np.array([answer.present[0] for answer in answers])
    for way, rows in enumerate((np.arange(len(TEXTS)), np.flatnonzero(present))):
        best = large[rows].max(0)
        wanted = np.where(best > (0 if background else -np.inf), rows[large[rows].argmax(0)], -1)
        assert np.mean(maps[way] != wanted) < 1e-3
    assert len(np.unique(maps[0])) > 1


def test_what_cannot_be_joined_is_said(tiny_model):
    segmenter = hub.load(tiny_model, device="cpu")
    (embedding,) = segmenter.embed([Image.new("RGB", (40, 30))])
    with pytest.raises(ValueError, match="a text for the label map is empty"):
        segmenter.label_maps(embedding, ["dog", " "])
