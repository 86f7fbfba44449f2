"""A PSALM of some hundred thousand weights, and runs over real photographs of which all kinds of things are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from anygrain.data.psalm_tasks import PSALMBatchConfig
from anygrain.images import decode_image
from anygrain.models.mask_decoder import MaskDecoderConfig
from anygrain.models.pixel_decoder import PixelDecoderConfig
from anygrain.models.psalm.config import LanguageConfig, LossConfig, PSALMConfig
from anygrain.models.psalm.network import PSALM
from anygrain.models.psalm.prompts import WORDINGS
from anygrain.models.psalm.tokenizer import BPETokenizer
from anygrain.models.swin import SwinConfig
from anygrain.train.optim import OptimConfig
from anygrain.train.trainer import TrainConfig
from anygrain.types import Mask, Region, Sample

PHOTOS = Path(__file__).parents[1] / "fixtures" / "photos"
KNOWN = frozenset({"dog", "cat", "person", "window"})


def psalm_config(**changes) -> PSALMConfig:
    """Sizes for photos of 96 pixels."""
    pixel = PixelDecoderConfig(
        hidden_dim=64, mask_dim=32, num_layers=1, ffn_dim=64, extra_level=False, order="coarse_to_fine"
    )
    defaults = {
        "image_encoder": SwinConfig(
            embed_dim=24, depths=(1, 1, 1, 1), num_heads=(1, 2, 2, 4), window_size=6, drop_path=0.1
        ),
        "language": LanguageConfig(vocab_size=480, width=64, layers=2, num_heads=4, ffn_dim=128),
        "pixel_decoder": pixel,
        "mask_decoder": MaskDecoderConfig(hidden_dim=64, num_queries=8, num_heads=4, ffn_dim=64, layers=2, mask_dim=32),
        "projector_planes": 32,
        "projector_stride": 1,
        "input_size": 96,
        "keep_probability": 0.5,
        "loss": LossConfig(points=256),
    }
    return PSALMConfig(**{**defaults, **changes})


def psalm_model(**changes) -> PSALM:
    """The network with a vocabulary of its own, in which a prompt is short."""
    torch.manual_seed(1)
    return PSALM(psalm_config(**changes), BPETokenizer.learn(WORDINGS * 3, 480))


def animal(name: str, category: str, caption: str, **fields) -> Sample:
    """A photo of one thing with its mask and a caption."""
    mask = Mask.from_array(np.asarray(decode_image(PHOTOS / f"{name}.png")) == 1)
    region = Region(mask=mask, category=category, captions=(caption,), instance=1)
    known = {"size": mask.size, "regions": (region,), "source": "zoo", "exhaustive": KNOWN}
    return Sample(id=f"zoo/{name}", image=PHOTOS / f"{name}.jpg", **{**known, **fields})


def facade() -> Sample:
    """A photo of many windows, in COCO's form; all of four kinds of things are drawn."""
    table = json.loads((PHOTOS / "facade.json").read_text())
    names = {entry["id"]: entry["name"] for entry in table["categories"]}
    entry = table["images"][0]
    size = (entry["height"], entry["width"])
    regions = tuple(
        Region(mask=Mask.from_coco(a["segmentation"], size), category=names[a["category_id"]], instance=a["id"])
        for a in table["annotations"]
    )
    known = frozenset(names.values()) | {"dog"}
    return Sample(
        id="street/facade", image=PHOTOS / "facade.jpg", size=size, regions=regions, source="street", exhaustive=known
    )


def zoo() -> list[Sample]:
    """Two photos, in which a conversation and a caption are known too."""
    chat = (("What animal is this?", "It is a dog."), ("Is it asleep?", "No."))
    dog = animal("dog", "dog", "the dog on the grass", chats=(chat,), absent=("the cat",))
    cat = animal("pet", "cat", "the cat that looks at you")
    said = Region(captions=("A cat looks at the camera.",))
    return [dog, Sample(**{**vars(cat), "regions": (*cat.regions, said)})]


def psalm_run(**fields) -> TrainConfig:
    defaults = {
        "model": psalm_config(),
        "batch": PSALMBatchConfig(categories=6, regions=4, sentences=1),
        "batch_images": 2,
        "steps": 8,
        "optim": OptimConfig(lr=1e-3, image_lr_factor=1.0, schedule="constant", grad_clip=5.0),
        "device": "cpu",
        "workers": 0,
        "log_every": 1,
        "checkpoint_every": 4,
        "eval_every": 1000,
    }
    return TrainConfig(**{**defaults, **fields})
