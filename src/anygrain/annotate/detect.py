"""Tag -> boxes: Grounding DINO (arXiv 2303.05499) through ``transformers``, many tags in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from anygrain.annotate.hub_teacher import HubTeacher
from anygrain.annotate.origin import changed, trace
from anygrain.annotate.pictures import IMAGENET_MEAN, IMAGENET_STD, normalised
from anygrain.annotate.step import Worker
from anygrain.types import Box, Region, Sample

if TYPE_CHECKING:
    from PIL import Image


class Found(NamedTuple):
    """One box (x0, y0, x1, y1) in pixels of the photograph, the tag it answers, and how sure."""

    tag: str
    box: Box
    score: float


class Text(NamedTuple):
    """Some tags as one text: token ids, and for each tag the positions of its tokens, first to last exclusive."""

    tags: tuple[str, ...]
    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True)
class GroundingDinoTeacher(HubTeacher):
    """Grounding DINO with a Swin-T ("-tiny") or Swin-B ("-base"). side, longest: size of its input in pixels.

    A photograph's short side becomes ``side``, but its long side at most ``longest``.
    """

    model: str = "IDEA-Research/grounding-dino-tiny"
    side: int = 800
    longest: int = 1333
    sizes: ClassVar = {
        "IDEA-Research/grounding-dino-tiny": "690 MB",
        "IDEA-Research/grounding-dino-base": "930 MB",
    }

    def load(self, device: str) -> GroundingDino:
        """Read weights and tokenizer."""
        from anygrain.hub import pick_device

        device, transformers = pick_device(device), self.transformers()
        model = self.read(transformers.GroundingDinoForObjectDetection).to(device).eval().requires_grad_(False)
        return GroundingDino(model, self.read(transformers.AutoTokenizer), device, (self.side, self.longest))


class GroundingDino:
    """Photographs and their tags -> boxes.

    model: transformers' GroundingDinoForObjectDetection; tokenizer: its BERT tokenizer.
    sides: of the input, short and longest long side in pixels.
    """

    def __init__(self, model: Any, tokenizer: Any, device: str, sides: tuple[int, int]):
        self.model, self.tokenizer, self.device, self.sides = model, tokenizer, device, sides

    def texts(self, tags: Sequence[str]) -> list[Text]:
        """Pack tags, each closed by a full stop, into as few texts as the model's text window allows.

        Longest first into the first text that has room. Tokens of different tags do not attend to each other, so that
        what a tag finds does not depend on its neighbours' words. Raises ValueError for a tag longer than the window.
        """
        tokens = {tag: self._tokens(tag) for tag in dict.fromkeys(tags)}
        window = int(self.model.config.max_text_len) - 2  # [CLS] and [SEP]
        texts: list[list[str]] = []
        for tag in sorted(tokens, key=lambda tag: -len(tokens[tag])):
            if len(tokens[tag]) > window:
                raise ValueError(f"the tag '{tag[:60]}' is longer than the {window} tokens that Grounding DINO reads")
            for text in texts:
                if sum(len(tokens[other]) for other in text) + len(tokens[tag]) <= window:
                    text.append(tag)
                    break
            else:
                texts.append([tag])
        return [self._text(text, tokens) for text in texts]

    def _tokens(self, tag: str) -> list[int]:
        plain = tag.lower().replace(".", " ").replace("?", " ")  # both would end the phrase
        return self.tokenizer(f"{plain} .", add_special_tokens=False)["input_ids"]

    def _text(self, tags: Sequence[str], tokens: dict[str, list[int]]) -> Text:
        ids, spans = [self.tokenizer.cls_token_id], []
        for tag in tags:
            spans.append((len(ids), len(ids) + len(tokens[tag]) - 1))  # without the full stop
            ids += tokens[tag]
        return Text(tuple(tags), (*ids, self.tokenizer.sep_token_id), tuple(spans))

    def size(self, image: Image.Image) -> tuple[int, int]:
        """(height, width) of the model's input for a photograph."""
        side, longest = self.sides
        scale = min(side / min(image.size), longest / max(image.size))
        return max(1, round(image.height * scale)), max(1, round(image.width * scale))

    def __call__(self, images: Sequence[Image.Image], texts: Sequence[Text], threshold: float) -> list[list[Found]]:
        """Boxes for each pair of photograph and text; all photographs need the same ``size``.

        A box answers the tag whose surest token it fits best, when that is at least ``threshold`` sure.
        """
        import torch
        from PIL import Image

        height, width = self.size(images[0])
        small = [image.resize((width, height), Image.Resampling.BILINEAR) for image in images]
        length = max(len(text.ids) for text in texts)
        ids = torch.tensor([[*text.ids, *[0] * (length - len(text.ids))] for text in texts], device=self.device)
        with torch.inference_mode():
            output = self.model(
                pixel_values=normalised(small, IMAGENET_MEAN, IMAGENET_STD, self.device),
                pixel_mask=torch.ones(len(images), height, width, dtype=torch.long, device=self.device),
                input_ids=ids,
                attention_mask=(ids != 0).long(),
                token_type_ids=torch.zeros_like(ids),
            )
        probability = output.logits.float().sigmoid().cpu().numpy()  # [B, Q, window]
        boxes = output.pred_boxes.float().cpu().numpy()  # [B, Q, 4], centre and size in 0..1
        return [_found(*row, threshold) for row in zip(images, texts, probability, boxes, strict=True)]


