"""Segmenter: encode an image once, then ask it anything."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from anygrain.images import open_image
from anygrain.masks import main_part
from anygrain.models.texts import TextFeatures
from anygrain.phrases import points_at_one
from anygrain.tiles import Fusion, Tile, TileOption, layout, most_tiles
from anygrain.types import ImageEmbedding, Prediction, Prompt
from anygrain.vocabulary import Reader

if TYPE_CHECKING:
    from PIL import Image

    from anygrain.models.unilseg import UniLSeg

_TEXTS_KEPT = 4096
_TEXTS_AT_ONCE = 32  # encoding them together takes a fraction of the time, and the first answer waits for them


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
    """

    def __init__(
        self,
        model: UniLSeg,
        info: Mapping[str, str],
        *,
        threshold: float | None = None,
        presence_threshold: float = 0.5,
        memory_limit: int | None = None,
        bf16: bool = False,
        tile: TileOption = "off",
    ):
        self.model, self.info = model, dict(info)
        self.threshold = model.config.threshold if threshold is None else threshold
        self.presence_threshold, self.bf16 = presence_threshold, bf16
        self.memory_limit = memory_limit or (3 * 2**25 if model.device.type == "cpu" else 2**30)
        for name in ("threshold", "presence_threshold"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must lie between 0 and 1, got {getattr(self, name)}")
        self._most_tiles = most_tiles(tile)
        if self._most_tiles > 1 and model.config.resize != "fit":
            raise ValueError(f"model '{self.info['name']}' cannot look at a photo in tiles: leave tile at 'off'")
        encode = model.encode_text
        self._reader = Reader(model.vocabulary, lambda texts: encode(texts).sentence) if model.vocabulary else None
        self._texts: OrderedDict[str, tuple[Tensor, Tensor, Tensor]] = OrderedDict()
        self._lock = Lock()

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
        images = np.stack([resize.image(image) for image, _, resize in batch])
        with self._arithmetic():
            features = self.model.encode_image(self.model.normalise(images))
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
        """Predictions for one image, made as they are asked for: memory does not grow with the number of prompts."""
        if embedding.model != self.info["fingerprint"]:
            raise ValueError(f"this embedding of '{embedding.name}' was made by another model; embed the image again")
        for prompt in prompts:
            if unknown := prompt.kinds - self.model.accepts:
                raise ValueError(
                    f"model '{self.info['name']}' does not accept {', '.join(sorted(unknown))} as a prompt"
                )
        size = self.batch_size(embedding)
        for start in range(0, len(prompts), _TEXTS_AT_ONCE):
            group = prompts[start : start + _TEXTS_AT_ONCE]
            with self._arithmetic():
                text = self._encode_texts([prompt.text or "" for prompt in group])
            for row in range(0, len(group), size):
                rows = slice(row, row + size)
                yield from self._decode(embedding, group[rows], text.select(rows))

    def batch_size(self, embedding: ImageEmbedding) -> int:
        """How many prompts are decoded at a time, so that ``memory_limit`` holds."""
        return max(1, self.memory_limit // self.model.bytes_per_prompt(embedding.features))

    def _decode(self, embedding: ImageEmbedding, prompts: Sequence[Prompt], text: TextFeatures) -> Iterator[Prediction]:
        logits, scores = self._ask(embedding.features, text)
        if embedding.tiles:
            logits = self._refine(embedding, text, logits, scores)
        logits, presence = logits.cpu(), None if scores is None else scores.tolist()
        for row, prompt in enumerate(prompts):  # one at a time: the masks of a large photo are big
            yield self._predict(embedding, prompt, logits[row : row + 1], None if presence is None else presence[row])

    def _ask(self, features: tuple[Tensor, ...], text: TextFeatures) -> tuple[Tensor, Tensor | None]:
        """Mask logits [N, h, w] and presence scores [N], if predicted, of N prompts about one picture."""
        with self._arithmetic():
            index = torch.zeros(len(text.real), dtype=torch.long, device=self.model.device)
            output = self.model.decode(features, text, index)
            presence = None if output.presence_logits is None else output.presence_logits.float().sigmoid()
            return output.mask_logits.float(), presence

    def _refine(self, embedding: ImageEmbedding, text: TextFeatures, logits: Tensor, presence: Tensor | None) -> Tensor:
        """Logits of the whole [N, h, w] -> with those of the tiles [N, H, W]; what is not there is not looked for."""
        fusion = Fusion(logits, embedding.resize, embedding.tiles)
        there = torch.ones(len(logits), dtype=torch.bool) if presence is None else presence >= self.presence_threshold
        rows = there.nonzero()[:, 0].to(logits.device)
        if len(rows):
            asked = text.select(rows)
            for tile in embedding.tiles:
                fusion.add(tile, rows, *self._ask(tile.features, asked))
        return fusion.logits

    def _predict(self, embedding: ImageEmbedding, prompt: Prompt, logits: Tensor, score: float | None) -> Prediction:
        """logits [1, h, w], score of the presence head -> the answer in the image's own size."""
        shown = logits
        if self.model.config.main_part and points_at_one(prompt.text or ""):
            shown = self._main_part(logits)
        masks = self.model.masks(shown, embedding.resize, self.threshold)  # [1, H, W]
        there = bool(masks.any())
        if score is None:
            score = self._mean_inside(logits) if there else 0.0
        elif not there:
            score = min(score, float(logits.sigmoid().max()))  # a high presence without a pixel is no confidence
        elif score < self.presence_threshold:
            there, masks = False, np.zeros_like(masks)
        return Prediction(
            masks=masks,
            scores=np.array([score], np.float32),
            present=np.array([there]),
            prompts=(prompt,),
            low_res_logits=logits.numpy(),
            image=embedding.image,
            name=embedding.name,
            model=self.info,
        )

    def _main_part(self, logits: Tensor) -> Tensor:
        """Logits [1, h, w] with all parts of the mask but the largest as far below the threshold as they were above."""
        level = math.log(self.threshold / (1 - self.threshold))
        inside = (logits[0] > level).numpy()
        others = torch.from_numpy(inside & ~main_part(inside))
        return torch.where(others, 2 * level - logits, logits)

    def _mean_inside(self, logits: Tensor) -> float:
        """The score of a model without a presence head: mean probability inside the mask, at the decoder's size."""
        probability = logits.sigmoid()
        inside = probability[probability > self.threshold]
        return float(inside.mean() if len(inside) else probability.max())  # a mask between cells: their largest

    @contextmanager
    def _arithmetic(self) -> Iterator[None]:
        device = self.model.device.type
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=self.bf16):
            yield

    def __call__(self, image: Any, text: str | Sequence[str]) -> Prediction:
        """Segment one image by one phrase or by several; one row of the prediction for each phrase."""
        texts = [text] if isinstance(text, str) else list(text)
        if not texts:
            raise ValueError("no text given: say what to segment, for instance 'the red car'")
        prompts = [Prompt(text=one) for one in texts]  # bad prompts fail before the image is encoded
        (embedding,) = self.embed([image])
        return stack(list(self.answer(embedding, prompts)))

    def reading(self, text: str) -> str:
        """How the model reads a text: a noun that it was never trained on stands for the nearest name that it was.

        The text itself where there is no such noun or name, and for models that have no ``vocabulary.json``.
        """
        if self._reader is None:
            return text
        with self._arithmetic():
            return self._reader(text)

    def _encode_texts(self, texts: Sequence[str]) -> TextFeatures:
        """Text features of N prompts; each string goes through the text encoder once."""
        with self._lock:
            new = [text for text in dict.fromkeys(texts) if text not in self._texts]
            if new:
                fresh = self.model.encode_text([self.reading(text) for text in new])
                for row, text in enumerate(new):
                    self._texts[text] = (fresh.words[row], fresh.real[row], fresh.sentence[row])
            rows = [self._texts[text] for text in texts]
            for text in texts:
                self._texts.move_to_end(text)  # the least recently used goes first
            while len(self._texts) > _TEXTS_KEPT:
                self._texts.popitem(last=False)
        words, real, sentence = (torch.stack(column) for column in zip(*rows, strict=True))
        return TextFeatures(words, real, sentence)


def stack(predictions: Sequence[Prediction]) -> Prediction:
    """Predictions of one image, one under the other."""
    first = predictions[0]
    return Prediction(
        masks=np.concatenate([p.masks for p in predictions]),
        scores=np.concatenate([p.scores for p in predictions]),
        present=np.concatenate([p.present for p in predictions]),
        prompts=tuple(prompt for p in predictions for prompt in p.prompts),
        low_res_logits=np.concatenate([p.low_res_logits for p in predictions]),
        image=first.image,
        name=first.name,
        model=first.model,
    )


def _name(image: Any) -> str:
    """File name of a path or of an open file, else "image"."""
    if isinstance(image, (str, Path)):
        return Path(image).name
    name = getattr(image, "filename", None) or getattr(image, "name", None)
    return Path(name).name if isinstance(name, str) and name else "image"
