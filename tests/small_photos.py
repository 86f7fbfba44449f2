"""Masks and regions in photos of 40 x 60 pixels, and colours that nobody would dispute."""

import numpy as np

from anygrain.types import Mask, Region

H, W = 40, 60

PLAIN = {  # sRGB
    "black": (12, 12, 14),
    "white": (245, 245, 242),
    "gray": (125, 125, 127),
    "red": (190, 25, 30),
    "orange": (245, 140, 20),
    "yellow": (250, 220, 30),
    "green": (40, 130, 50),
    "blue": (35, 70, 170),
    "purple": (110, 40, 130),
    "pink": (245, 150, 180),
    "brown": (100, 62, 35),
}


def rect(y0, x0, y1, x1):
    """Bool [H, W] with a filled box."""
    array = np.zeros((H, W), bool)
    array[y0:y1, x0:x1] = True
    return array


def region(box, **fields):
    """A region whose mask is the box (y0, x0, y1, x1)."""
    return Region(mask=Mask.from_array(rect(*box)), **fields)
