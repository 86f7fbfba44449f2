"""Whole routes with tiny teachers, what happens without weights, and the step that docs/annotate_steps.md shows."""

import os
import re
import subprocess
import sys
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from anygrain.annotate.agree import Agree
from anygrain.annotate.caption import BlipTeacher
from anygrain.annotate.detect import Detect, GroundingDinoTeacher
from anygrain.annotate.own import SemanticSamTeacher, UniLSegTeacher
from anygrain.annotate.propose import Everything, Propose, SamTeacher
from anygrain.annotate.rank import ClipTeacher, Rank
from anygrain.annotate.refer import Refer
from anygrain.annotate.routes import route
from anygrain.annotate.step import Worker
from anygrain.annotate.tag import Name, RamTeacher
from anygrain.annotate.tidy import Tidy
from anygrain.everything import EverythingOptions
from anygrain.images import open_image
from anygrain.masks import read_labels
from anygrain.types import Mask, Region, Sample

DOCS = Path(__file__).parents[2] / "docs" / "annotate_steps.md"


@pytest.fixture(scope="module")
def tiny(tiny_teachers, tiny_model, tiny_clicks):
    """The tiny teacher of each kind that a route may name."""
    return {
        SamTeacher: SamTeacher(model=str(tiny_teachers / "sam")),
        GroundingDinoTeacher: GroundingDinoTeacher(model=str(tiny_teachers / "dino"), side=64, longest=96),
        BlipTeacher: BlipTeacher(model=str(tiny_teachers / "blip"), max_tokens=5),
        ClipTeacher: ClipTeacher(model=str(tiny_teachers / "clip")),
        UniLSegTeacher: UniLSegTeacher(model=str(tiny_model)),
        SemanticSamTeacher: SemanticSamTeacher(model=str(tiny_clicks)),
        RamTeacher: RamTeacher(model=str(tiny_teachers / "ram")),
    }


def with_tiny(steps, tiny):
    """The same route with tiny teachers; random scores must not decide, so every threshold is at its lowest."""
    lowest = {
        Propose: {"min_iou": -1.0},
        Everything: {
            "options": EverythingOptions(points_per_side=3, min_predicted_iou=0.0, min_stability=0.0, max_overlap=0.9)
        },
        Name: {"threshold": 0.0},
        Agree: {"threshold": 0.0},
        Detect: {"threshold": 0.0},
        Rank: {"threshold": -1.0},
        Refer: {"presence": 0.0},
    }
    tidy = {"min_area": 0.0, "max_area": 1.0, "duplicate": 1.0, "contradiction": 1.0}
    for step in steps:
        teachers = {f.name: tiny[type(t)] for f in fields(step) if type(t := getattr(step, f.name)) in tiny}
        yield replace(step, **teachers, **lowest.get(type(step), tidy if isinstance(step, Tidy) else {}))


@pytest.fixture
def given(photos):
    """Photographs of two sizes, each with a box and a mask."""
    samples = []
    for name in ("dog", "kite"):
        image = open_image(photos / f"{name}.jpg")
        size = (image.height, image.width)
        mask = np.zeros(size, bool)
        mask[20:90, 30:120] = True
        regions = (Region(box=(30.0, 20.0, 120.0, 90.0)), Region(mask=Mask.from_array(mask), category="thing"))
        source = {"source": "test", "exhaustive": frozenset({"thing"})}
        samples.append(Sample(id=f"test/{name}", image=photos / f"{name}.jpg", size=size, regions=regions, **source))
    return samples


@pytest.mark.filterwarnings("ignore:.*longer than the model's")  # random captions of a tiny tokenizer
@pytest.mark.parametrize(
    ("name", "options", "steps"),
    [
        ("boxes", {}, ["propose", "caption", "rank", "tidy"]),
        ("masks", {}, ["forget", "tag", "detect", "propose", "rank", "tidy"]),
        ("masks", {"caption_given_masks": True}, ["unname", "caption", "rank", "tidy"]),
        ("none", {}, ["forget", "caption", "refer", "rank", "tidy"]),
    ],
)
def test_the_papers_routes_run_from_photographs_to_triplets(tiny, given, name, options, steps):
    whole = tuple(with_tiny(route(name, "paper", **options), tiny))
    assert [step.name for step in whole] == steps
    samples, worker = given, Worker()
    for step in whole:
        samples = step(samples, worker)
    assert [sample.id for sample in samples] == [sample.id for sample in given]
    for sample in samples:
        triplets = list(sample.triplets())
        assert triplets, f"no triplet in {sample.id}"
        assert all(mask is not None and mask.size == sample.size and mask.area for _, mask, _ in triplets)
        assert sample.exhaustive <= ({"thing"} if name == "boxes" else set())
        for region in sample.regions:
            assert region.origin["step"] == "tidy"
            assert region.score is not None
            touched = set(region.origin) - {"step"}
            assert "tag" not in touched or re.match(r"ram@[0-9a-f]{8} 0\.\d{3}$", region.origin["tag"])
            assert {"rank", "tidy"} <= touched <= set(steps)
            assert re.fullmatch(r"clip@[0-9a-f]{8} -?\d\.\d{3}", region.origin["rank"])


