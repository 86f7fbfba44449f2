"""The training loop.

A run is a folder: ``config.json``, ``log.jsonl``, ``curves.png``, ``checkpoints/step-*`` and ``checkpoints/best``.
Started again with the same configuration it goes on where its last checkpoint was, to the bit on the same machine.
Started by torchrun, its processes share the weights and the photos of each step (see ``distributed``).
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any, Literal

import torch
from torch import Tensor, nn

from anygrain import config as configs
from anygrain.data.batch import Batch, BatchConfig
from anygrain.data.clicks import ClickBatch, ClickConfig, ClickDataset
from anygrain.data.loader import Source, StepDataset, TextDataset, batches, open_sources
from anygrain.data.mixture import MixtureConfig
from anygrain.data.psalm_batch import PSALMBatch, PSALMDataset
from anygrain.data.psalm_tasks import PSALMBatchConfig
from anygrain.models.low_rank import add_low_rank
from anygrain.models.psalm.tokenizer import BPETokenizer
from anygrain.train import checkpoint
from anygrain.train.distributed import Processes, whole
from anygrain.train.log import Log, draw_curves
from anygrain.train.meter import Meter
from anygrain.train.optim import Average, OptimConfig, lr_factor, make_optimizer, set_lr
from anygrain.train.stop import stop_signal
from anygrain.train.texts import TextCache, encode_words

Evaluate = Callable[[Any, int], Mapping[str, float]]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A whole training run.

    model: the model's config; its ``mean`` and ``std`` normalise the pixels.
    data: folders of shards; a source is named after its folder.
    mixture: how often each source is seen.
    batch: prompts (texts, clicks and boxes, or the tasks of PSALM), training square and augmentation.
    batch_images: images B a step, of all processes together.
    steps: length of the run.
    optim: learning rates, schedule, clipping, averaging.
    freeze_text: the text encoder stays as it is, and the features of each text are remembered.
    text_cache: how many texts are remembered.
    text_mixing: each prompt's text features are moved by up to this part of the way to those of a random word, so that
        words near to those of the training set mean the same; 0 leaves them as they are. Needs ``freeze_text``.
    freeze_image_steps: the image encoder stays as it is for the first steps.
    freeze: prefixes of parameter names that stay as they are (early stages of an encoder: cheaper steps).
    freeze_image_norm: BatchNorm of the image encoder keeps its statistics (for small batches).
    lora_rank: of the low-rank products that are trained instead of the language model (``models.low_rank``); 0 trains
        the language model itself, as far as ``freeze`` lets it.
    checkpointing: each layer of the language model is computed twice instead of keeping its inner values.
    bf16: bfloat16 autocast; "auto" uses it on a GPU only, True also on a CPU.
    channels_last: memory layout that makes convolutions faster; not with several processes.
    device: "auto", "cpu", "cuda", ...
    workers: processes that prepare batches; 0 prepares them in the training process.
    log_every, eval_every, checkpoint_every: steps between; evaluation and checkpoint also come after the last step.
    keep_checkpoints: how many numbered ones stay.
    best_metric: name of the evaluation figure (larger is better) whose best checkpoint is kept as "best".
    seed: of data, dropout and shuffling.
    """

    model: Any
    data: tuple[str, ...] = ()
    mixture: MixtureConfig = field(default_factory=MixtureConfig)
    batch: BatchConfig | ClickConfig | PSALMBatchConfig = field(default_factory=BatchConfig)
    batch_images: int = 8
    steps: int = 10_000
    optim: OptimConfig = field(default_factory=OptimConfig)
    freeze_text: bool = True
    text_cache: int = 4096
    text_mixing: float = 0.0
    freeze_image_steps: int = 0
    freeze: tuple[str, ...] = ()
    freeze_image_norm: bool = False
    lora_rank: int = 0
    checkpointing: bool = False
    bf16: bool | Literal["auto"] = "auto"
    channels_last: bool = True
    device: str = "auto"
    workers: int = 2
    log_every: int = 20
    eval_every: int = 1000
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    best_metric: str | None = None
    seed: int = 0

    def __post_init__(self):
        for name in ("batch_images", "steps", "log_every", "eval_every", "checkpoint_every", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.lora_rank < 0:
            raise ValueError(f"lora_rank must be at least 0, got {self.lora_rank}")
        if not 0 <= self.text_mixing < 1:
            raise ValueError(f"text_mixing must lie between 0 and 1, got {self.text_mixing}")
        if self.text_mixing and not self.freeze_text:
            raise ValueError("text_mixing needs a text encoder that stays as it is: set freeze_text, or leave it at 0")
        if self.text_mixing and not isinstance(self.batch, BatchConfig):
            raise ValueError("text_mixing is for a text encoder's prompts: leave it at 0 for clicks and for PSALM")


class Trainer:
    """Trains ``model`` as ``config`` says and keeps everything in ``out_dir``.

    model: an nn.Module with ``image_encoder``, ``text_encoder`` (None without), what ``encode`` and ``decode`` of its
        batches ask it, and ``loss(output, batch)``, which gives named scalars whose sum is minimised.
    evaluate: called with (model in evaluation mode with its averaged weights, step); its figures go into the log.
    sources: samples by source name, instead of the folders ``config.data``.
    """

    def __init__(
        self,
        config: TrainConfig,
        model: Any,
        out_dir: str | Path,
        *,
        evaluate: Evaluate | None = None,
        sources: Mapping[str, Source] | None = None,
    ):
        self.config, self.out_dir, self.evaluate = config, Path(out_dir), evaluate
        self.processes = Processes(_device(config.device))
        self.device = self.processes.device
        # FSDP divides plain weights only.
        last = config.channels_last and self.processes.count == 1
        self.layout = torch.channels_last if last else torch.contiguous_format
        self.model = model.to(self.device, memory_format=self.layout)
        language = _language(model, config)
        if config.lora_rank:
            add_low_rank(language, config.lora_rank)
        if self.model.text_encoder is not None:
            self.model.text_encoder.requires_grad_(not config.freeze_text)
        self.model.image_encoder.requires_grad_(config.freeze_image_steps < config.steps)
        for name, parameter in self.model.named_parameters():
            if name.startswith(config.freeze):
                parameter.requires_grad_(False)
        # An image encoder of which nothing moves is not in training mode: no dropped path, no new statistics.
        self.image_frozen = not any(p.requires_grad for p in self.model.image_encoder.parameters())
        self.losses = _Losses(self)
        kept = () if model.text_encoder is None or not config.freeze_text else model.text_encoder.parameters()
        self.processes.share(self.losses, () if language is None else language.layers, kept)
        self.optimizer, self.names = make_optimizer(self.model, config.optim)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.average = Average(self.model, config.optim.ema_decay) if config.optim.ema_decay else None
        remembers = config.freeze_text and self.model.text_encoder is not None
        self.text_cache = TextCache(self.model.encode_text, config.text_cache) if remembers else None
        self.other_texts: Any = None  # with ``text_mixing``, once the weights are there
        self.bf16 = self.device.type == "cuda" if config.bf16 == "auto" else config.bf16
        self.dataset = _dataset(config, open_sources(config.data) if sources is None else sources)
        self.dataset.divide(self.processes.rank, self.processes.count)
        self.checkpoints = self.out_dir / "checkpoints"
        self.best = -math.inf

    def train(self, *, resume: bool = True) -> int:
        """Train to the end; returns the step reached, smaller than ``config.steps`` after Ctrl-C or SIGTERM.

        resume: go on from the last checkpoint in ``out_dir``. Without it, a folder with checkpoints is refused.
        Raises ValueError when a loss or gradient stops being finite; the last checkpoint stays as it was.
        """
        start = self._start(resume)
        if start >= self.config.steps:
            return start
        if self.config.text_mixing:
            self.other_texts = encode_words(self.model)
        log = Log(self.out_dir / "log.jsonl", start, silent=not self.processes.first)
        meter = Meter(self.config.batch_images)
        pin = self.device.type == "cuda"
        stream = batches(self.dataset, start, self.config.steps, workers=self.config.workers, pin=pin)
        step, stopped = start, False
        progress = _progress(start, self.config.steps, self.processes)
        with closing(stream), stop_signal() as stop, progress as bar:
            while step < self.config.steps and not stopped:
                step += 1
                meter.batch_wanted()
                batch = next(stream)
                meter.batch_came()
                meter.step_done(*self._step(step, batch))
                bar.update()
                stopped = self._after(step, stop, log, meter, bar)
        self._draw()
        return step

    def _after(self, step: int, stop: Event, log: Log, meter: Meter, bar: Any) -> bool:
        """Log, evaluate and save when it is time; returns whether to stop here."""
        end = step == self.config.steps
        if step % self.config.log_every == 0 or end:
            values = meter.read() | {"lr": self.optimizer.param_groups[-1]["lr"]}
            log.write(step, values)
            bar.set_postfix(loss=f"{values['loss/total']:.3f}", refresh=False)
        if step % self.config.eval_every == 0 or end:
            self._evaluate(step, log)
        stopped = self.processes.any(stop.is_set())  # asked once: nothing may stop the run without its checkpoint
        if step % self.config.checkpoint_every == 0 or end or stopped:
            self._save(checkpoint.name_of(step), step)
            if self.processes.first:
                checkpoint.prune(self.checkpoints, self.config.keep_checkpoints)
        return stopped

    def _start(self, resume: bool) -> int:
        """Prepare the folder and the weights; returns the number of steps already done."""
        last = checkpoint.latest(self.checkpoints)
        if last is not None and not resume:
            raise ValueError(f"{self.out_dir}: holds an earlier run; resume it or name a new folder")
        if self.processes.first:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            checkpoint.remove_unfinished(self.checkpoints)
            text = json.dumps(configs.to_dict(self.config), indent=2)
            (self.out_dir / "config.json").write_text(text + "\n", encoding="utf-8")
            self._keep_tokenizer(last is not None)
        torch.manual_seed(self.config.seed + self.processes.rank)
        if last is None:
            return 0
        step, record = checkpoint.load(
            last,
            model=self.model,
            optimizer=self.optimizer,
            names=self.names,
            average=self.average,
            processes=self.processes,
        )
        self.best = record["best"] if record["best"] is not None else -math.inf
        return step

    def _keep_tokenizer(self, resumed: bool) -> None:
        """A tokenizer that was made of the data must be the same as at the run's start, or every token means another.

        Raises ValueError when it is not.
        """
        tokenizer = getattr(self.model, "tokenizer", None)
        if not isinstance(tokenizer, BPETokenizer):
            return
        path, text = self.out_dir / "tokenizer.json", tokenizer.text()
        if resumed and path.is_file() and path.read_text(encoding="utf-8") != text:
            raise ValueError(
                f"{path} is not the tokenizer that the data make now: give the data that the run was started with"
            )
        path.write_text(text, encoding="utf-8")

    def _step(self, step: int, batch: Batch | ClickBatch | PSALMBatch) -> tuple[dict[str, Tensor], Tensor]:
        """One update, ``step`` counted from 1. Returns the losses and the norm of the gradient."""
        frozen = step <= self.config.freeze_image_steps
        self._training_mode(frozen or self.image_frozen)
        batch = batch.to(self.device)
        losses = self.losses(batch, frozen)
        total = torch.stack(list(losses.values())).sum()
        shown = self.processes.mean(torch.stack([*losses.values(), total]).detach())
        named = dict(zip([*losses, "total"], shown, strict=True))
        _require_finite(named["total"], step, named, "loss")
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        limit = self.config.optim.grad_clip or math.inf
        norm = whole(nn.utils.clip_grad_norm_(self.parameters, limit))
        _require_finite(norm, step, named, "gradient")
        set_lr(self.optimizer, lr_factor(step - 1, self.config.steps, self.config.optim))
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.model)
        return named, norm

    def forward(self, batch: Batch | ClickBatch | PSALMBatch, frozen: bool) -> Any:
        """The model's answers to a batch. frozen: no gradient of the image encoder."""
        texts = self._remembered(batch.texts)
        pixels = batch.pixels.contiguous(memory_format=self.layout)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            with torch.no_grad() if frozen else nullcontext():
                features = batch.encode(self.model, pixels)
            if texts is None and batch.texts:
                texts = self.model.encode_text(list(batch.texts))
            if self.other_texts is not None and texts is not None:
                texts = texts.mixed(self.config.text_mixing, self.other_texts)
            return batch.decode(self.model, features, texts)

    def _remembered(self, texts: tuple[str, ...]) -> Any:
        """Features of texts by a frozen encoder; None where there are none."""
        return self.text_cache(texts) if self.text_cache and texts else None

    def _training_mode(self, frozen: bool) -> None:
        self.model.train()
        if self.config.freeze_text and self.model.text_encoder is not None:
            self.model.text_encoder.eval()
        if frozen:
            self.model.image_encoder.eval()
        elif self.config.freeze_image_norm:
            for module in self.model.image_encoder.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()

    def _evaluate(self, step: int, log: Log) -> None:
        if self.evaluate is not None:
            self.model.eval()
            averaged = self.average.inside(self.model) if self.average else nullcontext()
            self.processes.same_buffers(self.model)
            with torch.no_grad(), averaged, self.processes.gathered(self.losses):
                figures = dict(self.evaluate(self.model, step))
            log.write(step, {f"eval/{name}": float(value) for name, value in figures.items()})
            self._keep_best(step, figures)
        self._draw()

    def _draw(self) -> None:
        if self.processes.first:
            _draw(self.out_dir)

    def _keep_best(self, step: int, figures: Mapping[str, float]) -> None:
        name = self.config.best_metric
        if name is None:
            return
        if name not in figures:
            raise ValueError(f"best_metric is {name!r}, but the evaluation gives {sorted(figures)}")
        if figures[name] > self.best:
            self.best = float(figures[name])
            self._save("best", step)

    def _save(self, name: str, step: int) -> None:
        checkpoint.save(
            self.checkpoints / name,
            step=step,
            model=self.model,
            optimizer=self.optimizer,
            names=self.names,
            average=self.average,
            processes=self.processes,
            record={"best": self.best if math.isfinite(self.best) else None},
        )


