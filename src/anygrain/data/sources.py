"""The sources of the small model's data: for each its reader, its splits, and what its README lets us claim.

Two things about the masks hold for all. Sets that were flattened large to small (coco, facade, clothing and every
semantic set) give each pixel to the smallest thing there, so a whole has holes where its parts, or what it wears or
carries, are labelled: facade's "facade" is the wall without its windows. The sets added later overlap: a plate in food
contains its food. And a category counts as exhaustive only where its absence is certain: where names of a set overlap
in meaning (dirt and gravel, blouse and top), that a photo has no mask of the one says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from anygrain.data.boxes import complete_with_boxes, merge
from anygrain.data.language import SALIENT
from anygrain.data.readers import read_coco, read_mask_folder, read_region_maps, read_salient, read_video
from anygrain.data.readers.files import by_stem, find, image_size, read_index_mask, read_json, read_names
from anygrain.data.readers.mask_folder import index_regions
from anygrain.types import Box, Sample

CAMVID = (
    "sky",
    "building",
    "pole",
    "road",
    "sidewalk",
    "tree",
    "sign symbol",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
)
# Not here: dirt, sand, grass, gravel, mulch, rock, bush, tree, asphalt, concrete: one is often called another.
TRAILS = ("water", "sky", "vehicle", "container", "building", "bicycle", "person", "fence", "bridge", "picnic-table")
UNDERWATER = ("diver", "aquatic plant", "wreck", "underwater robot", "reef", "fish")
# Looked at on photos without a mask of them: these are truly not there. Bags, belts, skirts and shoes are confused.
CLOTHING = ("hat", "scarf", "dress", "shorts")
FACADE = ("car", "shop", "vegetation")
# What the VOC teacher finds reliably, as the README of pseudo_voc measured; it misses many of the other things.
RELIABLE_VOC = ("bus", "car", "cat", "dog", "horse", "person", "train")


@dataclass(frozen=True, kw_only=True)
class Source:
    """One data set under the root.

    read: from the root folder and a split's name to Samples.
    splits: which splits there are.
    optional: built only when asked for by name.
    """

    read: Callable[[Path, str], Iterable[Sample]]
    splits: tuple[str, ...] = ("train", "val")
    optional: bool = False


def _coco(name: str, exhaustive: Iterable[str] = (), granularity: str | None = None, salient: bool = False) -> Source:
    """A folder ``name`` in COCO form. salient: its one mask a photo is what the photo is about."""

    def read(root: Path, split: str) -> Iterator[Sample]:
        file = f"{name}/annotations/instances_{split}.json"
        samples = read_coco(root / name / "images", root / file, source=name, exhaustive=tuple(exhaustive))
        for sample in with_phrases(samples, phrases(root, split, file)):
            regions = sample.regions
            if granularity:
                regions = tuple(replace(region, granularity=granularity) for region in regions)
            if salient:
                regions = tuple(replace(region, captions=(*region.captions, SALIENT)) for region in regions)
            yield replace(sample, regions=regions)

    return Source(read=read)


def _semantic(name: str, **options: object) -> Source:
    """A folder ``name`` of index masks; options as in read_mask_folder."""
    return Source(read=lambda root, split: read_mask_folder(root / name, split, source=name, **options))  # type: ignore[arg-type]


def read_coco_80(root: Path, split: str) -> Iterator[Sample]:
    """coco: all 80 categories are masked in every photo."""
    names = coco_names(root)
    file = f"coco/annotations/instances_{split}.json"
    samples = read_coco(root / "coco" / "images", root / file, source="coco", exhaustive=names)
    return with_phrases(samples, phrases(root, split, file))


def read_coco_person(root: Path, split: str) -> Iterator[Sample]:
    """coco_person: one masked person a photo, with the further masks of coco_extra and the boxes of all 80 categories.

    The caption is "the person" where exactly one person is in the photo; where there are more, no phrase without a look
    at the photo would mean just the masked one, so it counts only as a part of "all person", the others ignored.
    """
    names = coco_names(root)
    boxes = boxes_80(root, "coco_person", names)
    extra = {sample.id: sample for sample in _extra(root, f"coco_extra/coco_person_{split}.json", "coco_person", split)}
    file = f"coco_person/annotations/instances_{split}.json"
    samples = read_coco(root / "coco_person" / "images", root / file, source="coco_person")
    for sample in with_phrases(samples, phrases(root, split, file)):
        whole = merge(sample, extra[sample.id]) if sample.id in extra else sample
        yield _the_person(complete_with_boxes(whole, _pixels(boxes, whole), names))


def _the_person(sample: Sample) -> Sample:
    people = [region for region in sample.regions if region.category == "person"]
    if len(people) != 1 or "person" not in sample.exhaustive:
        return sample
    only = replace(people[0], captions=(*people[0].captions, "the person"))
    return replace(sample, regions=tuple(only if region is people[0] else region for region in sample.regions))


def read_coco_people(root: Path, split: str) -> Iterator[Sample]:
    """coco_people: some masks, the boxes of all 80 categories."""
    file = f"coco_people/annotations/instances_{split}.json"
    samples = read_coco(root / "coco_people" / "images", root / file, source="coco_people")
    return _completed(root, with_phrases(samples, phrases(root, split, file)), "coco_people")


def read_coco_extra(root: Path, split: str) -> Iterator[Sample]:
    """coco_extra: masks for photos of ``unlabelled`` (those for coco_person are merged there). Train only."""
    samples = _extra(root, f"coco_extra/unlabelled_{split}.json", "unlabelled", split)
    return (
        replace(sample, id=f"coco_extra/{sample.id.split('/')[-1]}", source="coco_extra")
        for sample in _completed(root, samples, "unlabelled")
    )


def _extra(root: Path, file: str, folder: str, split: str) -> Iterator[Sample]:
    samples = read_coco(root / folder / "images", root / file, source=folder)
    return with_phrases(samples, phrases(root, split, file))


def _completed(root: Path, samples: Iterable[Sample], folder: str) -> Iterator[Sample]:
    names = coco_names(root)
    boxes = boxes_80(root, folder, names)
    for sample in samples:
        yield complete_with_boxes(sample, _pixels(boxes, sample), names)


def coco_names(root: Path) -> list[str]:
    """The 80 categories in the order that ``boxes80`` counts them in."""
    table = read_json(root / "coco" / "annotations" / "instances_train.json", "a COCO instances JSON")
    return [entry["name"] for entry in sorted(table["categories"], key=lambda entry: entry["id"])]


def boxes_80(root: Path, folder: str, names: list[str]) -> dict[str, dict[str, list[Box]]]:
    """For each photo of a folder (file name without ending) all boxes, in 0..1 of the photo, by category."""
    photos: dict[str, dict[str, list[Box]]] = {}
    for row in read_json(root / "language" / "boxes80.json", "the boxes of 80 categories")["rows"]:
        if row["dir"] == folder:
            boxes = photos.setdefault(Path(row["file"]).stem, {})
            for number, *box in row["boxes"]:
                boxes.setdefault(names[number - 1], []).append(tuple(box))
    return photos


def _pixels(boxes: Mapping[str, Mapping[str, list[Box]]], sample: Sample) -> dict[str, list[Box]]:
    stem = sample.id.split("/")[-1]
    if stem not in boxes:
        raise ValueError(f"{sample.image}: language/boxes80.json has no row for this photo")
    height, width = sample.size
    return {
        name: [(x0 * width, y0 * height, x1 * width, y1 * height) for x0, y0, x1, y1 in rows]
        for name, rows in boxes[stem].items()
    }


def phrases(root: Path, split: str, file: str) -> dict[int, list[str]]:
    """Human phrases by annotation number, for the annotation file ``file`` (relative to the root).

    Bare names (``vg_object``: "man") are left out: they do not say which man.
    """
    found: dict[int, list[str]] = {}
    for row in read_json(root / "language" / "refexp.json", "the human referring expressions")["rows"]:
        link = row.get("mask")
        if link and row["split"] == split and link["file"] == file and row["source"] != "vg_object":
            found.setdefault(link["id"], []).append(row["text"])
    return found


def with_phrases(samples: Iterable[Sample], texts: Mapping[int, list[str]]) -> Iterator[Sample]:
    """Add each phrase to the region whose instance is its annotation number."""
    for sample in samples:
        regions = tuple(
            replace(region, captions=tuple(dict.fromkeys((*region.captions, *texts.get(region.instance, ())))))
            if region.instance is not None
            else region
            for region in sample.regions
        )
        yield replace(sample, regions=regions)


def read_person_car_airplane(root: Path, split: str) -> Iterator[Sample]:
    """coco_person_car_airplane: these three are exhaustive, as the file says."""
    folder, name = root / "coco_person_car_airplane", "coco_person_car_airplane"
    three = ("person", "car", "airplane")
    return read_coco(folder / "images", folder / f"annotations/instances_{split}.json", source=name, exhaustive=three)


def read_pets(root: Path, split: str) -> Iterator[Sample]:
    """pets: a trimap of one animal (1 pet, 2 background, 3 rim). Oxford-IIIT writes cat breeds with a capital."""
    folder = root / "pets"
    names = read_names(folder / "splits" / f"{split}.txt")
    return read_salient(
        folder / "images",
        folder / "masks",
        source="pets",
        names=names,
        foreground=1,
        ignore=(3,),
        category=lambda name: "cat" if name[0].isupper() else "dog",
        exhaustive=("cat", "dog"),
    )


def read_horses(root: Path, split: str) -> Iterator[Sample]:
    """horses: one or more horses as one mask, which is also what the photo is about."""
    folder = root / "horses"
    names = read_names(folder / "splits" / f"{split}.txt")
    options = {"foreground": 1, "category": "horse", "exhaustive": ("horse",)}
    return read_salient(folder / "images", folder / "masks", source="horses", names=names, **options)


def read_bsds_objects(root: Path, split: str) -> Iterator[Sample]:
    """bsds_objects: one salient object with two phrases for some photos of bsds500."""
    folder = root / "bsds_objects"
    objects = read_json(folder / "objects.json", "the objects and their phrases")["objects"]
    names = [name for name, entry in objects.items() if entry["split"] == split]
    images = root / "bsds500" / "images"
    for sample in read_salient(
        images, folder / "masks", source="bsds_objects", names=names, foreground=1, ignore=(255,)
    ):
        texts = tuple(objects[sample.id.split("/")[-1]]["texts"])
        yield replace(
            sample,
            regions=tuple(r if r.ignore else replace(r, captions=texts + r.captions) for r in sample.regions),
        )


def read_pseudo_voc(root: Path, split: str) -> Iterator[Sample]:
    """pseudo_voc: a teacher's labels for train photographs of seven folders, only the categories it finds reliably.

    Not exhaustive: what the teacher calls background may hold anything.
    """
    folder = root / "pseudo_voc"
    names = dict(enumerate(read_json(folder / "classes.json", "a list of category names")))
    unreliable = tuple(number for number, name in names.items() if name not in RELIABLE_VOC)
    origin = {"step": "teacher", "model": "ESPNetv2 VOC"}
    for image, path in _labelled(root, folder) if split == "train" else ():
        size = image_size(image)
        regions = index_regions(read_index_mask(path, size), names, unreliable, (255,), path, origin=origin)
        sample_id = f"pseudo_voc/{path.parent.name}/{path.stem}"
        yield Sample(id=sample_id, image=image, size=size, regions=regions, source="pseudo_voc")


def _labelled(root: Path, folder: Path) -> Iterator[tuple[Path, Path]]:
    """Photograph and label of every label under pseudo_voc; davis' are named video_frame."""
    for labels in sorted(path for path in folder.iterdir() if path.is_dir()):
        photos = {} if labels.name == "davis" else by_stem(root / labels.name / "images", "the photographs")
        for path in sorted(labels.glob("*.png")):
            if labels.name == "davis":
                video, _, frame = path.stem.rpartition("_")
                yield root / "davis" / "train" / "JPEGImages" / video / f"{frame}.jpg", path
            else:
                yield find(photos, path.stem, root / labels.name / "images", "the photograph of a label"), path


