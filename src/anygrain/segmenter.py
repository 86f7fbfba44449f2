"""Segmenter: encode an image once, then ask it anything."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from anygrain.images import open_image
from anygrain.models.unilseg import TextFeatures
from anygrain.types import ImageEmbedding, Prediction, Prompt

if TYPE_CHECKING:
    from PIL import Image

    from anygrain.models.unilseg import UniLSeg

_TEXTS_KEPT = 4096


class Segmenter:
    """A model ready to answer prompts. Safe to use from several threads.

    model: the network, in eval mode, on its device.
    info: what predictions say about the model; "name" and "fingerprint" are used here.
    threshold: mask probability above which a pixel belongs to the mask; None takes the model's own.
    presence_threshold: below this presence score the answer is "not there" (models that predict presence only).
    memory_limit: bytes that decoding a batch of prompts may take beside the weights.
    """

    def __init__(
        self,
        model: UniLSeg,
        info: Mapping[str, str],
        *,
        threshold: float | None = None,
        presence_threshold: float = 0.5,
        memory_limit: int = 2**30,
    ):
        self.model, self.info = model, dict(info)
        self.threshold = model.config.threshold if threshold is None else threshold
        self.presence_threshold, self.memory_limit = presence_threshold, memory_limit
        for name in ("threshold", "presence_threshold"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must lie between 0 and 1, got {getattr(self, name)}")
        self._texts: OrderedDict[str, tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = OrderedDict()
        self._lock = Lock()

    def embed(self, images: Sequence[Any], *, batch_size: int = 4) -> list[ImageEmbedding]:
        """Encode images: paths, bytes, file objects, uint8 arrays [H, W, 3] or PIL images.

        Neighbours that need the same input size go through the network together, ``batch_size`` at a time.
        Raises ImageError for one that cannot be read.
        """
        opened = [(open_image(image), _name(image)) for image in images]
        resizes = [self.model.make_resize((image.height, image.width)) for image, _ in opened]
        embeddings: list[ImageEmbedding] = []
        for _, group in groupby(range(len(opened)), key=lambda i: resizes[i].canvas):
            rows = list(group)
            for start in range(0, len(rows), batch_size):
                embeddings += self._embed([(*opened[i], resizes[i]) for i in rows[start : start + batch_size]])
        return embeddings

    @torch.inference_mode()
    def _embed(self, batch: list[tuple[Image.Image, str, Any]]) -> list[ImageEmbedding]:
        pixels = self.model.normalise(np.stack([resize.image(image) for image, _, resize in batch]))
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
        for start in range(0, len(prompts), size):
            yield from self._decode(embedding, prompts[start : start + size])

    def batch_size(self, embedding: ImageEmbedding) -> int:
        """How many prompts are decoded at a time, so that ``memory_limit`` holds."""
        return max(1, self.memory_limit // self.model.bytes_per_prompt(embedding.features))

    def _decode(self, embedding: ImageEmbedding, prompts: Sequence[Prompt]) -> Iterator[Prediction]:
        with torch.inference_mode():
            text = self._encode_texts([prompt.text or "" for prompt in prompts])
            index = torch.zeros(len(prompts), dtype=torch.long, device=self.model.device)
            output = self.model.decode(embedding.features, text, index)
        logits = output.mask_logits.float()
        presence = None if output.presence_logits is None else output.presence_logits.float().sigmoid().tolist()
        for row, prompt in enumerate(prompts):  # one at a time: a full-size float map of a large photo is big
            probabilities = self.model.probabilities(logits[row : row + 1], embedding.resize)[0]  # [H, W]
            mask = probabilities > self.threshold
            there = bool(mask.any())
            if presence is None:
                score = float(probabilities[mask].mean().clip(0, 1)) if there else 0.0
            else:
                score = presence[row]
                there = there and score >= self.presence_threshold
            yield Prediction(
                masks=mask[None] if there else np.zeros((1, *mask.shape), bool),
                scores=np.array([score], np.float32),
                present=np.array([there]),
                prompts=(prompt,),
                low_res_logits=logits[row : row + 1].cpu().numpy(),
                image=embedding.image,
                name=embedding.name,
                model=self.info,
            )

    def __call__(self, image: Any, text: str | Sequence[str]) -> Prediction:
        """Segment one image by one phrase or by several; one row of the prediction for each phrase."""
        texts = [text] if isinstance(text, str) else list(text)
        if not texts:
            raise ValueError("no text given: say what to segment, for instance 'the red car'")
        prompts = [Prompt(text=one) for one in texts]  # bad prompts fail before the image is encoded
        (embedding,) = self.embed([image])
        return stack(list(self.answer(embedding, prompts)))

    def _encode_texts(self, texts: Sequence[str]) -> TextFeatures:
        """Text features of N prompts; each string goes through the text encoder once."""
        with self._lock:
            new = [text for text in dict.fromkeys(texts) if text not in self._texts]
            if new:
                fresh = self.model.encode_text(new)
                for row, text in enumerate(new):
                    self._texts[text] = (fresh.words[row], fresh.real[row], fresh.sentence[row])
            rows = [self._texts[text] for text in texts]
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
