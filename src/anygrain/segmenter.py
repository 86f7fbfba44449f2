"""Segmenter: encode an image once, then ask it anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anygrain.everything import EverythingOptions, Proposal
from anygrain.images import open_image
from anygrain.inference import Answering
from anygrain.language_answers import LanguageAnswers
from anygrain.point_answers import PointAnswers
from anygrain.text_answers import TextAnswers
from anygrain.tiles import Tile, TileOption, layout, most_tiles
from anygrain.types import Box, ImageEmbedding, Prediction, Prompt, Region, Task

if TYPE_CHECKING:
    from PIL import Image

    from anygrain.models.psalm.network import PSALM
    from anygrain.models.semantic_sam import SemanticSAM
    from anygrain.models.unilseg import UniLSeg

_ANSWERS: dict[str, Callable[[Any, Answering], TextAnswers | PointAnswers | LanguageAnswers]] = {
    "unilseg": TextAnswers,
    "semantic_sam": PointAnswers,
    "psalm": LanguageAnswers,
}


class Segmenter:
    """A model ready to answer prompts. Safe to use from several threads.

    model: the network, in eval mode, on its device.
    info: what predictions say about the model; "name" and "fingerprint" are used here.
    threshold: mask probability above which a pixel belongs to the mask; None takes the model's own.
    presence_threshold: below this presence score the answer is "not there" (models that predict presence only).
    memory_limit: bytes that decoding a batch of prompts may take beside the weights; None takes 96 MiB on a CPU, where
        larger batches are no faster, and 1 GiB elsewhere.
    bf16: compute in bfloat16, about twice as fast where the processor has it; borders move by a pixel here and there.
    tile: "auto" also looks at overlapping pieces of photos of more than 1.5 times the model's input size, where things
        are small; a whole number from 2 to 8 says how many pieces along the longer side at the most; "off" never does.
        Smaller photos are answered the same to the bit. For models that keep a photo's aspect ("fit").
    joint: clicks and boxes that are asked together see each other, as in Semantic-SAM's released demo: an answer then
        depends on what else is asked. By default it does not.
    """

    def __init__(
        self,
        model: UniLSeg | SemanticSAM | PSALM,
        info: Mapping[str, str],
        *,
        threshold: float | None = None,
        presence_threshold: float = 0.5,
        memory_limit: int | None = None,
        bf16: bool = False,
        tile: TileOption = "off",
        joint: bool = False,
    ):
        self.model, self.info = model, dict(info)
        self.threshold = model.config.threshold if threshold is None else threshold
        self.presence_threshold, self.bf16 = presence_threshold, bf16
        self.memory_limit = memory_limit or (3 * 2**25 if model.device.type == "cpu" else 2**30)
        for name in ("threshold", "presence_threshold"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must lie between 0 and 1, got {getattr(self, name)}")
        self._most_tiles = most_tiles(tile)
        if self._most_tiles > 1 and ("text" not in model.accepts or model.config.resize != "fit"):
            raise ValueError(f"model '{self.info['name']}' cannot look at a photo in tiles: leave tile at 'off'")
        self._how = Answering(
            info=self.info,
            threshold=self.threshold,
            presence_threshold=presence_threshold,
            memory_limit=self.memory_limit,
            bf16=bf16,
            joint=joint,
        )
        self._answers = _ANSWERS[model.architecture](model, self._how)

    def embed(self, images: Sequence[Any], *, batch_size: int = 4, tiles: bool = True) -> list[ImageEmbedding]:
        """Encode images: paths, bytes, file objects, uint8 arrays [H, W, 3] or PIL images.

        Neighbours that need the same input size go through the network together, ``batch_size`` at a time.
        tiles: False for frames of a video and whatever else needs an answer soon: as if ``tile`` were "off".
        Raises ImageError for one that cannot be read.
        """
        opened = [(open_image(image), _name(image)) for image in images]
        resizes = [self.model.make_resize((image.height, image.width)) for image, _ in opened]
        embeddings: list[ImageEmbedding] = []
        for _, group in groupby(range(len(opened)), key=lambda i: resizes[i].canvas):
            rows = list(group)
            for start in range(0, len(rows), batch_size):
                embeddings += self._embed([(*opened[i], resizes[i]) for i in rows[start : start + batch_size]])
        return [replace(whole, tiles=self._embed_tiles(whole)) for whole in embeddings] if tiles else embeddings

    def _embed(self, batch: list[tuple[Image.Image, str, Any]]) -> list[ImageEmbedding]:
        with self._how.arithmetic(self.model):
            pixels = self.model.prepare([image for image, _, _ in batch], [resize for _, _, resize in batch])
            features = self.model.encode_image(pixels)
        return [
            ImageEmbedding(
                features=tuple(level[row : row + 1] for level in features),
                resize=resize,
                model=self.info["fingerprint"],
                image=image,
                name=name,
            )
            for row, (image, name, resize) in enumerate(batch)
        ]

    def _embed_tiles(self, whole: ImageEmbedding) -> tuple[Tile, ...]:
        tiles = []
        for top, left, bottom, right in layout(whole.resize.source, self.model.config.input_size, self._most_tiles):
            resize = self.model.make_resize((bottom - top, right - left))
            (piece,) = self._embed([(whole.image.crop((left, top, right, bottom)), whole.name, resize)])
            tiles.append(Tile(top=top, left=left, features=piece.features, resize=resize))
        return tuple(tiles)

    def segment(self, embeddings: Sequence[ImageEmbedding], prompts: Sequence[Prompt]) -> list[Prediction]:
        """One prediction for each pair of embedding and prompt, in order. Equal to asking them one by one.

        Prompts of the same embedding are decoded together when they stand beside each other.
        """
        if len(embeddings) != len(prompts):
            raise ValueError(f"{len(embeddings)} embeddings but {len(prompts)} prompts: give one embedding a prompt")
        predictions: list[Prediction] = []
        for _, group in groupby(range(len(prompts)), key=lambda i: id(embeddings[i])):
            rows = list(group)
            predictions += self.answer(embeddings[rows[0]], [prompts[i] for i in rows])
        return predictions

    def answer(self, embedding: ImageEmbedding, prompts: Sequence[Prompt]) -> Iterator[Prediction]:
        """Predictions for one image, made as they are asked for: memory does not grow with the number of prompts.

        A text gives one row, a click or a box one for each granularity asked for. Raises ValueError for a prompt that
        the model does not accept or that does not fit the image.
        """
        self._check_mine(embedding)
        for prompt in prompts:
            self._check_kinds(prompt.kinds)
            prompt.check_fits(embedding.resize.source)
        return self._answers.answer(embedding, prompts)

    def label_maps(self, embedding: ImageEmbedding, texts: Sequence[str], *, background: bool = False) -> np.ndarray:
        """Which text each pixel fits best: int32 [2, H, W] of places in ``texts``, -1 for none of them.

        The first map takes the highest logit of all texts, the second of those that the model calls present. Of equal
        ones the first in order. background: a pixel at which no probability is above one half has none.
        Equal to comparing the masks of ``answer`` pixel by pixel, but for logits that differ by less than rounding, in
        less time and memory. For models of texts whose ``resize`` is "fit".
        Raises ValueError for other models and for an empty text.
        """
        self._check_mine(embedding)
        if not isinstance(self._answers, TextAnswers) or embedding.resize.kind == "letterbox":
            raise ValueError(
                f"model '{self.info['name']}' makes no label maps of texts: ask it for masks or categories"
            )
        if not all(text.strip() for text in texts):
            raise ValueError("a text for the label map is empty: say what to look for, for instance 'all trees'")
        return self._answers.label_maps(embedding, texts, background=background)

    def _check_kinds(self, kinds: frozenset[str]) -> None:
        if unknown := kinds - self.model.accepts:
            raise ValueError(
                f"model '{self.info['name']}' does not accept {', '.join(sorted(unknown))} as a prompt; it accepts "
                f"{', '.join(sorted(self.model.accepts))}"
            )

    def _check_mine(self, embedding: ImageEmbedding) -> None:
        if embedding.model != self.info["fingerprint"]:
            raise ValueError(f"this embedding of '{embedding.name}' was made by another model; embed the image again")

    def batch_size(self, embedding: ImageEmbedding) -> int:
        """How many prompts are decoded at a time, so that ``memory_limit`` holds."""
        return self._how.batch_size(self.model, embedding)

    def __call__(
        self,
        image: Any,
        text: str | Sequence[str] | None = None,
        *,
        points: Sequence[tuple[float, float]] = (),
        point_labels: Sequence[int] = (),
        box: Box | None = None,
        granularity: str | int | None = None,
        categories: Sequence[str] = (),
        part_categories: Sequence[str] = (),
        task: Task = "panoptic",
    ) -> Prediction:
        """Segment one image by phrases, one row of the prediction for each, by clicks and a box on one thing, or by
        categories alone, a row for each segment or instance.

        The other fields are those of a ``Prompt``; what is clicked gives a row for each granularity asked for.
        """
        texts = [text] if isinstance(text, str) else list(text or ())
        prompts = [Prompt(text=one) for one in texts]  # bad prompts fail before the image is encoded
        if len(points) or box is not None:
            prompts.append(
                Prompt(
                    points=tuple((x, y) for x, y in points),
                    point_labels=tuple(point_labels),
                    box=box,
                    granularity=granularity,
                    categories=tuple(categories),
                    part_categories=tuple(part_categories),
                )
            )
        elif categories:
            prompts.append(Prompt(categories=tuple(categories), task=task))
        if not prompts:
            raise ValueError("no text given: say what to segment, for instance 'the red car', or give a click or a box")
        (embedding,) = self.embed([image])
        return stack(list(self.answer(embedding, prompts)))

    def everything(self, image: Any, granularity: str | int = "all", **options: Any) -> list[Region]:
        """Find all that can be clicked in an image, from a grid of clicks, best first. For models that take points.

        granularity, options: fields of ``EverythingOptions``. Memory does not grow with the number of clicks.
        """
        (embedding,) = self.embed([image])
        proposals = self.propose(embedding, EverythingOptions(granularity=granularity, **options))
        return [proposal.to_region(self.info) for proposal in proposals]

    def propose(
        self,
        embedding: ImageEmbedding,
        options: EverythingOptions | None = None,
        categories: Sequence[str] = (),
        part_categories: Sequence[str] = (),
    ) -> list[Proposal]:
        """``everything`` of an embedded image, with all that is known of each mask.

        categories, part_categories: names of objects and parts to choose from.
        """
        answers = self._clickable(embedding)
        if categories or part_categories:
            self._check_kinds(frozenset({"categories"}))
        return answers.propose(embedding, options or EverythingOptions(), categories, part_categories)

    def token_areas(self, embedding: ImageEmbedding, points_per_side: int) -> np.ndarray:
        """What share of the photo the mask of each token covers, for a grid of clicks: float64 [N, T].

        For models that take points; this is what ``anygrain calibrate-levels`` orders the levels by.
        """
        return self._clickable(embedding).token_areas(embedding, EverythingOptions(points_per_side=points_per_side))

    def evidence(self, embedding: ImageEmbedding, phrases: Sequence[str]) -> list[tuple[float, float]]:
        """Of each phrase the best query's logit and the mean probability inside its mask, before any calibration.

        For models that read (PSALM); this is what ``anygrain calibrate-presence`` works on.
        """
        if not isinstance(self._answers, LanguageAnswers):
            raise ValueError(
                f"model '{self.info['name']}' learns by itself what is there: there is nothing to calibrate"
            )
        self._check_mine(embedding)
        return self._answers.evidence(embedding, [Prompt(text=phrase) for phrase in phrases])

    def _clickable(self, embedding: ImageEmbedding) -> PointAnswers:
        if not isinstance(self._answers, PointAnswers):
            raise ValueError(f"model '{self.info['name']}' takes no clicks, so a grid of clicks cannot be asked of it")
        self._check_mine(embedding)
        return self._answers

    def reading(self, text: str) -> str:
        """How the model reads a text: a noun that it was never trained on stands for the nearest name that it was.

        The text itself where there is no such noun or name, and for models that have no ``vocabulary.json``.
        """
        return self._answers.reading(text) if isinstance(self._answers, TextAnswers) else text


def stack(predictions: Sequence[Prediction]) -> Prediction:
    """Predictions of one image, one under the other.

    What only some of them tell is filled where the others do not: no granularity, no levels, a predicted IoU that is no
    number, no category.
    """
    first = predictions[0]

    def rows(name: str, nothing: Any) -> tuple[Any, ...]:
        if not any(getattr(p, name) for p in predictions):
            return ()
        return tuple(row for p in predictions for row in (getattr(p, name) or [nothing] * len(p.masks)))

    def ious(p: Prediction) -> np.ndarray:
        return np.full(len(p.masks), np.nan, np.float32) if p.predicted_iou is None else p.predicted_iou

    told = any(p.predicted_iou is not None for p in predictions)
    return Prediction(
        masks=np.concatenate([p.masks for p in predictions]),
        scores=np.concatenate([p.scores for p in predictions]),
        present=np.concatenate([p.present for p in predictions]),
        prompts=tuple(prompt for p in predictions for prompt in p.prompts),
        low_res_logits=np.concatenate([p.low_res_logits for p in predictions]),
        image=first.image,
        name=first.name,
        model=first.model,
        granularity=rows("granularity", ""),
        levels=rows("levels", ()),
        predicted_iou=np.concatenate([*map(ious, predictions)]) if told else None,
        categories=rows("categories", None),
        part_categories=rows("part_categories", None),
        things=rows("things", None),
    )


def _name(image: Any) -> str:
    """File name of a path or of an open file, else "image"."""
    if isinstance(image, (str, Path)):
        return Path(image).name
    name = getattr(image, "filename", None) or getattr(image, "name", None)
    return Path(name).name if isinstance(name, str) and name else "image"
