"""Adam with its parameter groups, the learning-rate schedule, and the running average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """How the weights are moved.

    lr: learning rate of everything but the encoders.
    image_lr_factor, text_lr_factor: the encoders' rates relative to it (paper: 0.1 for the image).
    weight_decay: decoupled decay of matrices; none on biases, norms, tables of embeddings and of relative positions. 0
        is plain Adam, as UniLSeg has it.
    betas, eps: of Adam.
    schedule: "step" divides the rate by 10 at each of ``drop_at`` (UniLSeg: after 10 of 15 epochs), "cosine" goes to
        ``final_factor``, "constant" stays.
    drop_at: part of the steps before each drop of "step".
    final_factor: rate at the end of "cosine" relative to its top.
    warmup: steps of linear rise at the start.
    grad_clip: largest norm of the gradient; 0 does not clip.
    ema_decay: the averaged weights keep this part of themselves at each step (e.g. 0.999); 0 keeps no average.
    """

    lr: float = 1e-4
    image_lr_factor: float = 0.1
    text_lr_factor: float = 1.0
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    schedule: Literal["step", "cosine", "constant"] = "step"
    drop_at: tuple[float, ...] = (10 / 15,)
    final_factor: float = 0.01
    warmup: int = 0
    grad_clip: float = 0.0
    ema_decay: float = 0.0

    def __post_init__(self):
        if self.lr <= 0:
            raise ValueError(f"lr must be above 0, got {self.lr}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be at least 0 and below 1, got {self.ema_decay}")


def make_optimizer(model: nn.Module, config: OptimConfig) -> tuple[torch.optim.AdamW, list[str]]:
    """The optimizer over the trainable parameters, and their names in the optimizer's order.

    Encoders are the parameters below ``image_encoder.`` and ``text_encoder.``. Each group keeps its own rate in
    ``base_lr``. Raises ValueError when nothing is trainable.
    """
    tables = {module.weight for module in model.modules() if isinstance(module, nn.Embedding)}
    groups: dict[tuple[float, float], list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim > 1 and parameter not in tables and not name.endswith("bias_table")
            decay = config.weight_decay if decays else 0.0
            groups.setdefault((config.lr * _factor(name, config), decay), []).append((name, parameter))
    if not groups:
        raise ValueError("every parameter of the model is frozen: there is nothing to train")
    rows = [
        {"params": [parameter for _, parameter in members], "lr": lr, "base_lr": lr, "weight_decay": decay}
        for (lr, decay), members in groups.items()
    ]
    optimizer = torch.optim.AdamW(rows, betas=config.betas, eps=config.eps, fused=True)
    return optimizer, [name for members in groups.values() for name, _ in members]


def _factor(name: str, config: OptimConfig) -> float:
    if name.startswith("image_encoder."):
        return config.image_lr_factor
    return config.text_lr_factor if name.startswith("text_encoder.") else 1.0


def lr_factor(step: int, steps: int, config: OptimConfig) -> float:
    """What the learning rates are multiplied with at step ``step`` (from 0) of ``steps``."""
    if step < config.warmup:
        return (step + 1) / config.warmup
    if config.schedule == "step":
        return 0.1 ** sum(step >= drop * steps for drop in config.drop_at)
    if config.schedule == "constant":
        return 1.0
    done = (step - config.warmup) / max(1, steps - config.warmup)
    return config.final_factor + (1 - config.final_factor) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Give each group its base rate times factor."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


class Average:
    """Exponential moving average of the trainable parameters, float32; buffers are taken as they are."""

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.weights: dict[str, Tensor] = {
            name: p.detach().float().clone() for name, p in model.named_parameters() if p.requires_grad
        }
        self.updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model's weights; fast at first, so that the start is forgotten."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        current = dict(model.named_parameters())
        for name, average in self.weights.items():
            average.lerp_(current[name].detach().float(), 1 - decay)

    @contextmanager
    def inside(self, model: nn.Module) -> Iterator[None]:
        """Inside the ``with`` block the model has the averaged weights."""
        kept = {name: p.detach().clone() for name, p in model.named_parameters() if name in self.weights}
        self._put(model, self.weights)
        try:
            yield
        finally:
            self._put(model, kept)

    @staticmethod
    @torch.no_grad()
    def _put(model: nn.Module, weights: dict[str, Tensor]) -> None:
        for name, parameter in model.named_parameters():
            if name in weights:
                parameter.copy_(weights[name])