class _Losses(nn.Module):
    """One step forward as a module: what FSDP gathers the weights for."""

    def __init__(self, trainer: Trainer):
        super().__init__()
        self.model = trainer.model
        self._forward = trainer.forward

    def forward(self, batch: Any, frozen: bool) -> dict[str, Tensor]:
        """Named losses of a batch."""
        return self.model.loss(self._forward(batch, frozen), batch)


def _language(model: Any, config: TrainConfig) -> Any:
    """The model's language model, made to compute its layers twice where that is asked; None without one.

    Raises ValueError when something is asked of a language model that is not there.
    """
    language = getattr(model, "language", None)
    if language is None and (config.lora_rank or config.checkpointing):
        raise ValueError("lora_rank and checkpointing are for a network with a language model: leave them at 0 and off")
    if language is not None:
        language.checkpointing = config.checkpointing
    return language


def _require_finite(value: Tensor, step: int, losses: Mapping[str, Tensor], what: str) -> None:
    if not torch.isfinite(value):
        named = ", ".join(f"{name} {loss.detach():.4g}" for name, loss in losses.items())
        raise ValueError(
            f"step {step}: the {what} is not finite ({named}); lower the learning rate and resume from the checkpoint"
        )


def _dataset(config: TrainConfig, sources: Mapping[str, Source]) -> StepDataset[Any]:
    rest = {"images": config.batch_images, "seed": config.seed}
    if isinstance(config.batch, PSALMBatchConfig):
        return PSALMDataset(sources, config.mixture, config.batch.of_model(config.model), **rest)
    if isinstance(config.batch, ClickConfig):
        return ClickDataset(sources, config.mixture, config.batch.of_model(config.model), **rest)
    return TextDataset(sources, config.mixture, config.batch.of_model(config.model), **rest)


def _device(name: str) -> torch.device:
    if name != "auto":
        return torch.device(name)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _progress(start: int, steps: int, processes: Processes) -> Any:
    from tqdm import tqdm

    return tqdm(total=steps, initial=start, unit="step", file=sys.stderr, disable=None if processes.first else True)


def _draw(out_dir: Path) -> None:
    """Draw the curves; without matplotlib say what is missing, and train on."""
    log = out_dir / "log.jsonl"
    try:
        draw_curves(log, out_dir / "curves.png")
    except ImportError as error:
        print(error, file=sys.stderr)
