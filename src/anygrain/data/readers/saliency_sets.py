"""The salient object benchmarks, each a folder of images and a folder of masks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from anygrain.data.readers.files import check_split, first_of
from anygrain.data.readers.salient import read_salient
from anygrain.types import Sample

ABOVE = 129  # the evaluators call a pixel of the truth salient above 128

# By set and split: pairs of usual folders of images and masks, the official one first.
LAYOUTS: Mapping[str, Mapping[str, tuple[tuple[str, str], ...]]] = {
    "ecssd": {"test": (("images", "ground_truth_mask"), ("Imgs", "GT"), ("image", "mask"))},
    "duts": {
        "train": (("DUTS-TR/DUTS-TR-Image", "DUTS-TR/DUTS-TR-Mask"), ("DUTS-TR-Image", "DUTS-TR-Mask")),
        "test": (("DUTS-TE/DUTS-TE-Image", "DUTS-TE/DUTS-TE-Mask"), ("DUTS-TE-Image", "DUTS-TE-Mask")),
    },
    "dut_omron": {
        "test": (
            ("DUT-OMRON-image/DUT-OMRON-image", "pixelwiseGT-new-PNG/pixelwiseGT-new-PNG"),
            ("DUT-OMRON-image", "pixelwiseGT-new-PNG"),
        )
    },
    "hku_is": {"test": (("imgs", "gt"),)},
    "pascal_s": {"test": (("datasets/imgs/pascal", "datasets/masks/pascal"), ("Imgs", "GT"))},
    "sod": {"test": (("Imgs", "GT"), ("images", "masks"))},
}


def read_saliency(root: str | Path, split: str, *, name: str) -> Iterator[Sample]:
    """One Sample an image, sorted, with the caption "the most salient object". name: a key of LAYOUTS.

    A mask's pixel is salient above 128, so that soft edges and the shares of annotators in PASCAL-S (a pixel is the
    share times 255) become a half vote. Raises FileNotFoundError or ValueError naming the file.
    """
    check_split(split, tuple(LAYOUTS[name]), name)
    layouts = LAYOUTS[name][split]
    chosen = next((pair for pair in layouts if (Path(root) / pair[0]).is_dir()), layouts[0])
    images = first_of(root, [pair[0] for pair in layouts], f"the images of {name} {split}")
    masks = first_of(root, [chosen[1]], f"the masks of {name} {split}")
    return read_salient(images, masks, source=name, least=ABOVE)
