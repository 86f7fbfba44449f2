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

import numpy as np

from anygrain.data import absent, sources_language, sources_pseudo
from anygrain.data.boxes import merge
from anygrain.data.coco_boxes import coco_names, complete_with_boxes_80
from anygrain.data.held_out import holds_unseen_word
from anygrain.data.language import SALIENT, union
from anygrain.data.readers import read_coco, read_mask_folder, read_region_maps, read_salient, read_video
from anygrain.data.readers.files import read_json, read_names
from anygrain.types import Mask, Region, Sample

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
CARRIED = ("bag", "purse", "wallet", "accessories")


@dataclass(frozen=True, kw_only=True)
class Source:
    """One data set under the root.

    read: from the root folder and a split's name to Samples.
    splits: which splits there are.
    optional: built only when asked for by name.
    lacks: names of things that photographs like these never show.
    complete: where a category is annotated in a photo, all of it is.
    whole: what the regions of a photo are parts of.
    """

    read: Callable[[Path, str], Iterable[Sample]]
    splits: tuple[str, ...] = ("train", "val")
    optional: bool = False
    lacks: tuple[str, ...] = ()
    complete: bool = False
    whole: str | None = None

    def samples(self, root: Path, split: str) -> Iterator[Sample]:
        """The samples of a split with all that the fields above claim of them.

        No training caption holds a word of ``held_out``.
        """
        for sample in self.read(root, split):
            if split == "train":
                sample = _without_unseen_words(sample)
            there = {region.category for region in sample.regions if region.category is not None}
            known = sample.exhaustive | (set(self.lacks) - there) | (there if self.complete else set())
            yield replace(sample, exhaustive=frozenset(known), whole=self.whole)


def _without_unseen_words(sample: Sample) -> Sample:
    def kept(texts: Iterable[str]) -> tuple[str, ...]:
        return tuple(text for text in texts if not holds_unseen_word(text))

    regions = tuple(replace(r, captions=kept(r.captions)) if r.captions else r for r in sample.regions)
    return replace(sample, regions=regions, absent=kept(sample.absent))


def _coco(name: str, exhaustive: Iterable[str] = (), salient: bool = False) -> Source:
    """A folder ``name`` in COCO form. salient: its one mask a photo is what the photo is about."""

    def read(root: Path, split: str) -> Iterator[Sample]:
        file = f"{name}/annotations/instances_{split}.json"
        samples = read_coco(root / name / "images", root / file, source=name, exhaustive=tuple(exhaustive))
        for sample in with_phrases(samples, phrases(root, split, file)):
            regions = sample.regions
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
    extra = {sample.id: sample for sample in _extra(root, f"coco_extra/coco_person_{split}.json", "coco_person", split)}
    file = f"coco_person/annotations/instances_{split}.json"
    samples = read_coco(root / "coco_person" / "images", root / file, source="coco_person")
    merged = (
        merge(sample, extra[sample.id]) if sample.id in extra else sample
        for sample in with_phrases(samples, phrases(root, split, file))
    )
    return map(_the_person, complete_with_boxes_80(root, merged, "coco_person"))


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
    return complete_with_boxes_80(root, with_phrases(samples, phrases(root, split, file)), "coco_people")


def read_coco_extra(root: Path, split: str) -> Iterator[Sample]:
    """coco_extra: masks for photos of ``unlabelled`` (those for coco_person are merged there). Train only."""
    samples = _extra(root, f"coco_extra/unlabelled_{split}.json", "unlabelled", split)
    return (
        replace(sample, id=f"coco_extra/{sample.id.split('/')[-1]}", source="coco_extra")
        for sample in complete_with_boxes_80(root, samples, "unlabelled")
    )


def _extra(root: Path, file: str, folder: str, split: str) -> Iterator[Sample]:
    samples = read_coco(root / folder / "images", root / file, source=folder)
    return with_phrases(samples, phrases(root, split, file))


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
    pets = read_salient(
        folder / "images",
        folder / "masks",
        source="pets",
        names=names,
        foreground=1,
        ignore=(3,),
        category=lambda name: "cat" if name[0].isupper() else "dog",
        exhaustive=("cat", "dog"),
        single=True,
    )
    return _with_background(pets)


def read_horses(root: Path, split: str) -> Iterator[Sample]:
    """horses: one or more horses as one mask, which is also what the photo is about."""
    folder = root / "horses"
    names = read_names(folder / "splits" / f"{split}.txt")
    options = {"foreground": 1, "category": "horse", "exhaustive": ("horse",)}
    horses = read_salient(folder / "images", folder / "masks", source="horses", names=names, **options)
    return _with_background(horses)


def _with_background(samples: Iterable[Sample]) -> Iterator[Sample]:
    """Add all that is not the one thing of each photo; unsure pixels stay unsure."""
    for sample in samples:
        name = next((region.category for region in sample.regions if region.category is not None), None)
        if name is not None:
            things = union([region.mask for region in sample.regions if region.mask is not None])
            captions = ("the background", f"everything except the {name}")
            rest = Region(mask=Mask.from_array(~things.to_array()), captions=captions, origin={"step": "complement"})
            sample = replace(sample, regions=(*sample.regions, rest))
        yield sample


def read_clothing(root: Path, split: str) -> Iterator[Sample]:
    """clothing: garments and body of one person in the street; together, less what is carried, they are the person."""
    samples = read_mask_folder(root / "clothing", split, source="clothing", exhaustive=CLOTHING)
    captions = ("the person in the foreground", "the whole person in front")
    for sample in samples:
        yield _with_whole(sample, [r for r in sample.regions if r.category not in CARRIED], captions)


