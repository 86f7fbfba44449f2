"""Tagger and its model folder: what photos show, in batches as one by one; and what taggers cannot do."""

import io
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

import anygrain
from anygrain import hub
from anygrain.models.tags import TagList
from anygrain.tagger import Tagger
from tiny_ram import build

NAMES = (*(f"tag {t}" for t in range(29)), "tag 3")  # a name may stand twice


@pytest.fixture(scope="module")
def network():
    network = build(spread=4, num_tags=30)
    torch.nn.init.normal_(network.head.weight)
    network.tags = TagList(names=NAMES, thresholds=tuple(0.3 + 0.4 * (t % 2) for t in range(30)))
    return network


@pytest.fixture(scope="module")
def model(network, tmp_path_factory):
    return hub.save(network, tmp_path_factory.mktemp("models") / "ram", card="# Tiny\n")


@pytest.fixture(scope="module")
def tagger(model):
    return anygrain.load_tagger(model, device="cpu")


@pytest.fixture(scope="module")
def pictures(photos):
    return [photos / name for name in ("dog.jpg", "facade.jpg", "kite.jpg", "pet.jpg")]


def test_tags_are_those_above_their_thresholds_in_order(tagger, pictures):
    probabilities = tagger.probabilities(pictures)
    assert (probabilities.shape, probabilities.dtype) == ((4, 30), np.float32)
    for row, tags in zip(probabilities, tagger.tags(pictures), strict=True):
        above = [t for t in range(30) if row[t] > np.float32(0.3 + 0.4 * (t % 2))]
        assert 0 < len(above) < 30
        assert tags == [(NAMES[t], float(row[t])) for t in above]


def test_a_batch_equals_the_loop(tagger, model, pictures):
    alone = [tagger.tags([picture])[0] for picture in pictures]
    assert tagger.tags(pictures) == alone  # to the bit: on a CPU images go one by one
    together = anygrain.load_tagger(model, device="cpu", batch_size=3)
    assert np.abs(together.probabilities(pictures) - tagger.probabilities(pictures)).max() < 1e-6
    assert [[name for name, _ in tags] for tags in together.tags(pictures)] == [[n for n, _ in tags] for tags in alone]
    assert len({tuple(tags) for tags in alone}) == 4  # the photos differ


def test_no_images_no_tags(tagger):
    assert tagger.tags([]) == []
    assert tagger.probabilities([]).shape == (0, 30)


def test_images_come_in_any_form_and_are_turned_upright(tagger, photos):
    file = photos / "dog.jpg"
    picture = anygrain.open_image(file)
    forms = [file, str(file), file.read_bytes(), io.BytesIO(file.read_bytes()), picture, np.asarray(picture)]
    tags = tagger.tags(forms)
    assert tags == [tags[0]] * len(forms)
    turned, exif = picture.transpose(Image.Transpose.ROTATE_90), Image.Exif()
    exif[274] = 6  # to be seen turned clockwise
    buffer = io.BytesIO()
    turned.save(buffer, "PNG", exif=exif)
    assert tagger.tags([buffer.getvalue()]) == tagger.tags([picture])


def test_one_threshold_for_all_and_names_left_out(tagger, pictures):
    (row,) = tagger.probabilities(pictures[:1])
    (tags,) = tagger.tags(pictures[:1], threshold=0.4)
    assert tags == [(NAMES[t], float(row[t])) for t in range(30) if row[t] > np.float32(0.4)]
    (every,) = tagger.tags(pictures[:1], threshold=0)
    assert [name for name, _ in every] == list(NAMES)
    (rest,) = tagger.tags(pictures[:1], threshold=0, without=["tag 3", "tag 8"])
    assert rest == [tag for tag in every if tag[0] not in ("tag 3", "tag 8")]
    assert len(rest) == 27  # both rows called "tag 3"


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan")])
def test_a_threshold_is_a_probability(tagger, pictures, threshold):
    with pytest.raises(ValueError, match="threshold must lie between 0 and 1"):
        tagger.tags(pictures, threshold=threshold)


