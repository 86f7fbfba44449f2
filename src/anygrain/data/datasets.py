"""The public data sets that are read, by name: splits, licence, where to get them. docs/datasets.md tells more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from anygrain.data.readers.ade20k import read_ade20k, read_ade20k_847, read_ade20k_panoptic
from anygrain.data.readers.ade20k_full import read_ade20k_full
from anygrain.data.readers.cityscapes import (
    read_cityscapes,
    read_cityscapes_instances,
    read_cityscapes_panoptic,
)
from anygrain.data.readers.coco_interactive import read_coco_interactive
from anygrain.data.readers.coco_maps import read_coco_panoptic, read_coco_stuff
from anygrain.data.readers.coco_sets import (
    read_coco_instances,
    read_lvis,
    read_objects365,
    read_paco,
    read_partimagenet,
)
from anygrain.data.readers.davis import read_davis, read_ref_davis
from anygrain.data.readers.imagenet import read_imagenet
from anygrain.data.readers.lip import read_lip
from anygrain.data.readers.llava import read_llava
from anygrain.data.readers.pascal import read_pascal_context, read_voc, read_voc_instances
from anygrain.data.readers.pascal_part import read_pascal_part
from anygrain.data.readers.phrasecut import read_phrasecut
from anygrain.data.readers.refcoco import GREF_SPLITS, SPLITS, read_grefcoco, read_refcoco
from anygrain.data.readers.sa1b import read_sa1b
from anygrain.data.readers.saliency_sets import LAYOUTS, read_saliency
from anygrain.data.readers.sbd import read_sbd
from anygrain.data.readers.video import read_mevis, read_ref_youtube_vos
from anygrain.types import Sample


@dataclass(frozen=True)
class Dataset:
    """A public data set.

    read: from its root folder and a split to Samples, lazily and always in the same order.
    splits: those with public annotation. licence: in a few words, as its makers state it. home: where to get it.
    """

    read: Callable[[str | Path, str], Iterator[Sample]]
    splits: tuple[str, ...]
    licence: str
    home: str


_COCO = "annotations CC BY 4.0; images under their Flickr licences"
_REFER = "annotations Apache-2.0; images of COCO"
_UNSTATED = "none stated; for research"
_VOC = "none stated; images under the Flickr terms"
_HOMES = {
    "ecssd": "https://www.cse.cuhk.edu.hk/leojia/projects/hsaliency/dataset.html",
    "duts": "http://saliencydetection.net/duts/",
    "dut_omron": "http://saliencydetection.net/dut-omron/",
    "hku_is": "https://i.cs.hku.hk/~gbli/deep_saliency.html",
    "pascal_s": "http://cbs.ic.gatech.edu/salobj/",
    "sod": "https://www.elderlab.yorku.ca/SOD/",
}
_SHORT = {("refcoco", "unc"): "refcoco", ("refcoco+", "unc"): "refcoco+"}

DATASETS: dict[str, Dataset] = {
    **{
        _SHORT.get((name, by), f"{name}_{by}"): Dataset(
            partial(read_refcoco, name=name, by=by), splits, _REFER, "https://github.com/lichengunc/refer"
        )
        for (name, by), splits in SPLITS.items()
    },
    "grefcoco": Dataset(read_grefcoco, GREF_SPLITS, "MIT; images of COCO", "https://github.com/henghuiding/gRefCOCO"),
    "phrasecut": Dataset(
        read_phrasecut,
        ("train", "val", "test", "miniv"),
        "MIT; images of Visual Genome, CC BY 4.0",
        "https://github.com/ChenyunWu/PhraseCutDataset",
    ),
    "ref_youtube_vos": Dataset(
        read_ref_youtube_vos, ("train",), "CC BY 4.0, research", "https://youtube-vos.org/dataset/rvos/"
    ),
    "ref_davis": Dataset(
        read_ref_davis,
        ("train", "val"),
        "texts: none stated, for research; video CC BY-NC 4.0",
        "https://www.mpi-inf.mpg.de/departments/computer-vision-and-machine-learning/research/"
        "video-segmentation/video-object-segmentation-with-language-referring-expressions",
    ),
    "mevis": Dataset(read_mevis, ("train", "valid_u"), "CC BY-NC-SA 4.0", "https://github.com/henghuiding/MeViS"),
    "davis2016": Dataset(
        partial(read_davis, year=2016), ("train", "val"), "BSD", "https://davischallenge.org/davis2016/code.html"
    ),
    "davis2017": Dataset(
        partial(read_davis, year=2017),
        ("train", "val"),
        "CC BY-NC 4.0",
        "https://davischallenge.org/davis2017/code.html",
    ),
    "coco_instances": Dataset(read_coco_instances, ("train", "val"), _COCO, "https://cocodataset.org/#download"),
    "coco_panoptic": Dataset(read_coco_panoptic, ("train", "val"), _COCO, "https://cocodataset.org/#download"),
    "llava": Dataset(
        read_llava,
        ("pretrain", "finetune"),
        "CC BY 4.0, and OpenAI's terms for what GPT-4 wrote; images of others",
        "https://huggingface.co/liuhaotian",
    ),
    "coco_stuff": Dataset(read_coco_stuff, ("train", "val"), _COCO, "https://github.com/nightrome/cocostuff"),
    "coco_interactive": Dataset(
        read_coco_interactive, ("train", "val"), _COCO, "https://github.com/zamling/PSALM/blob/main/docs/DATASET.md"
    ),
    "lvis": Dataset(read_lvis, ("train", "val"), "CC BY 4.0; images of COCO", "https://www.lvisdataset.org/dataset"),
    "paco": Dataset(
        read_paco, ("train", "val", "test"), "CC BY 4.0; images of COCO", "https://github.com/facebookresearch/paco"
    ),
    "partimagenet": Dataset(
        read_partimagenet,
        ("train", "val", "test"),
        "CC BY-NC-SA 4.0 is said; images of ImageNet",
        "https://github.com/TACJu/PartImageNet",
    ),
    "objects365": Dataset(read_objects365, ("train", "val"), "CC BY 4.0", "https://www.objects365.org/"),
    "ade20k_150": Dataset(
        read_ade20k, ("train", "val"), "BSD-3; images for research", "http://sceneparsing.csail.mit.edu/"
    ),
    "ade20k_panoptic": Dataset(
        read_ade20k_panoptic, ("train", "val"), "BSD-3; images for research", "http://sceneparsing.csail.mit.edu/"
    ),
    "ade20k_full": Dataset(
        read_ade20k_full,
        ("train", "val"),
        "own terms, research",
        "https://groups.csail.mit.edu/vision/datasets/ADE20K/",
    ),
    "ade20k_847": Dataset(
        read_ade20k_847,
        ("train", "val"),
        "BSD-3; images for research",
        "https://groups.csail.mit.edu/vision/datasets/ADE20K/",
    ),
    "sbd": Dataset(
        read_sbd,
        ("train", "val", "train_noval"),
        _VOC,
        "http://home.bharathh.info/pubs/codes/SBD/download.html",
    ),
    "voc2012": Dataset(read_voc, ("train", "val", "trainval"), _VOC, "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/"),
    "voc2012_instances": Dataset(
        read_voc_instances,
        ("train", "val", "trainval"),
        _VOC,
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
    ),
    **{
        f"pascal_context_{count}": Dataset(
            partial(read_pascal_context, categories=count),
            ("train", "val"),
            _UNSTATED,
            "https://www.cs.stanford.edu/~roozbeh/pascal-context/",
        )
        for count in (59, 459)
    },
    "pascal_part": Dataset(
        read_pascal_part,
        ("train", "val", "trainval"),
        _UNSTATED,
        "http://roozbehm.info/pascal-parts/pascal-parts.html",
    ),
    "cityscapes": Dataset(
        read_cityscapes, ("train", "val"), "own, non-commercial", "https://www.cityscapes-dataset.com/"
    ),
    "cityscapes_instances": Dataset(
        read_cityscapes_instances, ("train", "val"), "own, non-commercial", "https://www.cityscapes-dataset.com/"
    ),
    "cityscapes_panoptic": Dataset(
        read_cityscapes_panoptic, ("train", "val"), "own, non-commercial", "https://www.cityscapes-dataset.com/"
    ),
    "lip": Dataset(read_lip, ("train", "val"), "own, non-commercial research", "https://sysu-hcp.net/lip/"),
    **{
        name: Dataset(partial(read_saliency, name=name), tuple(layouts), _UNSTATED, _HOMES[name])
        for name, layouts in LAYOUTS.items()
    },
    "sa1b": Dataset(read_sa1b, ("train",), "SA-1B research licence", "https://ai.meta.com/datasets/segment-anything/"),
    "imagenet": Dataset(read_imagenet, ("train", "val"), "own, non-commercial research", "https://image-net.org/"),
}


def read_dataset(name: str, root: str | Path, split: str) -> Iterator[Sample]:
    """The Samples of a data set's split. Raises ValueError for an unknown name or split, naming those there are."""
    if name not in DATASETS:
        raise ValueError(f"no data set is named {name!r}; there are {', '.join(sorted(DATASETS))}")
    if split not in DATASETS[name].splits:
        raise ValueError(f"{name} has no split {split!r}; it has {', '.join(DATASETS[name].splits)}")
    if not Path(root).is_dir():
        raise FileNotFoundError(f"{root}: not found; expected the folder of {name}, from {DATASETS[name].home}")
    return DATASETS[name].read(root, split)
