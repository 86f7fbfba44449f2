"""The letterbox and its way back against OpenCV's arrays for four image sizes, and the rules those do not reach."""

import fill
import numpy as np
import pytest
import torch
from official import FIXTURES

from anygrain.resize import Resize
from anygrain.warp import letterbox, warp_image, warp_map

SIZES = {(375, 500): "A", (640, 427): "B", (97, 131): "A", (1200, 900): "B"}
PROBABILITY = 1e-6  # largest absolute error


@pytest.fixture(scope="module")
def golden():
    return np.load(FIXTURES / "unilseg_prepost_golden.npz")


@pytest.mark.parametrize("size", SIZES)
def test_the_letterbox_equals_opencv_to_the_bit(golden, size):
    name = f"{size[0]}x{size[1]}"
    warped = Resize.letterbox(size, 480).image(fill.image_u8(SIZES[size], *size))
    if f"{name}/warped_u8" in golden:
        np.testing.assert_array_equal(warped, golden[f"{name}/warped_u8"])
    else:
        np.testing.assert_array_equal(warped[::3, ::3], golden[f"{name}/warped_u8_s3"])
    np.testing.assert_allclose(fill.normalise(warped)[:, ::8, ::8], golden[f"{name}/input_s8"], atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["smooth", "blobs", "edges"])
def test_masks_come_back_without_a_wrong_pixel(golden, size, kind):
    name = f"{size[0]}x{size[1]}/{kind}"
    logits = torch.from_numpy(fill.logit_map(kind))[None, None]
    enlarged = torch.nn.functional.interpolate(logits, (480, 480), mode="bilinear", align_corners=True)
    maps = enlarged.sigmoid()[0].numpy()
    resize = Resize.letterbox(size, 480)

    np.testing.assert_allclose(resize.maps_back(maps)[0, ::8, ::8], golden[f"{name}/prob_s8"], atol=PROBABILITY, rtol=0)
    expected = np.unpackbits(golden[f"{name}/mask_bits"])[: size[0] * size[1]].reshape(size).astype(bool)
    np.testing.assert_array_equal(resize.masks_back(maps, 0.35)[0], expected)


@pytest.mark.parametrize("size", [(333, 500), (768, 1644), (1, 4000), (3, 2)])
def test_fixed_point_positions_where_the_goldens_cannot_tell(size):
    """Rows round scale and shift together, columns apart: only sizes whose margin is no round number show it."""
    there, back = letterbox(size, 480)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    values = rng.random((480, 480), np.float32)
    small, large = warp_image(image, there, (480, 480), (123, 117, 104)), warp_map(values, back, size)
    for y, x in zip(rng.integers(0, 480, 200), rng.integers(0, 480, 200), strict=True):
        np.testing.assert_array_equal(small[y, x], one_pixel(image, there, y, x, np.array([123, 117, 104])))
    for y, x in zip(rng.integers(0, size[0], 200), rng.integers(0, size[1], 200), strict=True):
        assert large[y, x] == pytest.approx(one_pixel(values[..., None], back, y, x, np.zeros(1))[0], abs=PROBABILITY)


def one_pixel(image, affine, y, x, border):
    """One output pixel by the description, number by number."""
    determinant = 1.0 / (affine.scale_x * affine.scale_y)
    a11, a22 = affine.scale_y * determinant, affine.scale_x * determinant
    b1, b2 = -a11 * affine.shift_x, -a22 * affine.shift_y
    position_x = (round(b1 * 1024) + 16 + round(a11 * x * 1024)) >> 5
    position_y = (round((a22 * y + b2) * 1024) + 16) >> 5
    weights = np.outer(cubic(position_y & 31), cubic(position_x & 31)).astype(np.float32)
    taps = np.empty((4, 4, image.shape[2]))
    for a in range(4):
        for b in range(4):
            row, column = (position_y >> 5) - 1 + a, (position_x >> 5) - 1 + b
            inside = 0 <= row < image.shape[0] and 0 <= column < image.shape[1]
            taps[a, b] = image[row, column] if inside else border
    if image.dtype != np.uint8:
        return np.einsum("ab,abc->c", weights, taps)
    whole = np.minimum(np.rint(weights * np.float32(32768)).astype(int), 32767)
    excess = whole.sum() - 32768
    if excess:
        smallest = largest = (2, 2)
        for tap in ((2, 2), (2, 3), (3, 2), (3, 3)):
            if whole[tap] < whole[smallest]:
                smallest = tap
            elif whole[tap] > whole[largest]:
                largest = tap
        whole[largest if excess < 0 else smallest] -= excess
    return np.clip((np.einsum("ab,abc->c", whole, taps).astype(int) + 16384) >> 15, 0, 255)


def cubic(fraction):
    x, a, one = np.float32(fraction) / np.float32(32), np.float32(-0.75), np.float32(1)
    c0 = ((a * (x + one) - 5 * a) * (x + one) + 8 * a) * (x + one) - 4 * a
    c1 = ((a + 2) * x - (a + 3)) * x * x + one
    c2 = ((a + 2) * (one - x) - (a + 3)) * (one - x) * (one - x) + one
    return np.array([c0, c1, c2, one - c0 - c1 - c2], np.float32)
