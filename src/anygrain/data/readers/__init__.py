"""One file a layout, one function each: a data set folder in, Samples out, lazily and always in the same order."""

from anygrain.data.readers.coco import read_coco
from anygrain.data.readers.mask_folder import read_mask_folder
from anygrain.data.readers.region_maps import read_region_maps
from anygrain.data.readers.salient import read_salient
from anygrain.data.readers.video import read_video

__all__ = ["read_coco", "read_mask_folder", "read_region_maps", "read_salient", "read_video"]