def _found(image: Image.Image, text: Text, probability: np.ndarray, boxes: np.ndarray, threshold: float) -> list[Found]:
    sure = np.stack([probability[:, first:last].max(1) for first, last in text.spans], 1)  # [Q, tags]
    best, scores = sure.argmax(1), sure.max(1)
    found = []
    for query in np.argsort(-scores, kind="stable"):
        if scores[query] < threshold:
            break
        x, y, w, h = boxes[query].tolist()
        corners = np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2]).clip(0, 1) * (image.size * 2)
        x0, y0, x1, y1 = corners.tolist()
        if x1 > x0 and y1 > y0:
            found.append(Found(text.tags[best[query]], (x0, y0, x1, y1), float(scores[query])))
    return found


@dataclass(frozen=True, kw_only=True)
class Detect:
    """Finds the boxes of every tag: of regions that have a category and neither box nor mask.

    threshold: below this a box is no answer (the released model's default).
    nms_iou: of two boxes of one tag that overlap more, the surer one stays.
    batch_size: pairs of photograph and text that go through the model together.
    """

    name: ClassVar[str] = "detect"
    teacher: GroundingDinoTeacher = GroundingDinoTeacher()
    threshold: float = 0.35
    nms_iou: float = 0.7
    batch_size: int = 1

    @property
    def teachers(self) -> tuple[GroundingDinoTeacher]:
        """Grounding DINO."""
        return (self.teacher,)

    def __call__(self, samples: list[Sample], worker: Worker) -> list[Sample]:
        """A tag becomes as many regions with boxes as were found; one that is not found goes."""
        dino = worker.teacher(self.teacher)
        jobs = [
            (row, text)
            for row, sample in enumerate(samples)
            for text in dino.texts([str(region.category) for region in sample.regions if _is_tag(region)])
        ]
        found: dict[int, list[Found]] = {row: [] for row in range(len(samples))}
        sized = {row: dino.size(worker.image(samples[row])) for row, _ in jobs}
        for _, same in groupby(sorted(jobs, key=lambda job: sized[job[0]]), key=lambda job: sized[job[0]]):
            group = list(same)
            for start in range(0, len(group), self.batch_size):
                rows, texts = zip(*group[start : start + self.batch_size], strict=True)
                answers = dino([worker.image(samples[row]) for row in rows], texts, self.threshold)
                for row, answer in zip(rows, answers, strict=True):
                    found[row] += answer
        return [self._boxed(sample, found[row], worker) for row, sample in enumerate(samples)]

    def _boxed(self, sample: Sample, found: list[Found], worker: Worker) -> Sample:
        regions = []
        for region in sample.regions:
            if not _is_tag(region):
                regions.append(region)
                continue
            boxes = without_doubles([one for one in found if one.tag == region.category], self.nms_iou)
            if not boxes:
                worker.drop(self.name, "tag not found")
            for one in boxes:
                regions.append(trace(region, self.name, self.teachers, one.score, box=one.box, score=one.score))
        return changed(sample, regions)


def without_doubles(found: Sequence[Found], threshold: float) -> list[Found]:
    """Greedy non-maximum suppression over boxes, best first; of equal scores the first wins."""
    from anygrain.data.boxes import iou

    kept: list[Found] = []
    for one in sorted(found, key=lambda one: -one.score):
        if all(iou(one.box, other.box) <= threshold for other in kept):
            kept.append(one)
    return kept


def _is_tag(region: Region) -> bool:
    return region.category is not None and region.mask is None and region.box is None
