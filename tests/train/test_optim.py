import pytest
import torch
from tiny_model import tiny_model

from anygrain.train.optim import Average, OptimConfig, lr_factor, make_optimizer, set_lr
from anygrain.train.texts import TextCache


def test_groups_have_their_rates_and_only_matrices_decay():
    model = tiny_model()
    config = OptimConfig(lr=1e-2, image_lr_factor=0.1, text_lr_factor=0.5, weight_decay=0.3)
    optimizer, names = make_optimizer(model, config)
    set_lr(optimizer, 0.5)
    found = {}
    places = iter(names)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = next(places)
            assert parameter is dict(model.named_parameters())[name]
            found[name] = group["lr"], group["weight_decay"]
    assert found.keys() == dict(model.named_parameters()).keys()
    assert found["image_encoder.0.weight"] == pytest.approx((5e-4, 0.3))
    assert found["image_encoder.1.weight"] == pytest.approx((5e-4, 0.0))
    assert found["text_encoder.weight"] == pytest.approx((2.5e-3, 0.0))  # a table of embeddings
    assert found["head.0.weight"] == pytest.approx((5e-3, 0.3))
    assert found["head.0.bias"] == pytest.approx((5e-3, 0.0))


def test_without_decay_it_is_plain_adam():
    ours, theirs = tiny_model(), tiny_model()
    optimizer, _ = make_optimizer(ours, OptimConfig(lr=1e-2, image_lr_factor=1.0))
    adam = torch.optim.Adam(theirs.parameters(), lr=1e-2)
    for _ in range(5):
        for model, step in ((ours, optimizer), (theirs, adam)):
            model.zero_grad()
            model.image_encoder[0].weight.square().sum().backward()
            step.step()
    torch.testing.assert_close(ours.image_encoder[0].weight, theirs.image_encoder[0].weight)


def test_nothing_to_train_is_an_error():
    with pytest.raises(ValueError, match="frozen"):
        make_optimizer(tiny_model().requires_grad_(False), OptimConfig())


def test_schedules():
    step = OptimConfig(warmup=4)
    assert [lr_factor(s, 15, step) for s in range(5)] == [0.25, 0.5, 0.75, 1, 1]
    assert lr_factor(9, 15, step) == 1
    assert lr_factor(10, 15, step) == 0.1
    twice = OptimConfig(drop_at=(0.5, 0.75))
    assert [lr_factor(s, 8, twice) for s in (3, 4, 5, 6)] == pytest.approx([1, 0.1, 0.1, 0.01])
    cosine = OptimConfig(schedule="cosine", warmup=10, final_factor=0.2)
    assert lr_factor(10, 110, cosine) == pytest.approx(1)
    assert lr_factor(60, 110, cosine) == pytest.approx(0.6)
    assert lr_factor(110, 110, cosine) == pytest.approx(0.2)
    assert {lr_factor(s, 10, OptimConfig(schedule="constant")) for s in range(10)} == {1.0}


def test_average_follows_slowly_and_gives_the_weights_back():
    model = tiny_model()
    average = Average(model, 0.9)
    start = model.head[0].weight.detach().clone()
    with torch.no_grad():
        model.head[0].weight += 1
    for _ in range(3):
        average.update(model)
    distance = (model.head[0].weight - average.weights["head.0.weight"]).mean().item()
    assert distance == pytest.approx((2 / 11) * (3 / 12) * (4 / 13), rel=1e-3)
    now = model.head[0].weight.detach().clone()
    with average.inside(model):
        assert torch.equal(model.head[0].weight, average.weights["head.0.weight"])
    assert torch.equal(model.head[0].weight, now)
    assert not torch.equal(now, start)


def test_text_cache_is_bounded_exact_and_keeps_the_order():
    model = tiny_model()
    cache = TextCache(model.encode_text, limit=3)
    texts = ["a", "b", "a", "c", "d"]
    found = cache(texts).sentence
    assert torch.equal(found, model.encode_text(texts).sentence)
    assert not found.requires_grad
    model.encoded.clear()
    cache(["c", "d", "a"])  # b was used least recently
    assert model.encoded == []
    cache(["b"])
    assert model.encoded == ["b"]