@pytest.mark.filterwarnings("ignore:.*longer than the model's")
@pytest.mark.parametrize(
    ("name", "teachers", "steps"),
    [
        ("boxes", "paper", ["propose", "caption", "rank", "tidy"]),
        ("masks", "paper", ["forget", "tag", "detect", "propose", "rank", "tidy"]),
        ("none", "paper", ["forget", "everything", "caption", "rank", "tidy"]),
        ("boxes", "small", ["name", "propose", "rank", "tidy"]),
        ("masks", "small", ["forget", "everything", "name", "rank", "tidy"]),
        ("none", "small", ["forget", "everything", "name", "rank", "tidy"]),
    ],
)
def test_every_route_takes_its_masks_from_semantic_sam(tiny, given, name, teachers, steps):
    whole = tuple(with_tiny(route(name, teachers, proposer="any"), tiny))
    assert [step.name for step in whole] == steps
    samples, worker = given, Worker()
    for step in whole:
        samples = step(samples, worker)
    made = [region for sample in samples for region in sample.regions if "clicks@" in str(region.origin)]
    assert made
    assert all(region.mask.area and (region.category or region.captions) and region.origin["rank"] for region in made)


@pytest.mark.parametrize("name", ["boxes", "masks", "none"])
def test_the_small_routes_name_and_place_what_photographs_show(photos, name):
    """With the real small teachers: a cat is found as a cat, from nothing, from a wrong mask, and from its box."""
    truth = read_labels(photos / "pet.png") == 1
    box = Mask.from_array(truth).box
    regions = (Region(box=box),) if name == "boxes" else (Region(mask=Mask.from_array(~truth), category="dog"),)
    samples = [Sample(id="test/pet", image=photos / "pet.jpg", size=truth.shape, regions=regions, source="test")]
    worker = Worker()
    for step in route(name, "small"):
        samples = step(samples, worker)
    (cat,) = samples[0].regions
    assert cat.category == "cat"
    found = cat.mask.to_array()
    assert (found & truth).sum() / (found | truth).sum() > 0.8
    assert cat.origin["refer"].startswith("nano@")
    assert "efficientnet-lite2@" in cat.origin["rank"]


def test_settings_are_plain_and_hashable():
    """The engine hashes and pickles them."""
    import pickle

    def plain(value):
        if is_dataclass(value):
            return all(plain(getattr(value, field.name)) for field in fields(value))
        return isinstance(value, (str, int, float, bool, type(None))) or (
            isinstance(value, tuple) and all(map(plain, value))
        )

    for name in ("boxes", "masks", "none"):
        for teachers in ("paper", "small"):
            steps = route(name, teachers)
            assert len({hash(step) for step in steps}) == len(steps)
            assert all(map(plain, steps))
            assert pickle.loads(pickle.dumps(steps)) == steps


def test_a_wrong_route_says_which_there_are():
    with pytest.raises(ValueError, match="boxes, masks, none; paper, small"):
        route("points")
    with pytest.raises(ValueError, match="only the route masks"):
        route("none", caption_given_masks=True)
    with pytest.raises(ValueError, match="given masks need no proposer"):
        route("masks", caption_given_masks=True, proposer="swint")


def test_without_weights_and_network_one_sentence_names_teacher_size_and_small_route(tmp_path):
    code = """
from anygrain.annotate.caption import BlipTeacher
from anygrain.annotate.detect import GroundingDinoTeacher
from anygrain.annotate.propose import SamTeacher
from anygrain.annotate.rank import ClipTeacher
for teacher in (SamTeacher(model="facebook/sam-vit-huge"), GroundingDinoTeacher(), BlipTeacher(), ClipTeacher()):
    for attempt in (teacher.version, lambda: teacher.load("cpu")):
        try:
            attempt()
        except ValueError as error:
            print(error)
"""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 8, "one line an attempt"
    for line, (name, size) in zip(
        lines[::2],
        [("sam-vit-huge", "2.6 GB"), ("grounding-dino-tiny", "690 MB"), ("blip-image-captioning-base", "990 MB"),
         ("clip-vit-base-patch16", "600 MB")],
        strict=True,
    ):  # fmt: skip
        assert line.startswith(f"the teacher {name} (")
        assert size in line
        assert "small teachers" in line


def test_the_step_in_the_docs_runs(given):
    """Ten lines, as promised, and what they do."""
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)[:1]
    names: dict = {}
    exec(code, names)
    lines = [line for line in code.split("class Largest")[1].splitlines() if line.strip()]
    assert len(lines) <= 12
    worker = Worker()
    (sample,) = names["Largest"](count=1)(given[:1], worker)
    assert len(sample.regions) == 1
    assert worker.drops == {("largest", "not among the largest"): 1}
