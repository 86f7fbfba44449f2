"""The mean of models: of all their weights, of models built alike only."""

import shutil

import pytest
import torch

from anygrain import hub
from anygrain.average import average
from anygrain.vocabulary import Vocabulary
from tiny_unilseg import build, nano_config, official_config


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Three model folders of one configuration and different weights."""
    folder = tmp_path_factory.mktemp("models")
    network = build(nano_config(), folder)
    folders = []
    for number, name in enumerate(["first", "second", "third"]):
        generator = torch.Generator().manual_seed(number)
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape, generator=generator))
        network.vocabulary = None if number == 0 else Vocabulary(names={"footway": name}, words=frozenset({name, "a"}))
        folders.append(hub.save(network, folder / name, card="# One\n"))
    return folders


def states(models):
    return [hub.read_model(model).state_dict() for model in models]


def test_every_weight_is_the_mean(models):
    found, given = average(models).state_dict(), states(models)
    for key, value in found.items():
        wanted = torch.stack([state[key].double() for state in given]).mean(0)
        assert value.dtype == given[0][key].dtype
        assert torch.equal(value, wanted.to(value.dtype)), key


def test_a_model_named_twice_counts_twice(models):
    found = average([models[0], models[1], models[1]]).state_dict()
    one, two, _ = states(models)
    for key, value in found.items():
        torch.testing.assert_close(value, ((one[key].double() + 2 * two[key].double()) / 3).to(value.dtype))


def test_it_knows_the_words_of_all(models):
    vocabulary = average(models).vocabulary
    assert vocabulary.names == {"footway": "second"}
    assert vocabulary.words == {"second", "third", "a"}


def test_models_that_have_no_mean_are_named(models, tmp_path):
    other = hub.save(build(official_config()), tmp_path / "official", card="# Other\n")
    with pytest.raises(ValueError, match=r"official: its configuration is not that of .*first"):
        average([models[0], other])
    other = shutil.copytree(models[1], tmp_path / "words")
    text = (other / "tokenizer.json").read_text()
    (other / "tokenizer.json").write_text(text.replace('"people"', '"steeds"'))
    with pytest.raises(ValueError, match=r"words: its tokenizer is not that of .*first"):
        average([models[0], other])
    with pytest.raises(ValueError, match="at least two"):
        average(models[:1])


def test_the_command_writes_a_model_that_loads(anygrain, folder, models):
    result = anygrain("convert", "average", *map(str, models[:2]), "--out", "mean")
    assert (result.status, result.err) == (0, "")
    mean, wanted = hub.read_model(folder / "mean").state_dict(), average(models[:2]).state_dict()
    assert all(torch.equal(mean[key], value) for key, value in wanted.items())
    card = (folder / "mean" / "README.md").read_text()
    assert all(hub.fingerprint(model) in card for model in models[:2])


def test_the_command_says_what_is_wrong_with_exit_code_2(anygrain, folder, models):
    result = anygrain("convert", "average", str(models[0]), "--out", "mean")
    assert result.status == 2
    assert "at least two" in result.err
    assert not (folder / "mean").exists()
