import math

import pytest
import torch

from anygrain.models.losses import box_projection, dice, mask_cross_entropy, mask_losses


def test_values_by_hand():
    logits = torch.tensor([[[0.0, math.log(3)]], [[-math.log(3), 5.0]]])  # probabilities 1/2, 3/4; 1/4, (ignored)
    targets = torch.tensor([[[0, 1]], [[1, 255]]], dtype=torch.uint8)
    cross = ((math.log(2) + math.log(4 / 3)) / 2 + math.log(4)) / 2
    overlap = [1 - (2 * 0.75 + 1) / (1.25 + 1 + 1), 1 - (2 * 0.25 + 1) / (0.25 + 1 + 1)]
    assert mask_cross_entropy(logits, targets).item() == pytest.approx(cross, abs=1e-6)
    assert dice(logits, targets).item() == pytest.approx(sum(overlap) / 2, abs=1e-6)


@pytest.mark.parametrize("loss", [mask_cross_entropy, dice])
def test_unknown_pixels_do_not_count(loss):
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 5, requires_grad=True)
    targets = torch.randint(0, 2, (2, 4, 5), dtype=torch.uint8)
    targets[:, 2:] = 255
    value = loss(logits, targets)
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.item() == pytest.approx(loss(logits[:, :2], targets[:, :2]).item(), abs=1e-6)
    assert gradient[:, 2:].abs().max() == 0
    assert gradient[:, :2].abs().min() > 0


@pytest.mark.parametrize("loss", [mask_cross_entropy, dice, box_projection])
def test_a_prompt_without_any_known_pixel_gives_zero(loss):
    value = loss(torch.randn(1, 3, 3), torch.full((1, 3, 3), 255, dtype=torch.uint8))
    assert value.item() == 0


def test_an_absent_thing_wants_an_empty_mask():
    targets = torch.zeros(1, 4, 4, dtype=torch.uint8)
    assert dice(torch.full((1, 4, 4), -20.0), targets).item() == pytest.approx(0, abs=1e-6)
    assert dice(torch.full((1, 4, 4), 20.0), targets).item() == pytest.approx(1 - 1 / 17, abs=1e-5)


def test_bfloat16_logits_are_summed_in_float32():
    logits = torch.full((1, 300, 300), -3.0, dtype=torch.bfloat16)
    targets = torch.zeros(1, 300, 300, dtype=torch.uint8)
    probability = 1 / (1 + math.exp(3))
    assert dice(logits, targets).item() == pytest.approx(1 - 1 / (90000 * probability + 1), rel=1e-4)
    assert mask_cross_entropy(logits, targets).dtype == torch.float32


def test_projections_want_every_row_and_column_of_the_box_and_none_outside():
    box = torch.zeros(1, 8, 8, dtype=torch.uint8)
    box[:, 2:6, 1:7] = 1

    def loss(*cells):
        logits = torch.full((1, 8, 8), -20.0)
        for rows, columns in cells:
            logits[0, rows, columns] = 20.0
        return box_projection(logits, box).item()

    full = loss((slice(2, 6), slice(1, 7)))
    cross = loss((3, slice(1, 7)), (slice(2, 6), 4))  # a thin cross touches every row and column
    assert full == pytest.approx(0, abs=1e-5)
    assert cross == pytest.approx(0, abs=1e-5)
    short, beyond = loss((slice(2, 6), slice(1, 4))), loss((slice(2, 6), slice(1, 8)))
    # By hand: columns 1..3 of 1..6, and 1..7 of 1..6; the rows fit.
    assert short == pytest.approx((1 - (2 * 3 + 1) / (3 + 6 + 1)) / 2, abs=1e-5)
    assert beyond == pytest.approx((1 - (2 * 6 + 1) / (7 + 6 + 1)) / 2, abs=1e-5)


def test_boxes_and_masks_share_a_batch():
    torch.manual_seed(0)
    logits = torch.randn(3, 6, 6)
    targets = torch.zeros(3, 6, 6, dtype=torch.uint8)
    targets[:, 1:4, 2:5] = 1
    boxed = torch.tensor([False, True, False])
    got = mask_losses(logits, targets, boxed)
    outside = torch.where(targets[1] == 1, 255, targets[1])[None]
    cross = [mask_cross_entropy(logits[i : i + 1], t) for i, t in enumerate((targets[:1], outside, targets[2:]))]
    overlap = [dice(logits[:1], targets[:1]), box_projection(logits[1:2], targets[1:2]), dice(logits[2:], targets[2:])]
    torch.testing.assert_close(got["cross_entropy"], torch.stack(cross).mean())
    torch.testing.assert_close(got["dice"], torch.stack(overlap).mean())
    for every in (boxed | True, boxed & False):
        assert mask_losses(logits, targets, every)["dice"].isfinite()
