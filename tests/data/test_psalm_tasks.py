"""Each task of PSALM: the question's tokens, the masks and labels of its answer, on real photographs."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "train"))

from psalming import animal, facade, psalm_config, zoo

import tiny_psalm
from anygrain.data.mixture import MixtureConfig
from anygrain.data.psalm_batch import PSALMDataset, make_psalm_batch
from anygrain.data.psalm_marks import KINDS, draw_mark, new_mark
from anygrain.data.psalm_tasks import MAKE, PSALMBatchConfig, complete_categories
from anygrain.data.transforms import AugmentConfig, whole
from anygrain.models.psalm.prompts import IGNORE, REGION
from anygrain.types import Mask, Region

TOKENIZER = tiny_psalm.byte_tokenizer()
STILL = dataclasses.replace(PSALMBatchConfig(sentences=1).of_model(psalm_config(input_size=192)), queries=100)
FLIPPED = dataclasses.replace(STILL, augment=AugmentConfig(scale=(1.0, 1.0), flip=1.0, jitter=0.0))


def made(task, sample, seed=0, config=STILL):
    return MAKE[task](sample, config, np.random.default_rng(seed))


def question(task, *examples):
    batch = make_psalm_batch(task, examples, STILL)
    return batch, batch.questions(TOKENIZER)


def said(ids):
    return bytes(i for i in ids if 0 <= i < 256).decode()


def conditions(question):
    """What each condition says, by its number."""
    count = max(question.owner) + 1
    return [said(i for i, o in zip(question.ids, question.owner, strict=True) if o == n) for n in range(count)]


def seen(region):
    return whole(region.mask.size, 192).seen(region.mask.to_array())


def test_a_panoptic_answer_has_every_instance_under_its_name():
    sample = facade()
    example = made("panoptic", sample)
    _, ([asked], _) = question("panoptic", example)
    names = conditions(asked)
    assert names[-1] == "background"
    assert names[:-1] == sorted(names[:-1]) == sorted(complete_categories(sample))
    drawn = [(names[c], mask.sum()) for c, mask in zip(example.conditions, example.masks, strict=True)]
    truth = [(r.category, seen(r).sum()) for r in sample.regions if seen(r).sum() >= STILL.min_area]
    assert sorted(drawn) == sorted((name.replace("-", " "), area) for name, area in truth)
    assert example.image.shape == (192, 192, 3)
    assert not example.unknown.any()


def test_the_order_in_which_names_are_said_changes_no_target():
    one, two = (made("panoptic", facade(), seed) for seed in (1, 2))
    assert one.asked.order != two.asked.order
    assert one.asked.words == two.asked.words
    assert one.conditions == two.conditions
    assert np.array_equal(one.masks, two.masks)
    _, ([first, second], _) = question("panoptic", one, two)
    assert first.ids != second.ids
    assert conditions(first) == conditions(second)  # the numbers are those of the names, whenever they are said


def test_asked_for_fewer_names_what_is_shown_comes_first_and_the_rest_is_not_asked():
    few = dataclasses.replace(STILL, categories=2)
    example = made("panoptic", animal("dog", "dog", "a dog"), config=few)
    assert len(example.asked.words) == 2
    assert "dog" in example.asked.words
    assert example.conditions == (example.asked.words.index("dog"),)


def test_in_the_wording_for_semantic_things_of_a_name_are_one_mask():
    together = dataclasses.replace(STILL, semantic_ratio=1.0)
    example = made("panoptic", facade(), config=together)
    assert len(set(example.conditions)) == len(example.conditions)
    _, ([asked], _) = question("panoptic", example)
    assert "Please do Semantic Segmentation" in said(asked.ids)


def test_a_name_of_which_a_thing_has_no_mask_is_not_asked_at_all():
    sample = facade()
    boxed = Region(box=(1.0, 1.0, 9.0, 9.0), category="window")
    assert "window" not in complete_categories(dataclasses.replace(sample, regions=(*sample.regions, boxed)))
    crowd = Region(mask=sample.regions[0].mask, ignore=True)
    example = made("panoptic", dataclasses.replace(sample, regions=(*sample.regions, crowd)))
    assert np.array_equal(example.unknown, whole(sample.size, 192).place(seen(crowd), False))


def test_more_things_than_queries_leave_the_smallest_unknown():
    few = dataclasses.replace(STILL, queries=3)
    every, some = made("panoptic", facade()), made("panoptic", facade(), config=few)
    assert [mask.sum() for mask in some.masks] == [mask.sum() for mask in every.masks[:3]]
    assert some.unknown.sum() > 0


def test_a_mirrored_photo_has_mirrored_masks_and_sides():
    sample = animal("dog", "left_dog", "the dog on the left", exhaustive=frozenset({"left_dog"}))
    example = made("panoptic", sample, config=FLIPPED)
    assert example.asked.words == ("right dog",)
    straight = made("panoptic", sample)
    assert np.array_equal(example.masks[0], straight.masks[0][:, ::-1])
    assert np.array_equal(example.image[:, ::-1], straight.image)
    assert made("referring", sample, config=FLIPPED).asked.words == ("the dog on the right",)


def test_a_phrase_and_its_mask():
    sample = animal("dog", "dog", "the dog on the grass")
    example = made("referring", sample)
    batch, ([asked], _) = question("referring", example)
    assert conditions(asked) == [" the dog on the grass."]
    assert np.array_equal(
        batch.targets[0].masks[0].numpy() == 1, whole(sample.size, 192).place(seen(sample.regions[0]), False)
    )
    assert batch.targets[0].unknown is None


def test_all_sentences_of_a_thing_are_said_together_as_released():
    sample = animal("dog", "dog", "a dog")
    region = dataclasses.replace(sample.regions[0], captions=("a dog", "brown dog", "the pet"))
    example = made(
        "referring", dataclasses.replace(sample, regions=(region,)), config=dataclasses.replace(STILL, sentences=0)
    )
    assert sorted(example.asked.words) == ["a dog", "brown dog", "the pet"]


def test_a_phrase_that_means_nothing_has_no_mask():
    config = dataclasses.replace(STILL, absent_ratio=0.999)
    example = made("referring", zoo()[0], config=config)
    assert example.asked.words == ("the cat",)
    assert example.masks.shape == (0, 192, 192)
    assert example.conditions == ()


def test_a_phrase_is_made_where_nobody_wrote_one():
    example = made("referring", facade(), seed=3)
    assert len(example.asked.words) == 1
    assert example.masks[0].any()


def test_regions_are_marked_inside_their_masks_and_numbered_in_order():
    config = dataclasses.replace(STILL, regions=5)
    for seed in range(4):
        example = made("interactive", facade(), seed, config)
        batch, ([asked], _) = question("interactive", example)
        assert asked.ids.count(REGION) == len(example.marks) == len(example.masks) == 5
        assert example.conditions == (0, 1, 2, 3, 4)
        assert batch.marks.any((1, 2)).all()
        for mark, mask in zip(example.marks, example.masks, strict=True):
            assert (mark & mask).any()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_mark(kind):
    mask = seen(animal("dog", "dog", "").regions[0])
    mark = new_mark(kind, mask, 0.5, np.random.default_rng(0))
    rows, columns = np.nonzero(mask)
    box = np.zeros_like(mask)
    box[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
    if kind in ("box", "mask"):
        assert np.array_equal(mark, box if kind == "box" else mask)
    else:
        assert 0 < mark.sum() < mask.sum()
        assert (mark & mask).any()
    if kind == "point":  # the middle of its disc
        assert mask[tuple(np.argwhere(mark).mean(0).astype(int))]


def test_the_marks_of_a_data_set_are_used_thick_as_at_inference():
    sample = animal("dog", "dog", "")
    point = np.zeros(sample.size, bool)
    point[100, 200] = True
    region = dataclasses.replace(sample.regions[0], marks={"point": Mask.from_array(point)})
    view = whole(sample.size, max(sample.size))
    mark = draw_mark(region, region.mask.to_array(), view, np.random.default_rng(0))
    rows, columns = np.nonzero(mark)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (90, 110, 190, 210)


def test_a_chat_asks_only_for_its_answers():
    example = made("chat", zoo()[0])
    batch, ([asked], [labels]) = question("chat", example)
    assert batch.masks.shape[0] == 0
    text = said(asked.ids)
    assert "\n\n\nWhat animal is this? [/INST] It is a dog. [INST] Is it asleep? [/INST] No. " in text
    assert said(i for i in labels if i != IGNORE) == " It is a dog.  No. "
    assert all(label in (IGNORE, i) for i, label in zip(asked.ids, labels, strict=True))


def test_a_caption_alone_aligns_the_projector():
    example = made("caption", zoo()[1])
    _, ([asked], [labels]) = question("caption", example)
    assert said(asked.ids) == "A cat looks at the camera.\n"
    assert labels == (IGNORE, *asked.ids[1:])


def test_names_that_are_there_or_not_make_a_chat():
    words = made("chat", facade()).asked.words
    assert words[0].startswith("<image>\nIs there a") or words[0].startswith("<image>\nAre there ")
    assert set(words[1::2]) <= {"Yes.", "No."}
    for asked, answer in zip(words[::2], words[1::2], strict=True):
        assert ("dog" in asked) <= (answer == "No.")


def test_tasks_take_turns_one_a_batch_in_their_proportions():
    data = PSALMDataset({"zoo": zoo()}, MixtureConfig(), STILL, images=1, seed=0)
    tasks = [data[step].task for step in range(48)]
    assert min(tasks.count(task) for task in STILL.tasks) >= 6
    assert [data[step].task for step in range(5)] == tasks[:5]
    turns = [data.tasks.turn(step) for step in range(1024)]
    assert {task: sum(turn[0] == task for turn in turns) for task in STILL.tasks} == dict.fromkeys(STILL.tasks, 256)
    only = dataclasses.replace(STILL, tasks={"chat": 3.0, "referring": 1.0})
    turns = [
        PSALMDataset({"zoo": zoo()}, MixtureConfig(), only, images=1, seed=0).tasks.turn(i)[0] for i in range(1024)
    ]
    assert turns.count("chat") == 768


def test_processes_share_the_photos_of_a_step():
    whole_step = PSALMDataset({"zoo": zoo()}, MixtureConfig(), STILL, images=2, seed=0)
    parts = []
    for rank in range(2):
        part = PSALMDataset({"zoo": zoo()}, MixtureConfig(), STILL, images=2, seed=0)
        part.divide(rank, 2)
        parts.append(part[0])
    assert {part.task for part in parts} == {whole_step[0].task}
    assert parts[0].pixels.shape[0] == parts[1].pixels.shape[0] == 1
    with pytest.raises(ValueError, match="2 images a step cannot be shared among 3 processes"):
        whole_step.divide(0, 3)


def test_what_cannot_be_trained_is_one_sentence():
    with pytest.raises(ValueError, match="there is no task 'sing'"):
        PSALMBatchConfig(tasks={"sing": 1.0})
    with pytest.raises(ValueError, match="absent_ratio must be at least 0 and below 1"):
        PSALMBatchConfig(absent_ratio=1.0)
    silent = [dataclasses.replace(facade(), exhaustive=frozenset(), regions=())]
    with pytest.raises(ValueError, match="no source has anything for the task 'chat'"):
        PSALMDataset({"street": silent}, MixtureConfig(), PSALMBatchConfig(tasks={"chat": 1.0}), images=1, seed=0)
