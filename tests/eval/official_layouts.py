"""Public data sets of two photographs each in their official forms: something for every benchmark to run on."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from anygrain.types import Mask

NUMBERS = (139, 285)


def png(index, dtype=np.uint8) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.asarray(index).astype(dtype)).save(out, "PNG")
    return out.getvalue()


class Official:
    """Writes the sets into folders of ``root`` that have their names.

    The photographs are shrunk; a left half, a square in it, and the rest are the truth.
    """

    def __init__(self, root: Path, photos: Path, height: int = 48):
        self.root = root
        self.images, self.halves, self.squares = [], [], []
        for name in ("dog", "kite"):
            image = Image.open(photos / f"{name}.jpg").convert("RGB")
            image = image.resize((round(image.width * height / image.height), height))
            out = io.BytesIO()
            image.save(out, "JPEG", quality=90)
            self.images.append(out.getvalue())
            half, square = np.zeros((height, image.width), bool), np.zeros((height, image.width), bool)
            half[:, : image.width // 2], square[10:30, 8:24] = True, True
            self.halves.append(half)
            self.squares.append(square)

    def put(self, path: str, content: object) -> None:
        """Bytes, text, or anything else as JSON."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if not isinstance(content, bytes):
            content = (content if isinstance(content, str) else json.dumps(content)).encode()
        file.write_bytes(content)

    def each(self):
        """Number, JPEG, left half and square in it."""
        return zip(NUMBERS, self.images, self.halves, self.squares, strict=True)

    def index(self, rest: int, half: int, square: int):
        """Label maps [H, W] of the photographs."""
        return [np.where(s, square, np.where(h, half, rest)) for h, s in zip(self.halves, self.squares, strict=True)]

    def coco_table(self, names, **more):
        """A COCO JSON: the half is of the first category, the square of the second, and a crowd of the first."""
        table = {"images": [], "annotations": [], "categories": names}
        for number, _, half, square in self.each():
            entry = {"id": number, "file_name": f"{number:012d}.jpg", "height": half.shape[0], "width": half.shape[1]}
            table["images"].append(entry | {key: value(number) for key, value in more.items()})
            for place, mask in enumerate((half & ~square, square)):
                code = Mask.from_array(mask).to_coco()
                row = {"id": 10 * number + place, "image_id": number, "segmentation": code, "iscrowd": 0}
                table["annotations"].append(row | {"category_id": names[place]["id"]})
        crowd = np.zeros_like(half)
        crowd[:4, -6:] = True
        row = {"id": 999, "image_id": number, "category_id": names[0]["id"], "iscrowd": 1}
        table["annotations"].append(row | {"segmentation": Mask.from_array(crowd).to_coco()})
        return table

    def coco(self) -> None:
        """Instances, instances with marks, panoptic, COCO-Stuff."""
        names = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]
        instances = self.coco_table(names)
        self.put("coco/annotations/instances_val2017.json", instances)
        kinds = ("point", "scribble", "box", "mask")
        records = []
        for entry in instances["images"]:
            own = [row for row in instances["annotations"] if row["image_id"] == entry["id"]]
            marked = [row | {f"{kind}_visual_prompt_mask": row["segmentation"] for kind in kinds} for row in own]
            records.append({"image": entry["file_name"], "image_info": entry, "anns": marked})
        self.put("coco/coco_interactive_val_psalm.json", records)
        for number, jpeg, *_ in self.each():
            self.put(f"llava/coco/train2017/{number:012d}.jpg", jpeg)
        turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "An animal."}]
        files = [f"coco/train2017/{number:012d}.jpg" for number in NUMBERS]
        chats = [{"id": file, "image": file, "conversations": turns} for file in files]
        self.put("llava/llava_v1_5_mix665k.json", chats)
        kinds = [("person", 1, 1), ("dog", 18, 1), ("sky-other-merged", 187, 0)]
        table = {"images": [], "annotations": []}
        table["categories"] = [{"id": n, "name": name, "isthing": thing} for name, n, thing in kinds]
        for number, jpeg, half, square in self.each():
            self.put(f"coco/val2017/{number:012d}.jpg", jpeg)
            ids = np.where(square, 70000, np.where(half, 5, 0))
            ids[:, -10:] = 3226956
            rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1)
            self.put(f"coco/annotations/panoptic_val2017/{number:012d}.png", png(rgb))
            segments = [
                {"id": segment, "category_id": category, "iscrowd": 0}
                for segment, category in ((5, 1), (70000, 18), (3226956, 187))
            ]
            file = {"image_id": number, "file_name": f"{number:012d}.png", "segments_info": segments}
            table["images"].append({"id": number, "file_name": f"{number:012d}.jpg"})
            table["annotations"].append(file)
        self.put("coco/annotations/panoptic_val2017.json", table)
        for number, index in zip(NUMBERS, self.index(255, 0, 17), strict=True):
            self.put(f"coco/stuffthingmaps_trainval2017/val2017/{number:012d}.png", png(index))

    def lvis_and_paco(self) -> None:
        """The images of COCO, by address and by name."""
        names = [{"id": 1, "name": "dog", "supercategory": "OBJECT"}]
        names.append({"id": 9, "name": "dog:ear", "supercategory": "PART"})
        url = "http://images.cocodataset.org/val2017/{:012d}.jpg"
        more = {"coco_url": url.format, "neg_category_ids": lambda _: [], "not_exhaustive_category_ids": lambda _: []}
        self.put("coco/lvis_v1_val.json", self.coco_table(names, **more))
        self.put("coco/annotations/paco_lvis_v1_test.json", self.coco_table(names, **more))

    def partimagenet(self) -> None:
        """Parts of a quadruped."""
        names = [{"id": 0, "name": "Quadruped Body"}, {"id": 1, "name": "Quadruped Head"}]
        self.put("partimagenet/test.json", self.coco_table(names))
        for number, jpeg, *_ in self.each():
            self.put(f"partimagenet/test/{number:012d}.jpg", jpeg)

    def ade20k(self) -> None:
        """13 categories in the form of the 150, and 3 in that of the 847."""
        rows = ["Idx\tRatio\tTrain\tVal\tName", *(f"{n}\t0\t0\t0\tthing {n}" for n in range(1, 14))]
        self.put("ade20k_150/objectInfo150.txt", "\n".join(rows))
        listed = [{"name": name, "id": 9, "trainId": n} for n, name in enumerate(("wall", "bank, building", "bank"))]
        self.put(
            "ade20k_847/prepare_ade20k_full_sem_seg.py", f"import cv2\nADE20K_SEM_SEG_FULL_CATEGORIES = {listed}\n"
        )
        small, large = self.index(0, 1, 12), self.index(65535, 1, 2)
        for (number, jpeg, *_), few, many in zip(self.each(), small, large, strict=True):
            name = f"ADE_val_{number:08d}"
            self.put(f"ade20k_150/images/validation/{name}.jpg", jpeg)
            self.put(f"ade20k_150/annotations/validation/{name}.png", png(few))
            self.put(f"ade20k_847/images_detectron2/validation/{name}.jpg", jpeg)
            out = io.BytesIO()
            Image.fromarray(many.astype(np.uint16)).save(out, "TIFF")
            self.put(f"ade20k_847/annotations_detectron2/validation/{name}.tif", out.getvalue())

    def pascal(self) -> None:
        """VOC 2012, PASCAL-Context, PASCAL-Part."""
        from scipy.io import savemat

        part = np.dtype([("part_name", object), ("mask", object)])
        thing = np.dtype([("class", object), ("class_ind", object), ("mask", object), ("parts", object)])
        self.put("VOCdevkit/labels.txt", "".join(f"{n}: thing {n}\n" for n in range(1, 9)))
        self.put("VOCdevkit/59_labels.txt", "".join(f"{n}: thing {n}\n" for n in range(2, 5)))
        for folder in ("trainval", "Annotations_Part"):
            (self.root / "VOCdevkit" / folder).mkdir(parents=True)
        maps = zip(self.each(), self.index(0, 15, 12), self.index(0, 1, 2), self.index(8, 2, 3), strict=True)
        for (number, jpeg, half, square), classes, objects, context in maps:
            name = f"2008_{number:06d}"
            self.put(f"VOCdevkit/VOC2012/JPEGImages/{name}.jpg", jpeg)
            self.put(f"VOCdevkit/VOC2010/JPEGImages/{name}.jpg", jpeg)
            classes[:2] = objects[:2] = 255
            self.put(f"VOCdevkit/VOC2012/SegmentationClass/{name}.png", png(classes))
            self.put(f"VOCdevkit/VOC2012/SegmentationObject/{name}.png", png(objects))
            savemat(self.root / "VOCdevkit" / "trainval" / f"{name}.mat", {"LabelMap": context.astype(np.uint16)})
            head = np.array([[("head", square.astype(np.uint8))]], part)
            row = [("dog", 12, half.astype(np.uint8), head)]
            anno = np.array([[(name, np.array([row], thing))]], [("imname", object), ("objects", object)])
            savemat(self.root / "VOCdevkit" / "Annotations_Part" / f"{name}.mat", {"anno": anno})
        names = "".join(f"2008_{number:06d}\n" for number in NUMBERS)
        for place in (
            "VOC2012/ImageSets/Segmentation",
            "VOC2010/ImageSets/SegmentationContext",
            "VOC2010/ImageSets/Main",
        ):
            self.put(f"VOCdevkit/{place}/val.txt", names)

    def cityscapes(self) -> None:
        """Road, a car of its own, and a group of cars."""
        maps = zip(self.each(), self.index(7, 26, 26), self.index(7, 26, 26000), strict=True)
        for (number, jpeg, *_), labels, numbers in maps:
            name = f"lindau/lindau_000000_{number:06d}"
            picture = np.asarray(Image.open(io.BytesIO(jpeg)))
            self.put(f"cityscapes/leftImg8bit/val/{name}_leftImg8bit.png", png(picture))
            self.put(f"cityscapes/gtFine/val/{name}_gtFine_labelIds.png", png(labels))
            self.put(f"cityscapes/gtFine/val/{name}_gtFine_instanceIds.png", png(numbers, np.uint16))

    def video(self) -> None:
        """DAVIS 2017 with the texts of Ref-DAVIS, and MeViS."""
        index = [np.where(s, 2, np.where(h, 1, 0))[:, :60] for h, s in zip(self.halves, self.squares, strict=True)]
        frames = []
        for number, jpeg in enumerate(self.images):
            out = io.BytesIO()
            Image.open(io.BytesIO(jpeg)).crop((0, 0, 60, 48)).save(out, "JPEG")
            frames.append(out.getvalue())
            for root in ("davis2017", "ref_davis/DAVIS"):
                self.put(f"{root}/JPEGImages/480p/bear/{number:05d}.jpg", frames[-1])
                self.put(f"{root}/Annotations/480p/bear/{number:05d}.png", png(index[number]))
                self.put(f"{root}/ImageSets/2017/val.txt", "bear\n")
            self.put(f"mevis/valid_u/JPEGImages/v/{number:05d}.jpg", frames[-1])
        for name in ("annot1", "annot1_full_video", "annot2", "annot2_full_video"):
            self.put(f"ref_davis/davis_text_annotations/Davis17_{name}.txt", 'bear 1 "a bear"\nbear 2 "its face"\n')
        said = {"0": {"exp": "the one that moves", "obj_id": [0], "anno_id": [7]}}
        video = {"expressions": said, "vid_id": 1, "frames": ["00000", "00001"]}
        self.put("mevis/valid_u/meta_expressions.json", {"videos": {"v": video}})
        self.put("mevis/valid_u/mask_dict.json", {"7": [Mask.from_array(m == 2).to_coco() for m in index]})

    def refer(self) -> None:
        """RefCOCO, RefCOCO+, both RefCOCOg, gRefCOCO."""
        import pickle

        table, refs, groups = self.coco_table([{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]), [], []
        for entry, (number, jpeg, *_) in zip(table["images"], self.each(), strict=True):
            entry["file_name"] = f"COCO_train2014_{number:012d}.jpg"
            self.put(f"refer/images/train2014/{entry['file_name']}", jpeg)
            said = [{"tokens": [], "raw": text, "sent_id": 0, "sent": text} for text in ("the left", "a half")]
            base = {"ref_id": number, "image_id": number, "split": "val", "sentences": said, "category_id": 1}
            refs.append(base | {"ann_id": 10 * number})
            groups += [base | {"ann_id": [10 * number, 10 * number + 1], "no_target": False}]
            groups += [base | {"ann_id": [-1], "no_target": True, "ref_id": number + 1}]
        for name in ("refcoco/refs(unc).p", "refcoco+/refs(unc).p", "refcocog/refs(umd).p", "refcocog/refs(google).p"):
            self.put(f"refer/{name}", pickle.dumps(refs))
            self.put(f"refer/{Path(name).parent}/instances.json", table)
        self.put("refer/grefcoco/grefs(unc).json", groups)
        self.put("refer/grefcoco/instances.json", table)

    def others(self) -> None:
        """PhraseCut, LIP, the salient sets, SA-1B."""
        tasks = []
        for number, jpeg, half, square in self.each():
            self.put(f"phrasecut/VGPhraseCut_v0/images/{number}.jpg", jpeg)
            corners = [[8, 10], [24, 10], [24, 30], [8, 30]]
            task = {"task_id": f"{number}__1", "image_id": number, "Polygons": [[corners]], "phrase": "a square"}
            tasks.append(task | {"phrase_structure": {"name": "square", "attributes": [], "relation_descriptions": []}})
            self.put(f"lip/val_images/{number}.jpg", jpeg)
            self.put(f"lip/TrainVal_parsing_annotations/val_segmentations/{number}.png", png(half * 2 + square * 3))
            annotations = [
                {"id": place, "segmentation": Mask.from_array(mask).to_coco(), "predicted_iou": 0.9}
                | {"stability_score": 0.95}
                for place, mask in enumerate((half, square))
            ]
            entry = {"file_name": f"sa_{number}.jpg", "height": half.shape[0], "width": half.shape[1]}
            self.put(f"sa1b/sa_{number}.json", {"image": entry, "annotations": annotations})
            self.put(f"sa1b/sa_{number}.jpg", jpeg)
        self.put("phrasecut/VGPhraseCut_v0/refer_test.json", tasks)
        self.put("lip/val_id.txt", "".join(f"{number}\n" for number in NUMBERS))
        self.salient()

    def salient(self) -> None:
        """Each set in the first of its layouts."""
        from anygrain.data.readers.saliency_sets import LAYOUTS

        for name, splits in LAYOUTS.items():
            images, masks = splits["test"][0]
            for number, jpeg, _, square in self.each():
                self.put(f"{name}/{images}/{number}.jpg", jpeg)
                self.put(f"{name}/{masks}/{number}.png", png(square * 255))

    def only_for_training(self) -> None:
        """SBD, Objects365, ImageNet, DAVIS 2016, Ref-YouTube-VOS, the google splits: no benchmark is run on them."""
        from scipy.io import savemat

        self.put("sbd/train.txt", "".join(f"2008_{number:06d}\n" for number in NUMBERS))
        (self.root / "sbd" / "inst").mkdir()
        names, frames = [{"id": 1, "name": "Person"}, {"id": 2, "name": "Dog"}], [f"{n:05d}" for n in (0, 5)]
        table = self.coco_table(names)
        for row in table["annotations"]:
            del row["segmentation"]
            row["bbox"] = [2, 3, 20, 10]
        for entry, (number, jpeg, _, square), frame in zip(table["images"], self.each(), frames, strict=True):
            self.put(f"sbd/img/2008_{number:06d}.jpg", jpeg)
            truth = {"Segmentation": square.astype(np.uint8), "Categories": np.array([[12]])}
            savemat(self.root / "sbd" / "inst" / f"2008_{number:06d}.mat", {"GTinst": truth})
            entry["file_name"] = f"images/v1/patch0/{number}.jpg"
            self.put(f"objects365/train/patch0/{number}.jpg", jpeg)
            self.put(f"imagenet/train/n02085620/n02085620_{number}.JPEG", jpeg)
            for image, mask in (
                ("davis2016/JPEGImages/480p", "davis2016/Annotations/480p"),
                ("ref_youtube_vos/train/JPEGImages", "ref_youtube_vos/train/Annotations"),
            ):
                self.put(f"{image}/v{number}/{frame}.jpg", jpeg)
                self.put(f"{mask}/v{number}/{frame}.png", png(square))
        self.put("objects365/zhiyuan_objv2_train.json", table)
        self.put("imagenet/LOC_synset_mapping.txt", "n02085620 Chihuahua\n")
        self.put("davis2016/ImageSets/2016/train.txt", "".join(f"v{number}\n" for number in NUMBERS))
        said = {"0": {"exp": "the square", "obj_id": "1"}}
        pairs = zip(NUMBERS, frames, strict=True)
        videos = {f"v{number}": {"expressions": said, "frames": [frame]} for number, frame in pairs}
        self.put("ref_youtube_vos/meta_expressions/train/meta_expressions.json", {"videos": videos})
        for name in ("refcoco", "refcoco+"):
            refs = (self.root / "refer" / name / "refs(unc).p").read_bytes()
            self.put(f"refer/{name}/refs(google).p", refs)

    def everything(self) -> Path:
        """All of them; returns the folder."""
        for write in (self.coco, self.lvis_and_paco, self.partimagenet, self.ade20k, self.pascal, self.cityscapes):
            write()
        for write in (self.video, self.refer, self.others, self.only_for_training):
            write()
        return self.root