def test_bad_input_is_named(tagger, network, folder):
    with pytest.raises(ValueError, match="has no tag 'dog' to leave out"):
        tagger.tags([], without=["tag 1", "dog"])
    with pytest.raises(ValueError, match=r"there is no file nothing\.jpg"):
        tagger.tags(["nothing.jpg"])
    with pytest.raises(ValueError, match="batch_size must be 1 or more, got 0"):
        Tagger(network, tagger.info, batch_size=0)
    with pytest.raises(ValueError, match="no tag list"):
        Tagger(build(), tagger.info)


# ------------------------------------------------------------------------------------------------ the folder


def test_the_folder_comes_back_to_the_bit(network, model, tagger):
    assert sorted(path.name for path in model.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "tags.json",
    ]
    back = hub.read_tagger(model)
    assert (back.config, back.tags) == (network.config, network.tags)
    state = network.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in back.state_dict().items())
    assert tagger.info == {"name": str(model), "architecture": "ram", "fingerprint": hub.fingerprint(model)}


def test_half_precision_halves_the_file(network, model, pictures, tagger, tmp_path):
    small = hub.save(network, tmp_path / "half", card="", storage="float16")
    assert (small / "model.safetensors").stat().st_size < 0.6 * (model / "model.safetensors").stat().st_size
    difference = hub.load_tagger(small, device="cpu").probabilities(pictures) - tagger.probabilities(pictures)
    assert 0 < np.abs(difference).max() < 0.02


def test_other_thresholds_are_another_model(network, model, tmp_path):
    assert hub.fingerprint(hub.save(network, tmp_path / "again", card="other card")) == hub.fingerprint(model)
    tags = json.loads((tmp_path / "again" / "tags.json").read_text())
    tags["thresholds"][0] = 0.99
    (tmp_path / "again" / "tags.json").write_text(json.dumps(tags))
    assert hub.fingerprint(tmp_path / "again") != hub.fingerprint(model)


def spoil_tags(folder, change):
    tags = json.loads((folder / "tags.json").read_text())
    change(tags)
    (folder / "tags.json").write_text(json.dumps(tags))


FAULTS = {
    "no tags": (lambda f: (f / "tags.json").unlink(), "not a complete model folder, tags.json is missing"),
    "broken": (lambda f: (f / "tags.json").write_text("{"), "tags.json: not valid JSON"),
    "one short": (
        lambda f: spoil_tags(f, lambda tags: (tags["names"].pop(), tags["thresholds"].pop())),
        "tags.json: 29 tags, but the model has 30",
    ),
    "uneven": (lambda f: spoil_tags(f, lambda tags: tags["names"].pop()), "29 names but 30 thresholds"),
    "weights": (lambda f: (f / "model.safetensors").write_bytes(b""), "not a readable safetensors file"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_folder_is_named_in_one_sentence(network, tmp_path, fault):
    folder = hub.save(network, tmp_path / "ram", card="")
    spoil, message = FAULTS[fault]
    spoil(folder)
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        hub.load_tagger(folder, device="cpu")
    assert str(raised.value).startswith(str(folder))
    assert "\n" not in str(raised.value)


def test_a_tagger_is_refused_where_masks_are_wanted(anygrain, model, photos, folder, tiny_model):
    photo = photos / "dog.jpg"
    for arguments in (
        ["segment", photo, "-t", "the dog", "--model", model],
        ["convert", "average", model, model, "--out", "mean"],
    ):
        result = anygrain(*arguments)
        (line,) = result.err.splitlines()
        assert result.status == 2
        assert line.startswith(f"anygrain: error: {model}: a tagger (ram) names what a photo shows and draws no masks")
    assert list(folder.iterdir()) == []
    with pytest.raises(ValueError, match=r"a model that segments \(unilseg\), not a tagger"):
        hub.load_tagger(tiny_model, device="cpu")
