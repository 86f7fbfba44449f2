"""A Segmenter whose answers are known, and small photos for it."""

from io import BytesIO
from types import SimpleNamespace

import numpy as np
from PIL import Image

from anygrain.types import Prediction, Sample
from small_photos import H, W


class Known:
    """A Segmenter whose answers are known. answers: from the photo's number and a text to a mask, or None.

    scores: of a mask and of None.
    """

    info = {"name": "known", "fingerprint": "0123"}  # noqa: RUF012
    threshold = presence_threshold = 0.5
    model = SimpleNamespace(device="cpu")

    def __init__(self, answers, scores=(0.9, 0.1)):
        self.answers, self.scores, self.embedded, self.asked = answers, scores, [], []

    def embed(self, images):
        (image,) = images
        number = int(np.asarray(image)[0, 0, 0])
        self.embedded.append(number)
        return [(number, image)]

    def answer(self, embedding, prompts):
        number, image = embedding
        for prompt in prompts:
            self.asked.append((number, prompt.text))
            mask = self.answers(number, prompt.text)
            yield Prediction(
                masks=(np.zeros((image.height, image.width), bool) if mask is None else mask)[None],
                scores=np.float32([self.scores[mask is None]]),
                present=np.array([mask is not None]),
                prompts=(prompt,),
                low_res_logits=np.zeros((1, 1, 1), np.float32),
                image=image,
            )


def sample(number, *regions, exhaustive=(), source="toys", **fields):
    """The photo's number is its grey value, so that the stub knows which one it sees."""
    buffer = BytesIO()
    Image.new("RGB", (W, H), (number,) * 3).save(buffer, "PNG")
    return Sample(
        id=f"{source}/{number}",
        image=buffer.getvalue(),
        size=(H, W),
        regions=regions,
        source=source,
        exhaustive=frozenset(exhaustive),
        **fields,
    )
