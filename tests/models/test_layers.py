"""Blocks shared by the networks: equal to torch's own, and safe to keep between inference, export and training."""

import copy

import pytest
import torch
from torch import nn

from anygrain.models import layers
from anygrain.models.layers import (
    Attention,
    FeedForward,
    conv_bn_relu,
    fold_batch_norm,
    resize_map,
    sine_1d,
    sine_2d,
    use_onednn,
)

CPU = torch.device("cpu")


class AddPositions(nn.Module):
    def __init__(self, height):
        super().__init__()
        self.height = height

    def forward(self, tokens):
        length, channels = tokens.shape[1:]
        size = (self.height, length // self.height)
        return tokens + sine_2d(channels, *size, tokens.device) + sine_1d(channels, length, tokens.device)


@pytest.mark.parametrize(("strict", "height"), [(False, 5), (True, 6)])
def test_positions_can_be_used_after_an_export(strict, height):
    module, tokens = AddPositions(height), torch.randn(2, 30, 8)
    program = torch.export.export(module, (tokens,), strict=strict)
    for table in (sine_2d(8, height, 30 // height, CPU), sine_1d(8, 30, CPU)):
        assert type(table) is torch.Tensor
    torch.testing.assert_close(program.module()(tokens), module(tokens))


def test_positions_first_used_for_inference_can_be_trained_with():
    with torch.inference_mode():
        sine_2d(12, 3, 7, CPU), sine_1d(12, 7, CPU)
    weight = torch.ones(12, requires_grad=True)
    (sine_2d(12, 3, 7, CPU) * weight).sum().backward()  # multiplying keeps the table for the gradient
    (sine_1d(12, 7, CPU) * weight).sum().backward()
    assert weight.grad is not None
    assert weight.grad.all()


def test_positions_are_made_once_a_size():
    assert sine_2d(8, 4, 6, CPU) is sine_2d(8, 4, 6, CPU)


def test_positions_by_hand():
    table = sine_2d(8, 2, 4, CPU).reshape(2, 4, 8)
    row, column = torch.tensor(1.5 / 2 * 2 * torch.pi), torch.tensor(2.5 / 4 * 2 * torch.pi)
    by_hand = [row.sin(), row.cos(), (row / 100).sin(), (row / 100).cos()]
    by_hand += [column.sin(), column.cos(), (column / 100).sin(), (column / 100).cos()]
    torch.testing.assert_close(table[1, 2], torch.stack(by_hand), atol=2e-6, rtol=0)
    word = torch.tensor(3 / 5 * 2 * torch.pi)  # the third of five: no half step
    torch.testing.assert_close(sine_1d(4, 5, CPU)[2, :2], torch.stack([word.sin(), word.cos()]), atol=2e-6, rtol=0)


def test_attention_equals_torch():
    torch.manual_seed(0)
    ours, theirs = Attention(24, 3), nn.MultiheadAttention(24, 3, batch_first=True)
    nn.init.normal_(theirs.in_proj_bias)
    nn.init.normal_(theirs.out_proj.bias)
    ours.load_state_dict(theirs.state_dict())
    q, k, v = torch.randn(2, 7, 24), torch.randn(2, 5, 24), torch.randn(2, 5, 24)
    allowed = torch.tensor([[True, True, True, False, False], [True, False, True, True, True]])
    expected, _ = theirs(q, k, v, key_padding_mask=~allowed)
    torch.testing.assert_close(ours(q, k, v, allowed), expected, atol=1e-6, rtol=1e-5)


def test_channels_must_fit_the_heads():
    with pytest.raises(ValueError, match="10 channels cannot be split into 4 heads"):
        Attention(10, 4)


def test_a_map_of_the_right_size_is_left_alone():
    feature_map = torch.randn(1, 2, 4, 6)
    assert resize_map(feature_map, (4, 6)) is feature_map


class Folded(nn.Module):
    def __init__(self):
        super().__init__()
        self.convs = nn.Sequential(conv_bn_relu(3, 5, 3), conv_bn_relu(5, 4, 1))
        self.linear = nn.Sequential(nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU())

    def forward(self, x):
        return self.linear(self.convs(x).mean((2, 3)))


def test_folding_batch_norm_changes_nothing_but_the_work():
    torch.manual_seed(0)
    model, x = Folded(), torch.randn(4, 3, 9, 8)
    for _ in range(20):  # statistics that are not 0 and 1
        model(3 * torch.randn(8, 3, 9, 8) + 1)
    expected = model.eval()(x)
    fold_batch_norm(model)
    assert not any(isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)) for module in model.modules())
    torch.testing.assert_close(model(x), expected, atol=1e-5, rtol=1e-5)


def test_folding_needs_eval_mode():
    with pytest.raises(ValueError, match="only in eval mode"):
        fold_batch_norm(Folded())


@pytest.mark.parametrize("lengths", [(1, 3), (40, 6), (7, 40)])
def test_looking_up_words_equals_attention(lengths):
    torch.manual_seed(0)
    attention = Attention(24, 3)
    nn.init.normal_(attention.in_proj_bias)
    nn.init.normal_(attention.out_proj.bias)
    q, k, v = torch.randn(2, lengths[0], 24), torch.randn(2, lengths[1], 24), torch.randn(2, lengths[1], 24)
    allowed = torch.rand(2, lengths[1]) > 0.4
    allowed[:, 0] = True
    inputs = [t.requires_grad_() for t in (q, k, v)]
    expected, actual = attention(q, k, v, allowed), attention.look_up(q, k, v, allowed)
    torch.testing.assert_close(actual, expected, atol=2e-6, rtol=1e-5)
    weight = torch.randn_like(expected)
    gradients = [torch.autograd.grad((out * weight).sum(), inputs) for out in (expected, actual)]
    for theirs, ours in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_dropout_of_looked_up_words_keeps_the_mean():
    torch.manual_seed(0)
    attention = Attention(8, 2, dropout=0.5)
    q, words = torch.randn(1, 5, 8).expand(4000, -1, -1), torch.randn(1, 3, 8).expand(4000, -1, -1)
    allowed = torch.ones(4000, 3, dtype=torch.bool)
    dropped = attention.train().look_up(q, words, words, allowed)
    assert not torch.equal(dropped[0], dropped[1])
    kept = attention.eval().look_up(q, words, words, allowed)
    torch.testing.assert_close(dropped.mean(0), kept[0], atol=0.03, rtol=0)


def test_rows_of_the_feed_forward_may_go_one_after_the_other(monkeypatch):
    torch.manual_seed(0)
    ffn, tokens = FeedForward(8, 32).eval(), torch.randn(2, 50, 8)
    expected, largest = ffn(tokens), []
    ffn.linear1.register_forward_hook(lambda module, inputs, output: largest.append(output.numel()))
    monkeypatch.setattr(layers, "_HIDDEN_AT_ONCE", 500)
    torch.testing.assert_close(ffn(tokens), expected)
    assert max(largest) <= 500
    assert sum(largest) == 2 * 50 * 32


class Linears(nn.Module):
    def __init__(self):
        super().__init__()
        self.stack = nn.Sequential(nn.Linear(32, 48), nn.ReLU(), nn.Linear(48, 16, bias=False))
        self.last = nn.Linear(16, 8)

    def forward(self, x):
        return self.last(self.stack(x))


def test_linear_layers_by_onednn_give_the_same():
    torch.manual_seed(0)
    plain = Linears().eval()
    fast = use_onednn(copy.deepcopy(plain))
    assert fast.state_dict().keys() == plain.state_dict().keys()
    tokens = [torch.randn(2, 30, 32), torch.randn(2, 32, 30).transpose(1, 2), torch.randn(1, 32), torch.randn(0, 32)]
    tokens += [torch.randn(1, 9, 32).expand(3, 9, 32)]
    with torch.inference_mode():
        for x in tokens:
            torch.testing.assert_close(fast(x), plain(x), atol=1e-5, rtol=1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(fast(tokens[0]), plain(tokens[0]))
    # Training, export and other types go the usual way.
    fast(tokens[0]).sum().backward()
    assert all(parameter.grad is not None for parameter in fast.parameters())
    with torch.inference_mode():
        exported = torch.export.export(fast, (tokens[0],)).module()
    assert "mkldnn" not in exported.code
    assert fast.double()(tokens[0].double()).dtype == torch.float64
