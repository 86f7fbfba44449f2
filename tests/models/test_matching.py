"""Assignment, point sampling and point losses, each against another way to compute the same."""

from itertools import permutations

import pytest
import torch
from torch.nn import functional as F

from anygrain.models.losses import focal
from anygrain.models.matching import assign, assign_each, box_costs, generalised_iou, mask_costs, sample_points
from anygrain.models.point_losses import each_point_loss, point_losses, sample_labels, uncertain_points


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def test_the_cheapest_assignment_of_each_problem():
    costs, counts = torch.rand(5, 6, 4), [4, 1, 3, 2, 4]
    tokens = assign_each(costs, counts).split(counts)
    for cost, count, chosen in zip(costs, counts, tokens, strict=True):
        best = min(permutations(range(6), count), key=lambda rows: cost[list(rows), range(count)].sum().item())
        assert chosen.tolist() == list(best)
    rows, columns = assign(costs[0])
    assert dict(zip(columns.tolist(), rows.tolist(), strict=True)) == dict(enumerate(tokens[0].tolist()))
    with pytest.raises(ValueError, match="7 objects of one prompt, but only 6 queries"):
        assign_each(torch.rand(1, 6, 7), [7])


def test_labels_at_points_are_bilinear_samples_without_copies_of_the_maps():
    labels = (torch.rand(3, 9, 13) > 0.5).to(torch.uint8)
    index, points = torch.tensor([2, 0, 2, 1]), torch.rand(4, 50, 2) * 1.2 - 0.1  # some outside
    inside, known = sample_labels(labels, index, points)
    torch.testing.assert_close(inside, sample_points(labels[index].float(), points))
    assert known.all()
    labels[2, 4:, :] = 255
    inside, known = sample_labels(labels, index, points)
    assert known[[1, 3]].all()
    y = points[[0, 2], :, 1] * 9 - 0.5
    there = (points[[0, 2], :, 0] > -0.5 / 13) & (points[[0, 2], :, 0] < 13.5 / 13)  # a cell of the map is around it
    assert torch.equal(known[[0, 2]], ~((y > 3) & (y < 9) & there))


def test_what_is_unknown_changes_no_cost_and_no_loss():
    logits, wanted, known = torch.randn(4, 30), torch.rand(4, 30), torch.rand(4, 30) > 0.4
    changed = torch.where(known, wanted, torch.rand(4, 30))
    for one, other in (
        (each_point_loss(logits, wanted, known), each_point_loss(logits, changed, known)),
        (mask_costs(logits, wanted, known), mask_costs(logits, changed, known)),
    ):
        torch.testing.assert_close(one, other)
    for row in range(4):
        kept = [tensor[row, known[row]][None] for tensor in (logits, wanted)]
        expected = [loss[0] for loss in each_point_loss(*kept)]
        torch.testing.assert_close([loss[row] for loss in each_point_loss(logits, wanted, known)], expected)
        cost = mask_costs(logits, wanted, known)
        torch.testing.assert_close([matrix[row, row] for matrix in cost], expected)
    cross_entropy, dice = point_losses(logits, wanted, 8.0)
    torch.testing.assert_close(
        torch.stack([cross_entropy, dice]), torch.stack(each_point_loss(logits, wanted)).sum(1) / 8
    )


def test_points_gather_where_the_mask_is_unsure():
    edge = torch.linspace(-8, 8, 40).expand(1, 40, 40).contiguous()  # zero in the middle column
    points = uncertain_points(edge, 400)
    assert points.shape == (1, 400, 2)
    near = (points[0, :300, 0] - 0.5).abs()
    assert near.max() < 0.2
    assert (points[0, 300:, 0] - 0.5).abs().max() > 0.4


def test_boxes():
    boxes = torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.2, 0.2, 0.2, 0.2]])
    distance, overlap = box_costs(boxes, boxes)
    assert distance.diag().tolist() == [0, 0]
    assert overlap.diag().tolist() == pytest.approx([0, 0], abs=1e-4)
    # Apart: no intersection, a hull of 0.6 x 0.6 of which 0.2 is filled.
    assert generalised_iou(boxes[0], boxes[1]).item() == pytest.approx(-(0.36 - 0.2) / 0.36, abs=1e-4)
    assert distance[0, 1].item() == pytest.approx(1.0)


def test_focal_counts_known_names_only():
    logits, labels = torch.randn(5, 7), torch.randint(0, 2, (5, 7), dtype=torch.uint8)
    target, probability = labels.float(), logits.sigmoid()
    plain = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    right = probability * target + (1 - probability) * (1 - target)
    expected = plain * (1 - right) ** 2 * (0.25 * target + 0.75 * (1 - target))
    torch.testing.assert_close(focal(logits, labels), expected.sum(1))
    labels[:, 3] = 255
    expected[:, 3] = 0
    torch.testing.assert_close(focal(logits, labels), expected.sum(1))
