"""Pictures as teachers see them: crops with context, what lies outside a mask made grey, numbers around zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from anygrain.types import Box, Mask, Region, Size

if TYPE_CHECKING:
    import torch
    from PIL import Image

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
GREY = (124, 116, 104)  # ImageNet's mean colour


def box_of(region: Region) -> Box | None:
    """The given box of a region, else the tight box of its mask; None when it has neither."""
    if region.box is not None:
        return region.box
    return None if region.mask is None else region.mask.box


def with_context(box: Box, size: Size, context: float) -> tuple[int, int, int, int]:
    """A box grown by ``context`` times its own width and height on every side, inside the image, whole pixels.

    At least one pixel wide and high, also for a box that lies outside the image.
    """
    x0, y0, x1, y1 = box
    dx, dy = context * (x1 - x0), context * (y1 - y0)
    height, width = size
    left, top = (int(np.clip(np.floor(v), 0, m - 1)) for v, m in ((x0 - dx, width), (y0 - dy, height)))
    right, bottom = (int(np.clip(np.ceil(v), 1, m)) for v, m in ((x1 + dx, width), (y1 + dy, height)))
    return left, top, max(right, left + 1), max(bottom, top + 1)


def crop(image: Image.Image, box: Box, context: float) -> Image.Image:
    """The part of the picture inside a box with context."""
    return image.crop(with_context(box, (image.height, image.width), context))


def only(image: Image.Image, mask: Mask, context: float) -> Image.Image:
    """The picture inside the mask on grey, cropped to the mask with context. The mask must not be empty."""
    assert mask.box is not None
    return crop(_greyed(image, ~mask.to_array()), mask.box, context)


def without(image: Image.Image, mask: Mask) -> Image.Image:
    """The whole picture, the mask's pixels grey."""
    return _greyed(image, mask.to_array())


def square(image: Image.Image) -> Image.Image:
    """The picture in the middle of a grey square of its longer side."""
    from PIL import Image

    side = max(image.size)
    canvas = Image.new("RGB", (side, side), GREY)
    canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return canvas


def normalised(images: Sequence[Image.Image], mean: Sequence[float], std: Sequence[float], device: str) -> torch.Tensor:
    """RGB pictures of one size -> pixels float32 [B, 3, H, W]."""
    import torch

    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images])).to(device)
    shift, scale = (torch.tensor(values, device=device)[:, None, None] for values in (mean, std))
    return (pixels.permute(0, 3, 1, 2).float() / 255 - shift) / scale


def _greyed(image: Image.Image, outside: np.ndarray) -> Image.Image:
    from PIL import Image

    array = np.array(image)
    array[outside] = GREY
    return Image.fromarray(array)
