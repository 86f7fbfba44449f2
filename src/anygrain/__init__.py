"""Segment images and video by saying what you want, at any granularity.

The public names are loaded on first use (PEP 562), so that ``import anygrain`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from anygrain.eval.runner import evaluate as evaluate
    from anygrain.hub import load as load
    from anygrain.hub import load_tagger as load_tagger
    from anygrain.images import open_image as open_image
    from anygrain.segmenter import Segmenter as Segmenter
    from anygrain.tagger import Tagger as Tagger
    from anygrain.types import ImageEmbedding as ImageEmbedding
    from anygrain.types import Mask as Mask
    from anygrain.types import Prediction as Prediction
    from anygrain.types import Prompt as Prompt
    from anygrain.types import Region as Region
    from anygrain.types import Sample as Sample

_HOME = {
    "evaluate": "anygrain.eval.runner",
    "load": "anygrain.hub",
    "load_tagger": "anygrain.hub",
    "open_image": "anygrain.images",
    "Segmenter": "anygrain.segmenter",
    "Tagger": "anygrain.tagger",
    "ImageEmbedding": "anygrain.types",
    "Mask": "anygrain.types",
    "Prediction": "anygrain.types",
    "Prompt": "anygrain.types",
    "Region": "anygrain.types",
    "Sample": "anygrain.types",
}

__all__ = ["__version__", *sorted(_HOME)]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'anygrain' has no attribute '{name}'")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
