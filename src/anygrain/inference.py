"""How a model is asked, whatever the kind of prompt: thresholds, memory, arithmetic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

if TYPE_CHECKING:
    from anygrain.types import ImageEmbedding


class Model(Protocol):
    """What is needed of a network here."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        ...

    def bytes_per_prompt(self, features: Sequence[torch.Tensor], /) -> int:
        """What decoding one more prompt takes at most."""
        ...


@dataclass(frozen=True, kw_only=True)
class Answering:
    """The options of a Segmenter, as its answers need them; see there.

    info: what predictions say about the model.
    """

    info: Mapping[str, str]
    threshold: float
    presence_threshold: float
    memory_limit: int
    bf16: bool
    joint: bool

    def batch_size(self, model: Model, embedding: ImageEmbedding) -> int:
        """How many prompts are decoded at a time, so that ``memory_limit`` holds."""
        return max(1, self.memory_limit // model.bytes_per_prompt(embedding.features))

    @contextmanager
    def arithmetic(self, model: Model) -> Iterator[None]:
        """No gradients, and bfloat16 where asked for."""
        with torch.inference_mode(), torch.autocast(model.device.type, torch.bfloat16, enabled=self.bf16):
            yield
