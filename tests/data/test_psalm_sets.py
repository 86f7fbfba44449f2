"""COCO-Interactive and LLaVA in their official layouts."""

import numpy as np
import pytest

from anygrain.data.datasets import read_dataset
from anygrain.data.formats import from_record, to_record
from anygrain.types import Mask
from layouts import box_mask

SIZE = (40, 60)
BODY = box_mask(SIZE, 10, 5, 30, 35)


def rle(array):
    return Mask.from_array(array).to_coco()


@pytest.fixture
def interactive(layouts):
    """An instance with three marks and an empty scribble, and a crowd: as bulid_COCO_Interactivate.py writes them."""
    layouts.jpeg("val2017/000000000139.jpg", *SIZE)
    point = box_mask(SIZE, 20, 20, 21, 21)
    body = {
        "id": 7, "image_id": 139, "category_id": 18, "iscrowd": 0, "area": 600, "bbox": [10, 5, 20, 30],
        "segmentation": [[10, 5, 30, 5, 30, 35, 10, 35]],
        "point_visual_prompt_mask": rle(point),
        "mask_visual_prompt_mask": rle(BODY),
        "box_visual_prompt_mask": rle(box_mask(SIZE, 9, 4, 31, 36)),
        "scribble_visual_prompt_mask": rle(np.zeros(SIZE, bool)),
    }  # fmt: skip
    crowd = {**body, "id": 8, "iscrowd": 1, "category_id": 1, "segmentation": rle(box_mask(SIZE, 40, 0, 60, 9))}
    info = {"id": 139, "file_name": "000000000139.jpg", "height": 40, "width": 60}
    entry = {"image": "000000000139.jpg", "image_info": info, "new_img_id": 0, "anns": [body, crowd]}
    layouts.put("coco_interactive_val_psalm.json", [entry])
    return layouts


def test_coco_interactive_has_masks_and_their_marks(interactive):
    (sample,) = read_dataset("coco_interactive", interactive.root, "val")
    dog, crowd = sample.regions
    assert (sample.id, dog.category, dog.instance, dog.ignore) == ("coco_interactive/000000000139", "dog", 7, False)
    assert np.array_equal(dog.mask.to_array(), BODY)
    assert [kind for kind, mark in dog.marks.items() if mark.area] == ["point", "box", "mask"]
    assert np.argwhere(dog.marks["point"].to_array()).tolist() == [[20, 20]]
    assert (crowd.category, crowd.ignore) == ("person", True)
    assert len(sample.exhaustive) == 80
    assert from_record(to_record(sample), sample.image) == sample


def test_coco_interactive_of_another_size_is_refused(interactive):
    interactive.jpeg("val2017/000000000139.jpg", 20, 20)
    with pytest.raises(ValueError, match=r"the image is \(20, 20\)"):
        list(read_dataset("coco_interactive", interactive.root, "val"))


def said(number, image, *texts):
    turns = [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(texts)]
    return {"id": number, **({"image": image} if image else {}), "conversations": turns}


@pytest.fixture
def llava(layouts):
    layouts.jpeg("coco/train2017/000000033471.jpg", *SIZE)
    layouts.jpeg("gqa/images/2354786.jpg", 30, 30)
    records = [
        said("000000033471", "coco/train2017/000000033471.jpg", "<image>\nWhat colour?", "Red.", "And size?", "Small."),
        said("wgByO4Y_0", None, "Write a poem.", "Roses are red."),
        said("2354786", "gqa/images/2354786.jpg", 'Is it "new"?\n<image>', "Yes"),
        said("000000033471", "coco/train2017/000000033471.jpg", "<image>\nA bus?", "Yes."),
    ]
    layouts.put("llava_v1_5_mix665k.json", records)
    return layouts


def test_llava_gives_every_image_all_that_is_said_of_it(llava):
    bus, other = read_dataset("llava", llava.root, "finetune")
    assert bus.id == "llava/coco/train2017/000000033471"
    assert bus.chats == (
        (("<image>\nWhat colour?", "Red."), ("And size?", "Small.")),
        (("<image>\nA bus?", "Yes."),),
    )
    assert other.size == (30, 30)
    assert from_record(to_record(bus), bus.image) == bus


def test_llava_s_captions_for_the_first_stage(layouts):
    layouts.jpeg("LLaVA-Pretrain/images/00453/004539375.jpg", *SIZE)
    records = [said("004539375", "00453/004539375.jpg", "Give a brief description.\n<image>", "a bed with pillows")]
    layouts.put("LLaVA-Pretrain/blip_laion_cc_sbu_558k.json", records)
    (sample,) = read_dataset("llava", layouts.root, "pretrain")
    assert sample.chats == ((("Give a brief description.\n<image>", "a bed with pillows"),),)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (
            said("x", "coco/train2017/000000033471.jpg", "only a question"),
            "conversation 'x': expected human and gpt in turn",
        ),
        (said("x", "coco/gone.jpg", "<image>", "Yes."), r"gone\.jpg: not found; expected an image that llava"),
    ],
)
def test_llava_with_a_fault_names_it(llava, record, message):
    llava.put("llava_v1_5_mix665k.json", [record])
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        list(read_dataset("llava", llava.root, "finetune"))
