"""Following objects through the frames of a video: PSALM's procedure for DAVIS-2017 (official ``eval_davis``).

Every frame is asked for the regions of another one: at first those that were given, later those of the last frame whose
answers did not get in each other's way. Unlike the official evaluation nothing is known of a frame's true objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from anygrain.models.psalm.network import PSALM, Features
from anygrain.models.psalm.postprocess import all_queries
from anygrain.models.psalm.prompts import about_regions
from anygrain.types import ImageEmbedding

CANDIDATES = 10
"""Queries, best first, among which an object looks for one that no earlier object has taken."""
OVERLAP = 0.4
"""Two objects whose masks have a larger IoU are taken for confused."""


def follow(
    network: PSALM, first: ImageEmbedding, masks: Sequence[np.ndarray], frames: Iterable[ImageEmbedding]
) -> Iterator[np.ndarray]:
    """Label maps uint8 [H, W] of frames: 0, or 1 + the number of the object.

    first, masks: a frame and its objects, bool [H, W] each, at least one and at most 255. Of two objects that claim a
    pixel the later one has it.
    """
    if not 0 < len(masks) < 256:
        raise ValueError(f"{len(masks)} objects to follow: give between 1 and 255 masks")
    memory, objects = first, list(masks)
    for frame in frames:
        found = locate(network, frame, memory, objects)
        labels = np.zeros(found.shape[1:], np.uint8)
        for number, mask in enumerate(found, 1):
            labels[mask] = number
        yield labels
        if found.any((1, 2)).all() and not confused(found):
            memory, objects = frame, list(found)


@torch.inference_mode()
def locate(network: PSALM, frame: ImageEmbedding, memory: ImageEmbedding, masks: Sequence[np.ndarray]) -> np.ndarray:
    """Bool [K, H, W]: where the K regions of another frame are in this one, a different query for each."""
    there, here = Features(*memory.features), Features(*frame.features)
    regions = [torch.from_numpy(memory.resize.mask(mask)).to(network.device) for mask in masks]
    features = [network.region(there.tokens[0], region) for region in regions]
    if network.tokenizer is None:
        raise ValueError("this PSALM was built without a tokenizer: load it with anygrain.load")
    (answer,) = network.ask(here, [about_regions(network.tokenizer, len(masks))], features)
    scores, found = all_queries(answer.logits, answer.mask_logits, frame.resize)
    return found[choose(scores)].cpu().numpy()


def choose(scores: Tensor) -> list[int]:
    """A query for each object, in order, from scores [Q, K]: its best that is still free among its ``CANDIDATES``."""
    chosen: list[int] = []
    for number in range(scores.shape[1]):
        best = scores[:, number].argsort(descending=True)[:CANDIDATES].tolist()
        chosen.append(next((query for query in best if query not in chosen), best[-1]))
    return chosen


def confused(masks: np.ndarray) -> bool:
    """Whether any two of K masks bool [K, H, W] overlap by more than ``OVERLAP``."""
    flat = masks.reshape(len(masks), -1).astype(np.float32)
    shared = flat @ flat.T
    area = flat.sum(1)
    union = np.maximum(area[:, None] + area - shared, 1)
    return bool((np.triu(shared / union, 1) > OVERLAP).any())
