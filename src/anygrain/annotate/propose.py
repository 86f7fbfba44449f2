"""Box -> mask: Segment Anything (arXiv 2304.02643) through ``transformers``, or our Semantic-SAM, which also proposes
masks for a photograph of which nothing is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from anygrain.annotate.hub_teacher import HubTeacher
from anygrain.annotate.origin import changed, trace
from anygrain.annotate.own import SemanticSamTeacher
from anygrain.annotate.pictures import IMAGENET_MEAN, IMAGENET_STD, normalised
from anygrain.annotate.step import Worker
from anygrain.everything import EverythingOptions
from anygrain.resize import Resize
from anygrain.types import Box, Mask, Region, Sample

if TYPE_CHECKING:
    import torch
    from PIL import Image


@dataclass(frozen=True, kw_only=True)
class SamTeacher(HubTeacher):
    """SAM with a ViT-B, ViT-L or ViT-H ("facebook/sam-vit-base", "-large", "-huge"); the paper used ViT-H."""

    model: str = "facebook/sam-vit-base"
    sizes: ClassVar = {
        "facebook/sam-vit-base": "375 MB",
        "facebook/sam-vit-large": "1.2 GB",
        "facebook/sam-vit-huge": "2.6 GB",
    }

    def load(self, device: str) -> Sam:
        """Read the weights."""
        from anygrain.hub import pick_device

        device = pick_device(device)
        return Sam(self.read(self.transformers().SamModel).to(device).eval().requires_grad_(False), device)


class Sam:
    """Photographs -> embeddings; an embedding and boxes -> masks.

    model: transformers' SamModel in eval mode on ``device``.
    """

    def __init__(self, model: Any, device: str):
        self.model, self.device = model, device
        self.side = int(model.config.vision_config.image_size)

    def resize(self, image: Image.Image) -> Resize:
        """Long side to the model's, at the top left of a square, as in SAM's ResizeLongestSide."""
        return Resize.fit((image.height, image.width), self.side, self.side)

    def embed(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """B photographs of any sizes -> [B, C, h, w]."""
        import torch

        with torch.inference_mode():
            return self.model.get_image_embeddings(torch.cat([self._pixels(image) for image in images]))

    def masks(
        self, image: Image.Image, embedding: torch.Tensor, boxes: Sequence[Box], at_once: int = 32
    ) -> Iterator[tuple[np.ndarray, float]]:
        """A mask, bool [H, W], and its predicted IoU for each box, in pixels of the photograph.

        embedding: [C, h, w] of ``image``; at_once: boxes decoded together.
        """
        import torch

        resize = self.resize(image)
        for start in range(0, len(boxes), at_once):
            here = torch.from_numpy(resize.boxes(np.array(boxes[start : start + at_once]))).float()[None]
            with torch.inference_mode():
                output = self.model(
                    image_embeddings=embedding[None], input_boxes=here.to(self.device), multimask_output=False
                )
            logits = output.pred_masks[0, :, 0].float().cpu().numpy()  # [N, h, w]
            for row, iou in zip(logits, output.iou_scores[0, :, 0].tolist(), strict=True):
                yield resize.masks_back(row[None], 0.0)[0], min(1.0, max(0.0, float(iou)))

    def _pixels(self, image: Image.Image) -> torch.Tensor:
        """[1, 3, side, side]: zeros after normalisation to the right and below, as the model was trained."""
        from PIL import Image
        from torch.nn import functional

        height, width = self.resize(image).content
        small = image.resize((width, height), Image.Resampling.BILINEAR)
        pixels = normalised([small], IMAGENET_MEAN, IMAGENET_STD, self.device)
        return functional.pad(pixels, (0, self.side - width, 0, self.side - height))


class Masker(Protocol):
    """What a teacher of ``Propose`` loads."""

    def embed(self, images: Sequence[Image.Image]) -> Any:
        """What it makes of each photograph, by number."""
        ...

    def masks(self, image: Image.Image, embedding: Any, boxes: Sequence[Box]) -> Iterator[tuple[np.ndarray, float]]:
        """For each box, in pixels, a mask bool [H, W] and its predicted IoU in 0..1."""
        ...


@dataclass(frozen=True, kw_only=True)
class Propose:
    """Gives every region that has a box and no mask the teacher's mask for the box.

    teacher: SAM, or one of our Semantic-SAM models.
    min_iou: predicted IoU below which a mask is dropped.
    batch_size: photographs embedded together.
    """

    name: ClassVar[str] = "propose"
    teacher: SamTeacher | SemanticSamTeacher = SamTeacher()
    min_iou: float = 0.5
    batch_size: int = 1

    @property
    def teachers(self) -> tuple[SamTeacher | SemanticSamTeacher]:
        """What makes masks."""
        return (self.teacher,)

    def __call__(self, samples: list[Sample], worker: Worker) -> list[Sample]:
        """Regions that already have a mask, or have no box, stay as they are."""
        masker: Masker = worker.teacher(self.teacher)
        done = {}
        rows = [row for row, sample in enumerate(samples) if any(map(_bare, sample.regions))]
        for start in range(0, len(rows), self.batch_size):
            group = rows[start : start + self.batch_size]
            embeddings = masker.embed([worker.image(samples[row]) for row in group])
            for number, row in enumerate(group):
                done[row] = self._fill(samples[row], worker, masker, embeddings[number])
        return [done.get(row, sample) for row, sample in enumerate(samples)]

    def _fill(self, sample: Sample, worker: Worker, masker: Masker, embedding: Any) -> Sample:
        boxes = [region.box for region in sample.regions if _bare(region) and region.box is not None]
        masks = masker.masks(worker.image(sample), embedding, boxes)
        regions = []
        for region in sample.regions:
            if not _bare(region):
                regions.append(region)
                continue
            mask, iou = next(masks)
            if not mask.any():
                worker.drop(self.name, "empty mask")
            elif iou < self.min_iou:
                worker.drop(self.name, "predicted IoU below min_iou")
            else:
                score = iou if region.score is None else region.score
                fields = {"mask": Mask.from_array(mask), "score": score, "granularity": region.granularity or "object"}
                regions.append(trace(region, self.name, self.teachers, iou, **fields))
        return changed(sample, regions)


@dataclass(frozen=True, kw_only=True)
class Everything:
    """Adds a region without a name for all that a grid of clicks finds (``Segmenter.everything``), with its box.

    teacher: one of our Semantic-SAM models.
    options: the grid, the granularity, and what is kept; a region's score is the mask's predicted IoU.
    """

    name: ClassVar[str] = "everything"
    teacher: SemanticSamTeacher
    options: EverythingOptions = field(default_factory=EverythingOptions)

    @property
    def teachers(self) -> tuple[SemanticSamTeacher]:
        """What is clicked."""
        return (self.teacher,)

    def __call__(self, samples: list[Sample], worker: Worker) -> list[Sample]:
        """Regions that are there stay; memory does not grow with the number of clicks."""
        segmenter = worker.teacher(self.teacher).segmenter
        embeddings = worker.embeddings(samples, segmenter)
        done = []
        for sample, embedding in zip(samples, embeddings, strict=True):
            found = [proposal.to_region({}) for proposal in segmenter.propose(embedding, self.options)]
            new = [
                trace(replace(region, origin={}), self.name, self.teachers, region.score, box=region.mask.box)
                for region in found
                if region.mask is not None
            ]
            done.append(changed(sample, (*sample.regions, *new)))
        return done


def _bare(region: Region) -> bool:
    return region.box is not None and region.mask is None and not region.ignore