SOURCES: Mapping[str, Source] = {
    "ade20k_sample": replace(_coco("ade20k_sample"), splits=("train",)),
    "bsds500": Source(
        read=lambda root, split: read_region_maps(root / "bsds500", split, source="bsds500"), optional=True
    ),
    "bsds_objects": Source(read=read_bsds_objects, splits=("train",)),
    "caltech_outlines": _coco("caltech_outlines", salient=True),
    "camvid": _semantic("camvid", background=(), ignore=(11,), exhaustive=CAMVID),
    "car_parts": _coco("car_parts", granularity="part"),
    "clothing": _semantic("clothing", exhaustive=CLOTHING),
    "coco": Source(read=read_coco_80),
    "coco_extra": Source(read=read_coco_extra, splits=("train",)),
    "coco_people": Source(read=read_coco_people),
    "coco_person": Source(read=read_coco_person),
    "coco_person_car_airplane": Source(read=read_person_car_airplane),
    "davis": Source(read=lambda root, split: read_video(root / "davis" / split, source="davis")),
    "facade": _coco("facade", exhaustive=FACADE),
    "faces": _semantic("faces", exhaustive=("skin", "hair", "eyes", "nose", "mouth"), granularity="part"),
    "fire_smoke": _coco("fire_smoke", exhaustive=("fire", "smoke")),
    "food": _coco("food"),
    "horses": Source(read=read_horses),
    "labelmefacade": _semantic("labelmefacade"),
    "pets": Source(read=read_pets),
    "ppe": _coco("ppe"),
    "pseudo_voc": Source(read=read_pseudo_voc, splits=("train",), optional=True),
    "sky": _semantic("sky", exhaustive=("sky",)),
    "sysu_shapes": _coco("sysu_shapes"),
    "trails": _semantic("trails", exhaustive=TRAILS),
    "underwater": _semantic("underwater", background=(), exhaustive=UNDERWATER),
}