def read_car_parts(root: Path, split: str) -> Iterator[Sample]:
    """car_parts: parts of a car; together the car, where they leave no gap (roof and wings are not labelled)."""
    annotations = root / "car_parts" / "annotations" / f"instances_{split}.json"
    for sample in read_coco(root / "car_parts" / "images", annotations, source="car_parts"):
        sample = replace(sample, regions=tuple(replace(region, granularity="part") for region in sample.regions))
        yield _with_whole(sample, sample.regions, ("the car", "the whole car"), solidity=0.985)


def _with_whole(sample: Sample, parts: Iterable[Region], captions: tuple[str, ...], *, solidity: float = 0.0) -> Sample:
    """Add the union of all parts, unless it leaves more of its hull open than ``solidity`` allows."""
    masks = [region.mask for region in parts if region.mask is not None and not region.ignore]
    if not masks:
        return sample
    mask = union(masks)
    if _solidity(mask.to_array()) < solidity:
        return sample
    whole = Region(mask=mask, captions=captions, granularity="object", origin={"step": "parts"})
    return replace(sample, regions=(*sample.regions, whole))


def _solidity(mask: np.ndarray) -> float:
    """Part of its row-and-column hull that a non-empty mask [H, W] fills."""

    def between(rows: np.ndarray) -> np.ndarray:
        return np.maximum.accumulate(rows, 1) & np.maximum.accumulate(rows[:, ::-1], 1)[:, ::-1]

    return float(mask.sum() / (between(mask) & between(mask.T).T).sum())


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


_OUTDOORS = (*absent.WILD, *absent.FARM, *absent.FOOD, *absent.INDOOR)
_STREET = (*_OUTDOORS, *absent.SPORT, *absent.TRAVEL, "cat", "horse")
_CALTECH = (
    *("anchor", "ant", "barrel", "beaver", "binoculars", "bonsai tree", "butterfly", "camera", "ceiling fan"),
    *("cell phone", "crab", "crocodile", "dolphin", "dragonfly", "elephant", "emu", "flamingo", "kangaroo", "panda"),
    *("pizza", "toilet", "airplane", "surfboard"),
)

SOURCES: Mapping[str, Source] = {
    "ade20k_sample": replace(_coco("ade20k_sample"), splits=("train",)),
    "boxes80": Source(read=sources_pseudo.read_boxes80, splits=("train",), optional=True),
    "bsds500": Source(
        read=lambda root, split: read_region_maps(root / "bsds500", split, source="bsds500"), optional=True
    ),
    "bsds_objects": Source(read=read_bsds_objects, splits=("train",)),
    "caltech_outlines": replace(_coco("caltech_outlines", salient=True), lacks=_CALTECH),
    "camvid": replace(_semantic("camvid", background=(), ignore=(11,), exhaustive=CAMVID), lacks=_STREET),
    "car_parts": Source(read=read_car_parts, lacks=_STREET, complete=True, whole="car"),
    "clothing": Source(read=read_clothing, lacks=_STREET, whole="person"),
    "coco": Source(read=read_coco_80),
    "coco_extra": Source(read=read_coco_extra, splits=("train",)),
    "coco_people": Source(read=read_coco_people),
    "coco_person": Source(read=read_coco_person),
    "coco_person_car_airplane": Source(read=read_person_car_airplane),
    "davis": Source(
        read=lambda root, split: read_video(root / "davis" / split, source="davis"),
        lacks=(*absent.WILD, "sheep", "pig", "cat", *absent.FOOD, *absent.INDOOR, "airplane", "train", "bus"),
    ),
    "facade": replace(_coco("facade", exhaustive=FACADE), lacks=_STREET, complete=True, whole="building"),
    "faces": replace(
        _semantic("faces", exhaustive=("skin", "hair", "eyes", "nose", "mouth"), granularity="part"),
        lacks=(*_STREET, "dog", "car", "bus", "bicycle"),
        whole="person",
    ),
    "fire_smoke": replace(
        _coco("fire_smoke", exhaustive=("fire", "smoke")), lacks=(*absent.WILD, *absent.FOOD, *absent.INDOOR)
    ),
    "food": replace(_coco("food"), lacks=(*absent.WILD, *absent.PETS, *absent.TRAVEL, "car", "bus", "tree", "road")),
    "hoi": Source(read=sources_language.read_hoi),
    "horses": Source(
        read=read_horses,
        lacks=(*absent.WILD, "goat", "pig", "cat", *absent.FOOD, *absent.INDOOR, "airplane"),
    ),
    "labelmefacade": replace(_semantic("labelmefacade"), lacks=_STREET, complete=True, whole="building"),
    "pets": Source(
        read=read_pets,
        lacks=(*absent.WILD, *absent.FARM, "horse", *absent.TRAVEL, "bus", "surfboard", "skis", "pizza", "toaster"),
    ),
    "ppe": replace(_coco("ppe"), lacks=_OUTDOORS, complete=True),
    "pseudo_voc": Source(read=sources_pseudo.read_pseudo_voc, splits=("train",), optional=True),
    "refexp": Source(read=sources_language.read_refexp),
    "sky": replace(_semantic("sky", exhaustive=("sky",)), lacks=(*absent.FOOD, *absent.INDOOR)),
    "statements": Source(read=sources_language.read_statements),
    "sysu_shapes": replace(_coco("sysu_shapes"), lacks=_OUTDOORS),
    "trails": replace(_semantic("trails", exhaustive=TRAILS), lacks=(*_OUTDOORS, "airplane")),
    "underwater": replace(
        _semantic("underwater", background=(), exhaustive=UNDERWATER), lacks=(*absent.FOOD, *absent.INDOOR, "car")
    ),
    "vg_relations": Source(read=sources_language.read_vg_relations),
}
