"""Class lists: those of data sets, files, names between commas, and what is a thing."""

import pytest

from anygrain.categories import LISTS, categories, guess_thing

COUNTS = {
    "coco": (133, 80), "coco80": (80, 80), "ade20k": (150, 100), "cityscapes": (19, 8), "pascal20": (20, 20),
    "pascal_context59": (59, None), "pascal_context459": (459, None),
}  # fmt: skip


@pytest.mark.parametrize("name", LISTS)
def test_a_shipped_list_has_its_size_and_names_its_source(name):
    found = categories(name)
    total, things = COUNTS[name]
    assert len(found.names) == len(set(found.names)) == total
    assert len(set(found.ids)) == total
    if things is not None:
        assert sum(found.things) == things
    from anygrain.categories import _FOLDER

    remarks = [line for line in (_FOLDER / f"{name}.txt").read_text().splitlines() if line.startswith("#")]
    assert remarks[1].startswith("# Source: ")


def test_ids_are_those_of_the_data_sets():
    coco = categories("coco").id_of
    assert (coco["person"], coco["toothbrush"], coco["banner"], coco["rug-merged"]) == (1, 90, 92, 200)
    assert categories("coco80").names == categories("coco").names[:80]
    assert categories("ade20k").id_of["flag"] == 150
    assert categories("cityscapes").id_of["train"] == 31


def test_stuff_of_ade20k_is_that_of_its_panoptic_form():
    """The zeros of ``isthing`` in Mask2Former's register_ade20k_panoptic.py, counted from 1."""
    found = categories("ade20k")
    stuff = [number for number, thing in zip(found.ids, found.things, strict=True) if not thing]
    assert stuff == [
        1, 2, 3, 4, 5, 6, 7, 10, 12, 14, 17, 18, 22, 26, 27, 29, 30, 35, 41, 47, 49, 52, 53, 55, 60, 61, 62, 64, 69, 78,
        80, 85, 92, 95, 97, 100, 101, 102, 106, 107, 110, 114, 115, 118, 123, 129, 132, 141, 142, 146,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "thing"),
    [
        ("person", True), ("sky", False), ("brick wall", False), ("the garden wall", False), ("Road", False),
        ("a strange machine", True), ("wall,walls,brick wall", False), ("dining table", True), ("grass", False),
        ("skyscraper", False), ("chandelier", True), ("rider", True), ("terrain", False),
    ],
)  # fmt: skip
def test_things_are_guessed_by_the_lists_that_know(name, thing):
    assert guess_thing(name) is thing


def test_names_between_commas_and_in_files(tmp_path):
    found = categories(" dog , the sky,car")
    assert found.names == ("dog", "the sky", "car")
    assert found.ids == (1, 2, 3)
    assert found.things == (True, False, True)
    file = tmp_path / "mine.txt"
    file.write_text("\ufeff# remark\ndog\n\n30\tsky\n40\tblob\tstuff\n", encoding="utf-8")
    assert categories(str(file)).ids == (1, 30, 40)
    assert categories(str(file)).things == (True, False, False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\tb", "line 1: give a name, or id, name"),
        ("x\n1\tb\tmaybe", "line 2: give a name"),
        ("# only a remark\n", "names no category"),
        ("dog\ndog\n", "has the name 'dog' twice"),
        ("5\tdog\n5\tcat\n", "has the id '5' twice"),
    ],
)
def test_a_fault_in_a_list_is_named(tmp_path, text, message):
    file = tmp_path / "mine.txt"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        categories(str(file))


def test_a_list_that_is_not_there_or_no_text_is_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no file"):
        categories(str(tmp_path / "none.txt"))
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not text in UTF-8"):
        categories(str(tmp_path / "binary.txt"))
