"""The location prior: what it may draw, and that it lets a query tell two alike things apart."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from anygrain.models.language_path import LocationPrior
from tiny_unilseg import build, nano_config

SIZE = (12, 16)


@pytest.fixture(scope="module")
def prior():
    torch.manual_seed(0)
    prior = LocationPrior(8)
    torch.nn.init.normal_(prior.amplitudes.weight)
    return prior


def test_an_untrained_prior_changes_nothing(tmp_path):
    config = nano_config()
    with_prior = build(config, tmp_path)
    without = build(replace(config, location_prior=False), tmp_path)
    missing = with_prior.load_state_dict(without.state_dict(), strict=False)
    assert missing.missing_keys == ["language_path.place.weight", "location_prior.amplitudes.weight"]
    assert not missing.unexpected_keys
    pixels = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        one, other = (
            model.decode(model.encode_image(pixels), model.encode_text(["dog", "red car"]), torch.tensor([0, 0]))
            for model in (with_prior, without)
        )
    assert torch.equal(one.mask_logits, other.mask_logits)


def test_the_same_query_means_the_same_place_at_any_size(prior):
    query = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    small, large = (prior(query, query.flip(0), (scale * SIZE[0], scale * SIZE[1])) for scale in (1, 3))
    torch.testing.assert_close(large[:, 1::3, 1::3], small, atol=1e-4, rtol=1e-4)  # cells of the same centres
    assert small.shape == (3, *SIZE)


def test_a_query_can_single_out_one_of_two_alike_things():
    """Two squares of the same embedding: only a place tells "left" from "right"."""
    torch.manual_seed(0)
    pixels = torch.zeros(2, 4, *SIZE)  # [N, C, h, w]
    pixels[:, :, 4:8, 2:6] = pixels[:, :, 4:8, 10:14] = 1
    target = torch.zeros(2, *SIZE)
    target[0, 4:8, 2:6] = target[1, 4:8, 10:14] = 1
    query = torch.eye(2)  # "left", "right"
    losses = {}
    for name in ("without", "with"):
        prior, mask = LocationPrior(2), torch.nn.Linear(2, 4)
        optimizer = torch.optim.Adam([*mask.parameters(), *(prior.parameters() if name == "with" else ())], lr=0.1)
        for _ in range(80):
            logits = torch.einsum("nc,nchw->nhw", mask(query), pixels) - 3 + prior(query, query, SIZE)
            loss = F.binary_cross_entropy_with_logits(logits, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses[name] = loss.item()
    assert losses["with"] < 0.2 * losses["without"]
