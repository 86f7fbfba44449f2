"""Two photos of nested things in the official layout of each data set that Semantic-SAM is trained on."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from anygrain.types import Mask
from layouts import Layouts, box_mask, jpeg

SIZE = (48, 64)
HOUSE, CAR, WHEEL, HUB = 1, 2, 3, 4
NDX = {HOUSE: 1145, CAR: 401, WHEEL: 2978, HUB: 1251}  # of the names in ADE20K's index


def masks(number: int) -> dict[int, np.ndarray]:
    """Whole masks of a house, a car before it, its wheel and the wheel's hub."""
    x, y = 3 * number, 2 * number
    boxes = {HOUSE: (2, 2, 50, 40), CAR: (8, 14, 44, 36), WHEEL: (12, 24, 24, 36), HUB: (16, 28, 20, 32)}
    return {name: box_mask(SIZE, x0 + x, y0 + y, x1 + x, y1 + y) for name, (x0, y0, x1, y1) in boxes.items()}


def png(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(array.astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def rle(mask: np.ndarray) -> dict:
    return Mask.from_array(mask).to_coco()


def sa1b(files: Layouts) -> None:
    """The tar as it is published."""
    (files.root / "sa1b").mkdir(parents=True)
    with tarfile.open(files.root / "sa1b" / "sa_000020.tar", "w") as tar:
        for number in range(2):
            annotations = [
                {"id": 10 * number + name, "segmentation": rle(mask), "predicted_iou": 0.9, "stability_score": 0.97}
                for name, mask in masks(number).items()
            ]
            entry = {"image_id": number, "height": 48, "width": 64, "file_name": f"sa_{number}.jpg"}
            record = json.dumps({"image": entry, "annotations": annotations}).encode()
            for name, content in ((f"./sa_{number}.jpg", jpeg(*SIZE, number)), (f"./sa_{number}.json", record)):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def coco_table(files: Layouts, names: dict[int, str], file_name: str, **category) -> dict:
    """Instances of two images; ``file_name`` holds the image's number."""
    table: dict = {"images": [], "annotations": [], "categories": []}
    table["categories"] = [{"id": number, "name": name, **category} for number, name in names.items()]
    for number in range(2):
        table["images"].append({"id": number, "height": 48, "width": 64, "file_name": file_name.format(number)})
        table["annotations"] += [
            {"id": 10 * number + n, "image_id": number, "category_id": n, "segmentation": rle(mask), "iscrowd": 0}
            for n, mask in masks(number).items()
            if n in names
        ]
    return table


def coco_instances(files: Layouts) -> None:
    table = coco_table(files, {HOUSE: "house", CAR: "car"}, "{:012}.jpg")
    files.put("coco/annotations/instances_train2017.json", table)
    coco_images(files, "coco")


def coco_images(files: Layouts, root: str) -> None:
    for number in range(2):
        files.jpeg(f"{root}/train2017/{number:012}.jpg", *SIZE, number)


def panoptic(files: Layouts, root: str, stem: str, photo: str, photos: str) -> None:
    """COCO panoptic's form: the house is stuff, the car a thing."""
    categories = [{"id": HOUSE, "name": "house", "isthing": 0}, {"id": CAR, "name": "car", "isthing": 1}]
    table: dict = {"images": [], "annotations": [], "categories": categories}
    for number in range(2):
        whole, name = masks(number), photo.format(number)
        ids = np.where(whole[CAR], 70000, np.where(whole[HOUSE], 5, 0))
        files.put(f"{root}/{stem}/{name}.png", png(np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1)))
        files.jpeg(f"{root}/{photos}/{name}.jpg", *SIZE, number)
        table["images"].append({"id": name, "file_name": f"{name}.jpg", "height": 48, "width": 64})
        segments = [{"id": 5, "category_id": HOUSE, "iscrowd": 0}, {"id": 70000, "category_id": CAR, "iscrowd": 0}]
        table["annotations"].append({"image_id": name, "file_name": f"{name}.png", "segments_info": segments})
    files.put(f"{root}/{stem}.json", table)


def coco_panoptic(files: Layouts) -> None:
    panoptic(files, "coco_panoptic", "panoptic_train2017", "{:012}", "train2017")


def ade20k_panoptic(files: Layouts) -> None:
    root = "ade20k_panoptic/ADEChallengeData2016"
    panoptic(files, root, "ade20k_panoptic_train", "ADE_train_{:08}", "images/training")


def ade20k_150(files: Layouts) -> None:
    root = "ade20k_150/ADEChallengeData2016"
    names = ["house, home", "car, auto", *(f"thing{n}" for n in range(3, 151))]
    rows = ["Idx\tRatio\tTrain\tVal\tStuff\tName", *(f"{n}\t0\t1\t1\t1\t{name}" for n, name in enumerate(names, 1))]
    files.put(f"{root}/objectInfo150.txt", "\n".join(rows) + "\n")
    for number in range(2):
        whole = masks(number)
        index = np.where(whole[CAR], 2, np.where(whole[HOUSE], 1, 0))
        files.put(f"{root}/annotations/training/ADE_train_{number:08}.png", png(index))
        files.jpeg(f"{root}/images/training/ADE_train_{number:08}.jpg", *SIZE, number)


def ade20k_full(files: Layouts) -> None:
    """Levels of parts in maps of their own; instance masks show what is hidden too: here the house behind the car."""
    names = {HOUSE: "house, home", CAR: "car, auto, automobile", WHEEL: "wheel", HUB: "hub, centre"}
    for number in range(2):
        whole, stem = masks(number), f"ADE_train_{number:08}"
        root = f"ade20k_full/ADE20K_2021_17_01/images/ADE/training/urban/street/{stem}"
        maps = [np.where(whole[CAR], NDX[CAR], np.where(whole[HOUSE], NDX[HOUSE], 0))]
        maps += [np.where(whole[name], NDX[name], 0) for name in (WHEEL, HUB)]
        things = []
        for name, mask in whole.items():
            level = max(0, name - CAR)
            parts = {"hasparts": [], "ispartof": name - 1 if level else [], "part_level": level}
            file = f"{stem}/instance_{name:03}_{stem}.png"
            files.put(f"{root}/instance_{name:03}_{stem}.png", png(mask * 255))
            things.append({"id": name, "name": names[name], "name_ndx": NDX[name], "parts": parts})
            things[-1] |= {"instance_mask": file, "raw_name": "x", "crop": "0", "occluded": [], "attributes": []}
        for level, index in enumerate(maps):
            suffix = f"_parts_{level}.png" if level else "_seg.png"
            files.put(root + suffix, png(np.stack([index // 256 * 10, index % 256, index % 7], -1)))
        entry = {"filename": f"{stem}.jpg", "imsize": [48, 64, 3], "source": {"origin": "caf\xe9"}, "object": things}
        files.put(f"{root}.json", json.dumps({"annotation": entry}, ensure_ascii=False).encode("latin-1"))
        files.jpeg(f"{root}.jpg", *SIZE, number)


def objects365(files: Layouts) -> None:
    names = {HOUSE: "House", CAR: "Car"}
    table = coco_table(files, names, "images/v1/patch0/objects365_v1_{:08}.jpg")
    for annotation in table["annotations"]:
        x0, y0, x1, y1 = Mask.from_coco(annotation.pop("segmentation"), SIZE).box
        annotation |= {"bbox": [x0, y0, x1 - x0, y1 - y0], "isfake": 0}
    files.put("objects365/zhiyuan_objv2_train.json", table)
    for number in range(2):
        files.jpeg(f"objects365/train/patch0/objects365_v1_{number:08}.jpg", *SIZE, number)


def lvis(files: Layouts) -> None:
    table = coco_table(files, {HOUSE: "house", CAR: "car_(automobile)", WHEEL: "wheel"}, "")
    for number, entry in enumerate(table["images"]):
        entry.pop("file_name")
        entry |= {"coco_url": f"http://images.cocodataset.org/train2017/{number:012}.jpg"}
        entry |= {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    files.put("lvis/lvis_v1_train.json", table)
    coco_images(files, "lvis")


def paco(files: Layouts) -> None:
    table = coco_table(files, {CAR: "car_(automobile)", WHEEL: "car_(automobile):wheel"}, "train2017/{:012}.jpg")
    for category in table["categories"]:
        category["supercategory"] = "PART" if ":" in category["name"] else "OBJECT"
    files.put("paco/annotations/paco_lvis_v1_train.json", table)
    coco_images(files, "paco")


def pascal_part(files: Layouts) -> None:
    from scipy.io import savemat

    part = np.dtype([("part_name", object), ("mask", object)])
    thing = np.dtype([("class", object), ("class_ind", object), ("mask", object), ("parts", object)])
    root = files.root / "pascal_part"
    (root / "Annotations_Part").mkdir(parents=True)
    for number in range(2):
        whole = {name: mask.astype(np.uint8) for name, mask in masks(number).items()}
        parts = np.array([[("fwheel", whole[WHEEL]), ("bliplate", whole[HUB])]], part)
        anno = np.array(
            [[("x", np.array([[("car", 7, whole[CAR], parts)]], thing))]], [("a", object), ("objects", object)]
        )
        savemat(root / "Annotations_Part" / f"2008_{number:06}.mat", {"anno": anno})
        files.jpeg(f"pascal_part/VOCdevkit/VOC2010/JPEGImages/2008_{number:06}.jpg", *SIZE, number)
    files.put("pascal_part/VOCdevkit/VOC2010/ImageSets/Main/train.txt", "2008_000000\n2008_000001\n")


def partimagenet(files: Layouts) -> None:
    names = {CAR: "Car Body", WHEEL: "Car Tier"}
    files.put("partimagenet/train.json", coco_table(files, names, "n02085620_{}.JPEG"))
    for number in range(2):
        files.jpeg(f"partimagenet/train/n02085620/n02085620_{number}.JPEG", *SIZE, number)


KINDS = {
    "masks": (sa1b,),
    "objects": (coco_instances, coco_panoptic, ade20k_150, ade20k_panoptic, lvis),
    "boxes": (objects365,),
    "parts": (ade20k_full, paco, pascal_part, partimagenet),
}
"""What each data set teaches: masks without names, with names of objects, boxes with names, or objects and parts."""


def write_all(root: Path) -> None:
    """Every set in a folder of its name under ``root``."""
    for writers in KINDS.values():
        for write in writers:
            write(Layouts(root))
