"""UniLSeg beyond its numbers (see parity/): configurations, switches, sizes, batches, gradients, texts."""

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from anygrain.data.batch import Batch
from anygrain.models.layers import fold_batch_norm
from anygrain.models.texts import TextFeatures
from anygrain.models.unilseg import UniLSeg, UniLSegConfig
from tiny_unilseg import build, nano_config, official_config

TEXTS = ["all people", "the red car on the left", "sky", "the most salient object"]
NOISE = 2e-5  # float32, logits of a few units
CONFIGS = {
    "released": official_config(),
    "paper": official_config(UniLSegConfig.paper()),
    "nano": nano_config(),
}


@pytest.fixture(scope="module", params=CONFIGS)
def model(request, tmp_path_factory):
    return build(CONFIGS[request.param], tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def nano(tmp_path_factory):
    return build(nano_config(), tmp_path_factory.mktemp("tokenizer"))


def pixels_of(batch=1, height=64, width=96, seed=0):
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


def ask(model, pixels, texts, index=None):
    index = torch.zeros(len(texts), dtype=torch.int64) if index is None else torch.tensor(index)
    with torch.inference_mode():
        return model.decode(model.encode_image(pixels), model.encode_text(texts), index)


def names(config):
    with torch.device("meta"):
        return {name: parameter.shape for name, parameter in UniLSeg(config).named_parameters()}


# ------------------------------------------------------------------------------------------- configurations


def test_the_released_network_and_the_papers():
    released, paper = names(UniLSegConfig.released()), names(UniLSegConfig.paper())
    # The paper leaves stride 4 out of the pre-fusion; all else differs in what is computed, not in what is learnt.
    assert {name for name in released if name not in paper} == {n for n in released if n.startswith("pre_fusion.1.")}
    assert set(paper) < set(released)
    assert {name.split(".")[1] for name in paper if name.startswith("pre_fusion.")} == {"2", "3", "4"}


def test_the_papers_equations_give_other_masks():
    released, paper = (build(official_config(base)) for base in (UniLSegConfig.released(), UniLSegConfig.paper()))
    shared = {name: value for name, value in released.state_dict().items() if not name.startswith("pre_fusion.1.")}
    paper.load_state_dict(shared)
    for style in ({"norm": "post"}, {"language_style": "detr"}, {}):  # each of the two differences alone, then both
        other = build(replace(paper.config, **style))
        other.load_state_dict(shared)
        difference = ask(other, pixels_of(), TEXTS).mask_logits - ask(paper, pixels_of(), TEXTS).mask_logits
        assert (difference.abs().max() > 1e-2) == bool(style), style
    difference = ask(released, pixels_of(), TEXTS).mask_logits - ask(paper, pixels_of(), TEXTS).mask_logits
    assert difference.abs().max() > 1e-2


PARTS = {"pre_fusion": "pre_fusion.", "vision_path": "blocks.", "language_path": "language_path.layers."}
ROWS = [dict(zip(PARTS, row, strict=True)) for row in itertools.product((False, True), repeat=3)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "+".join(k for k, on in row.items() if on) or "baseline")
@pytest.mark.parametrize("base", CONFIGS)
def test_the_switches_of_table_8(base, row, tmp_path):
    config = CONFIGS[base].ablation(**row)
    model = build(config, tmp_path)
    parameters = dict(model.named_parameters())
    for switch, prefix in PARTS.items():
        assert any(name.startswith(prefix) for name in parameters) == row[switch], switch
    output = ask(model, pixels_of(), TEXTS)
    assert output.mask_logits.shape == (4, 16, 24)
    assert output.mask_logits.isfinite().all()
    # Whatever is off, the sentence is the query: another text is another mask.
    assert (output.mask_logits[0] - output.mask_logits[1]).abs().max() > 1e-6


@pytest.mark.parametrize("switch", PARTS)
def test_each_switch_changes_the_masks(switch, nano, tmp_path):
    without = build(replace(nano.config, **{switch: False}), tmp_path)
    without.load_state_dict({name: value for name, value in nano.state_dict().items() if name in without.state_dict()})
    difference = ask(without, pixels_of(), TEXTS).mask_logits - ask(nano, pixels_of(), TEXTS).mask_logits
    assert difference.abs().max() > 1e-2


@pytest.mark.parametrize("levels", [(), (4,), (2, 3), (1, 2, 3, 4)])
def test_any_levels_may_be_fused_and_have_blocks(levels, tmp_path):
    model = build(nano_config(fused_levels=levels, block_levels=levels, reductions=(4, 2, 1, 1)), tmp_path)
    assert set(model.pre_fusion) == set(model.blocks) == {str(level) for level in levels}
    assert ask(model, pixels_of(), TEXTS).mask_logits.shape == (4, 16, 24)


# ---------------------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize("size", [(61, 50), (33, 130), (29, 29)])
def test_odd_sizes(model, size):
    logits = ask(model, pixels_of(1, *size), TEXTS[:2]).mask_logits
    assert logits.shape == (2, -(-size[0] // 4), -(-size[1] // 4))
    assert logits.isfinite().all()


def test_an_input_too_small_for_the_network_is_an_error(model):
    with pytest.raises(ValueError, match="a map of 1x6 is too small to shrink by 2"):
        ask(model, pixels_of(1, 12, 96), TEXTS[:1])


def test_maps_of_any_photo_come_back_at_its_size(model):
    for size in ((50, 70), (300, 20)):
        resize = model.make_resize(size)
        pixels = model.normalise(resize.image(np.zeros((*size, 3), np.uint8))[None])
        assert pixels.shape == (1, 3, *resize.canvas)
        probabilities = model.probabilities(ask(model, pixels, TEXTS[:2]).mask_logits, resize)
        assert probabilities.shape == (2, *size)
        assert probabilities.dtype == np.float32


def test_pixels_are_normalised_as_configured(model):
    image = np.array([[[0, 127, 255]]], np.uint8)
    mean, std = np.array(model.config.mean), np.array(model.config.std)
    expected = (image[0, 0] / 255 - mean) / std
    np.testing.assert_allclose(model.normalise(image[None])[0, :, 0, 0].numpy(), expected, atol=1e-6)


# -------------------------------------------------------------------------------------------------- batches


def test_prompts_of_several_images_equal_one_by_one(model):
    pixels, index = pixels_of(batch=3), [2, 0, 0, 1]
    together = ask(model, pixels, TEXTS, index)
    for row, image in enumerate(index):
        alone = ask(model, pixels[image : image + 1], TEXTS[row : row + 1])
        torch.testing.assert_close(together.mask_logits[row], alone.mask_logits[0], atol=NOISE, rtol=0)
        if together.presence_logits is not None:
            torch.testing.assert_close(together.presence_logits[row], alone.presence_logits[0], atol=NOISE, rtol=0)


def test_one_prompt_an_image_is_the_plain_forward(model):
    pixels, ids = pixels_of(batch=2), model.tokenizer(TEXTS[:2], model.config.word_len)
    with torch.inference_mode():
        logits = model(pixels, ids).mask_logits
    torch.testing.assert_close(logits, ask(model, pixels, TEXTS[:2], [0, 1]).mask_logits, atol=NOISE, rtol=0)


def test_slots_of_padding_can_be_cut(model):
    """``decode`` cuts them to the longest text; beside a long text the short one keeps its answer."""
    with torch.inference_mode():
        text = model.encode_text(["sky", "the red car on the left"])
        features, index = model.encode_image(pixels_of()), torch.zeros(1, dtype=torch.int64)
        short = TextFeatures(*(part[:1] for part in text))
        cut, uncut = model.decode(features, short, index), model.decode(features, text, index.expand(2))
    assert text.words.shape[1] == model.config.word_len
    assert short.select(slice(None)).words.shape[1] == int(text.real[0].sum()) < int(text.real[1].sum())
    torch.testing.assert_close(cut.mask_logits[0], uncut.mask_logits[0], atol=NOISE, rtol=0)


def test_folded_batch_norm_gives_the_same_masks(tmp_path):
    for config in CONFIGS.values():
        model = build(config, tmp_path)
        expected = ask(model, pixels_of(), TEXTS).mask_logits
        folded = ask(fold_batch_norm(model), pixels_of(), TEXTS).mask_logits
        torch.testing.assert_close(folded, expected, atol=1e-5, rtol=1e-4)


def test_memory_per_prompt_grows_with_the_image(model):
    with torch.inference_mode():
        small, large = (model.encode_image(pixels_of(1, side, side)) for side in (64, 128))
    assert 3.5 < model.bytes_per_prompt(large) / model.bytes_per_prompt(small) < 4.5


# ------------------------------------------------------------------------------------------------- training


def batch_of(model, size=(64, 96)):
    targets = torch.zeros(4, *size, dtype=torch.uint8)
    targets[:3, 10:40, 20:60] = 1
    targets[:, :, 90:] = 255
    return Batch(
        pixels=pixels_of(2, *size),
        valid=torch.ones(2, *size, dtype=torch.bool),
        texts=tuple(TEXTS),
        image_index=torch.tensor([0, 0, 1, 1]),
        targets=targets,
        present=torch.tensor([True, True, True, False]),
        boxed=torch.tensor([False, False, False, False]),
    )


def train_step(model, batch):
    text = model.encode_text(list(batch.texts))
    output = model.decode(model.encode_image(batch.pixels), text, batch.image_index)
    losses = model.loss(output, batch)
    sum(losses.values()).backward()
    return output, losses


@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_reach_all_that_is_not_dead(name, tmp_path):
    model = build(replace(CONFIGS[name], dropout=0.0), tmp_path).train()
    _, losses = train_step(model, batch_of(model))
    assert set(losses) == {"cross_entropy", "dice"} | ({"presence"} if name == "nano" else set())
    assert all(loss.isfinite() and loss > 0 for loss in losses.values())
    dead = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    # Released form: the first layer's self-attention multiplies a zero target.
    expected = set() if name == "paper" else {"language_path.layers.0.self_attn.in_proj_weight"}
    assert dead == expected
    assert all(p.grad.isfinite().all() for n, p in model.named_parameters() if n not in dead)
    for n, p in model.named_parameters():  # softmax is blind to a shift of all keys
        if n.endswith("attn.in_proj_bias"):
            third = len(p) // 3
            assert p.grad[third : 2 * third].abs().max() < 1e-6, n
        if n.startswith("language_path") and n.endswith("self_attn.in_proj_weight") and name != "paper":
            assert not p.grad[: 2 * len(p) // 3].any(), n  # one query attends to itself


def test_a_step_downhill_lowers_the_loss(tmp_path):
    model = build(nano_config(), tmp_path).train()
    batch = batch_of(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    totals = []
    for _ in range(12):
        optimizer.zero_grad()
        _, losses = train_step(model, batch)
        totals.append(sum(losses.values()).item())
        optimizer.step()
    assert totals[-1] < 0.8 * totals[0]


def test_deep_supervision_looks_at_every_layer_in_training_only(tmp_path):
    model = build(official_config(query_layers=3), tmp_path)
    assert ask(model, pixels_of(), TEXTS).aux_logits == ()
    output, losses = train_step(model.train(), batch_of(model))
    assert len(output.aux_logits) == 2
    last_alone = model.loss(output._replace(aux_logits=()), batch_of(model))
    assert losses["dice"].item() != pytest.approx(last_alone["dice"].item(), abs=1e-6)
    without = build(official_config(deep_supervision=False), tmp_path).train()
    assert train_step(without, batch_of(without))[0].aux_logits == ()


def test_presence_is_asked_of_each_prompt(nano):
    output = ask(nano, pixels_of(), TEXTS)
    assert output.presence_logits.shape == (4,)
    assert output.presence_logits.unique().numel() == 4
    batch = batch_of(nano)
    right = torch.where(batch.present, 9.0, -9.0)
    good = nano.loss(output._replace(presence_logits=right), batch)["presence"]
    bad = nano.loss(output._replace(presence_logits=-right), batch)["presence"]
    assert good < 1e-3
    assert bad > 8


# ---------------------------------------------------------------------------------------------------- texts


def test_a_text_that_is_too_long_warns_and_names_what_is_lost(model):
    text = "the red car on the left of the dog with a cat on the most salient window"
    lost = model.tokenizer.cut(text, model.config.word_len)
    assert text.endswith(lost)
    assert lost
    message = f"'{text}' is longer than the model's {model.config.word_len} tokens; ignored: '{lost}'"
    with pytest.warns(UserWarning, match=re.escape(message)):
        long = model.encode_text([text])
    kept = model.encode_text([text[: -len(lost)].strip()])
    torch.testing.assert_close(long.sentence, kept.sentence)


@pytest.mark.parametrize("text", ["犬", "café ½ “red” car", "🐕 dog", "dog\tcat\n", "a\u200bb"])
def test_any_unicode_text_has_an_answer(model, text):
    assert ask(model, pixels_of(), [text]).mask_logits.isfinite().all()


def test_letters_of_other_scripts_count(model):
    text = model.encode_text(["dog", "犬"])
    assert (text.sentence[0] - text.sentence[1]).abs().max() > 1e-3


def test_without_a_tokenizer_texts_are_refused():
    with torch.device("meta"), pytest.raises(ValueError, match="built without a tokenizer"):
        UniLSeg(nano_config()).encode_text(["dog"])


def test_mixing_moves_each_text_part_of_the_way_to_a_random_other(model):
    text = model.encode_text([*TEXTS, "red"])
    others = model.encode_text(["all zebras", "weather"])
    torch.manual_seed(0)
    mixed = text.mixed(0.4, others)
    step = mixed.words - text.words  # [N, L, C]
    torch.testing.assert_close(step, step[:, :1].expand_as(step), atol=1e-5, rtol=0)  # all words of a text alike
    ways = others.mean_word()[None] - text.mean_word()[:, None]  # [N, M, C], from each to each
    part = (step[:, :1] * ways).sum(-1) / ways.square().sum(-1)
    residual = (step[:, :1] - part[..., None] * ways).norm(dim=-1)
    nearest = residual.argmin(1)
    assert residual.gather(1, nearest[:, None]).max() < 1e-4
    assert 0 <= part.gather(1, nearest[:, None]).min() <= part.gather(1, nearest[:, None]).max() <= 0.4
    torch.testing.assert_close(mixed.sentence.norm(dim=-1), text.sentence.norm(dim=-1))
    assert not torch.equal(mixed.sentence, text.mixed(0.4, others).sentence)
    torch.testing.assert_close(text.mixed(0.0, others).words, text.words)
    torch.testing.assert_close(text.mixed(0.0, others).sentence, text.sentence)


# --------------------------------------------------------------------------------------------------- export


class Decoder(torch.nn.Module):
    """``decode`` with plain tensors, as an exported graph has them."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, features, words, real, sentence, index):
        return self.model.decode(features, TextFeatures(words, real, sentence), index).mask_logits


def test_the_decoder_exports_with_a_free_number_of_prompts(model):
    with torch.no_grad():
        features, index = model.encode_image(pixels_of()), torch.zeros(4, dtype=torch.int64)
        text = model.encode_text(TEXTS)
        prompts = {0: torch.export.Dim("prompts", min=1, max=64)}
        shapes = ((None,) * 4, prompts, prompts, prompts, prompts)
        program = torch.export.export(Decoder(model), (features, *text, index), dynamic_shapes=shapes)
        exported = program.module()(features, *(part[:2] for part in text), index[:2])
    torch.testing.assert_close(exported, ask(model, pixels_of(), TEXTS[:2]).mask_logits, atol=NOISE, rtol=0)
