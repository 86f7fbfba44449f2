"""A model of a few thousand weights with the protocol the trainer asks for, and shards of small photos for it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from anygrain.data.batch import BatchConfig
from anygrain.data.shards import write_shards
from anygrain.models.losses import dice, mask_cross_entropy
from anygrain.train.trainer import TrainConfig
from anygrain.types import Mask, Region, Sample

COLOURS = {"ruby": (220, 30, 40), "grass": (30, 200, 60), "ocean": (30, 60, 220)}


@dataclass(frozen=True, kw_only=True)
class TinyConfig:
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    dropout: float = 0.1


class TinyText(NamedTuple):
    sentence: Tensor  # [N, 16]

    def mixed(self, most: float, others: TinyText) -> TinyText:
        rows = torch.randint(len(others.sentence), (len(self.sentence),))
        return TinyText(torch.lerp(self.sentence, others.sentence[rows], most * torch.rand(len(rows), 1)))


class TinyTokenizer:
    def words(self) -> list[str]:
        return ["zebra", "puppy", "weather", "seven"]


class Output(NamedTuple):
    mask_logits: Tensor
    presence_logits: None = None


class TinyModel(nn.Module):
    def __init__(self, config: TinyConfig):
        super().__init__()
        self.config = config
        self.image_encoder = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1)
        )
        self.text_encoder = nn.Embedding(512, 16)
        self.head = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(32, 16))
        self.tokenizer = TinyTokenizer()
        self.encoded: list[str] = []

    def encode_image(self, pixels):
        return (self.image_encoder(pixels),)

    def encode_text(self, texts):
        self.encoded += texts
        ids = torch.tensor([zlib.crc32(text.encode()) % 512 for text in texts])
        return TinyText(self.text_encoder(ids.to(self.text_encoder.weight.device)))

    def decode(self, features, text, image_index):
        return Output(torch.einsum("nc,nchw->nhw", self.head(text.sentence), features[0][image_index]))

    def loss(self, output, batch):
        logits = F.interpolate(output.mask_logits[:, None].float(), batch.targets.shape[-2:], mode="bilinear")[:, 0]
        return {
            "cross_entropy": mask_cross_entropy(logits, batch.targets),
            "dice": dice(logits, batch.targets),
        }


def tiny_model(**config) -> TinyModel:
    torch.manual_seed(1)
    return TinyModel(TinyConfig(**config))


def write_photos(folder: Path, count: int) -> Path:
    """Shards of ``count`` photos with one rectangle of each colour."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)

    def sample(number: int) -> Sample:
        pixels = rng.integers(90, 130, (48, 64, 3)).astype(np.uint8)
        regions = []
        for place, (name, colour) in enumerate(COLOURS.items()):
            mask = np.zeros((48, 64), bool)
            y, x = int(rng.integers(0, 20)), 21 * place
            mask[y : y + 24, x : x + 18] = True
            pixels[mask] = colour
            regions.append(Region(mask=Mask.from_array(mask), category=name))
        Image.fromarray(pixels).save(folder / f"{number}.png")
        return Sample(
            id=f"t/{number}", image=folder / f"{number}.png", size=(48, 64), regions=tuple(regions), source="t"
        )

    write_shards((sample(number) for number in range(count)), folder / "shards")
    return folder / "shards"


def tiny_run(data: Path, **fields) -> TrainConfig:
    defaults = {
        "model": TinyConfig(),
        "data": (str(data),),
        "batch": BatchConfig(size=32, prompts_per_image=2),
        "batch_images": 2,
        "steps": 20,
        "device": "cpu",
        "workers": 0,
        "log_every": 5,
        "checkpoint_every": 10,
        "eval_every": 10,
    }
    return TrainConfig(**{**defaults, **fields})


if __name__ == "__main__":  # a run to be interrupted from outside
    import sys

    from anygrain.train.trainer import Trainer

    data, out = map(Path, sys.argv[1:])
    config = tiny_run(data, steps=1_000_000, workers=1, checkpoint_every=1_000_000, eval_every=1_000_000)
    print("reached", Trainer(config, tiny_model(), out).train())
