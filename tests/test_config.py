"""Configurations as files: there and back without loss, and every mistake named."""

import json
import re
from dataclasses import dataclass, field

import pytest
import yaml

from anygrain import config
from anygrain.models.bert import BertConfig
from anygrain.models.convnet import EfficientNetLiteConfig
from anygrain.models.unilseg import UniLSegConfig

NAMED = {"released": UniLSegConfig.released(), "paper": UniLSegConfig.paper(), "nano": UniLSegConfig.nano()}


@pytest.mark.parametrize("name", NAMED)
def test_there_and_back(name):
    values = config.to_dict(NAMED[name])
    assert values == json.loads(json.dumps(values))
    assert config.from_dict(UniLSegConfig, values) == NAMED[name]


def test_the_kind_chooses_the_encoder():
    values = {"image_encoder": {"kind": "efficientnet_lite"}, "text_encoder": {"kind": "bert", "layers": 2}}
    built = config.from_dict(UniLSegConfig, values)
    assert built.image_encoder == EfficientNetLiteConfig()
    assert built.text_encoder == BertConfig(layers=2)
    assert built.level_dims == UniLSegConfig().level_dims  # what is not given keeps its default


MISTAKES = {
    "unknown field": ({"hiden_dim": 3}, "unknown field 'hiden_dim'; known: align_corners, "),
    "unknown field inside": (
        {"text_encoder": {"kind": "bert", "depth": 2}},
        "unknown field 'text_encoder.bert.depth'",
    ),
    "field of the other kind": (
        {"image_encoder": {"kind": "efficientnet_lite", "window_size": 7}},
        "unknown field 'image_encoder.efficientnet_lite.window_size'",
    ),
    "unknown kind": ({"image_encoder": {"kind": "vit"}}, "image_encoder: input tag 'vit'"),
    "no kind": ({"image_encoder": {}}, "image_encoder: unable to extract tag"),
    "wrong type": ({"input_size": "large"}, "input_size: input should be a valid integer"),
    "wrong type inside": (
        {"image_encoder": {"kind": "swin", "depths": [2, 2, None, 2]}},
        "image_encoder.swin.depths.2: input should be a valid integer (got None)",
    ),
    "not a whole number": ({"word_len": 2.5}, "word_len: input should be a valid integer"),
    "number for an encoder": ({"text_encoder": 3}, "text_encoder: "),
    "wrong length": ({"level_dims": [1, 2, 3]}, "level_dims.3: field required"),
    "not one of the choices": ({"resize": "stretch"}, "resize: input should be 'letterbox' or 'fit' (got 'stretch')"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_in_one_sentence(mistake):
    values, message = MISTAKES[mistake]
    with pytest.raises(ValueError, match="^model.json: " + re.escape(message)) as raised:
        config.from_dict(UniLSegConfig, values, where="model.json")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("values", [None, [], "nano", 3])
def test_anything_but_an_object_is_refused(values):
    with pytest.raises(ValueError, match="expected an object with the fields of UniLSegConfig"):
        config.from_dict(UniLSegConfig, values)


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.1


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    steps: int = 1

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")


def test_the_rules_of_a_class_hold_and_the_class_stays_as_it_was():
    before = set(vars(Outer))
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        config.from_dict(Outer, {"steps": 0})
    assert config.from_dict(Outer, {"inner": {"rate": 1}}) == Outer(inner=Inner(rate=1.0))
    assert set(vars(Outer)) == before


def test_files(tmp_path):
    values = {"inner": {"rate": 0.5}, "steps": 7}
    (tmp_path / "a.json").write_text(json.dumps(values))
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(values))
    for name in ("a.json", "a.yaml"):
        assert config.read(Outer, tmp_path / name) == Outer(inner=Inner(rate=0.5), steps=7)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("broken.json", b'{"steps": ', "not valid JSON"),
        ("broken.yaml", b"steps: [1", "not valid YAML"),
        ("latin.json", b'{"name": "\xe9"}', "not valid JSON"),
        ("list.yaml", b"- 1\n- 2\n", "expected an object"),
        ("unknown.yaml", b"inner: {speed: 1}", "unknown field 'inner.speed'"),
    ],
)
def test_a_bad_file_is_named(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as raised:
        config.read(Outer, path)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)
