"""Label maps: mIoU, pixel accuracy and per-category IoU from one confusion matrix, also for parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


class Confusion:
    """How many pixels of each true category were given to each category, over all photos.

    ``miou``: mean over categories of TP / (TP + FP + FN), all photos together (Everingham et al., Pascal VOC; the
    evaluators of ADE20K, Cityscapes and COCO-Stuff count alike). A category that is neither true nor found anywhere is
    left out of the mean. ``pixel_accuracy``: share of labelled pixels that are right; ``mean_accuracy``: mean over true
    categories of TP / (TP + FN).

    categories: names, in order of index. ignore: the index of pixels that do not count, whatever is found there.
    matrix: int64 [C, C + 1]: true category, found category; the last column is for pixels given to none.
    """

    def __init__(self, categories: Sequence[str], ignore: int = 255):
        self.categories = tuple(categories)
        self.ignore = ignore
        self.matrix = np.zeros((len(self.categories), len(self.categories) + 1), np.int64)

    def update(self, found: np.ndarray, truth: np.ndarray) -> None:
        """Count one photo: two integer maps [H, W]. A found index outside 0..C-1 means no category.

        Raises ValueError when the sizes differ (truth is never resized) or truth holds an index without a name.
        """
        if found.shape != truth.shape:
            raise ValueError(f"the label map is of size {found.shape} but its truth of {truth.shape}; resize the map")
        count = len(self.categories)
        counted = truth != self.ignore
        true = truth[counted].astype(np.int64)
        if true.size and not (true.min() >= 0 and true.max() < count):
            wrong = sorted(set(true[(true < 0) | (true >= count)].tolist()))
            raise ValueError(f"the truth holds {wrong}, but there are {count} categories and {self.ignore} is ignored")
        seen = found[counted].astype(np.int64)
        seen[(seen < 0) | (seen >= count)] = count
        cells = np.bincount(true * (count + 1) + seen, minlength=count * (count + 1))
        self.matrix += cells.reshape(count, count + 1)

    def merge(self, other: Confusion) -> None:
        """Take in what another one counted. Raises ValueError when the categories differ."""
        if (other.categories, other.ignore) != (self.categories, self.ignore):
            raise ValueError("confusion matrices of other categories cannot be merged")
        self.matrix += other.matrix

    def per_category(self) -> dict[str, float]:
        """IoU of each category that is true or found anywhere."""
        right = np.diagonal(self.matrix)
        union = self.matrix.sum(1) + self.matrix[:, :-1].sum(0) - right
        rows = zip(self.categories, right.tolist(), union.tolist(), strict=True)
        return {name: hit / whole for name, hit, whole in rows if whole}

    def compute(self) -> dict[str, float]:
        """``miou``, ``pixel_accuracy``, ``mean_accuracy``, ``categories``; nothing when no pixel was labelled."""
        ious, pixels, true = self.per_category(), int(self.matrix.sum()), self.matrix.sum(1)
        if not pixels:
            return {}
        right = np.diagonal(self.matrix)
        recalls = (right[true > 0] / true[true > 0]).tolist()
        return {
            "miou": sum(ious.values()) / len(ious),
            "pixel_accuracy": int(right.sum()) / pixels,
            "mean_accuracy": sum(recalls) / len(recalls),
            "categories": len(ious),
        }

    def of_wholes(self, whole_of: Mapping[str, str]) -> dict[str, float]:
        """Part mIoU two ways. whole_of: the whole of each part ("dog head" -> "dog"); others, as background, are out.

        ``part_miou``: mean over parts. ``whole_miou``: mean over wholes of the mean over their parts, so that a whole
        of many parts weighs no more than one of few.
        """
        groups: dict[str, list[float]] = {}
        for name, iou in self.per_category().items():
            if name in whole_of:
                groups.setdefault(whole_of[name], []).append(iou)
        parts = [iou for group in groups.values() for iou in group]
        if not parts:
            return {}
        means = [sum(group) / len(group) for group in groups.values()]
        return {"part_miou": sum(parts) / len(parts), "whole_miou": sum(means) / len(means)}
