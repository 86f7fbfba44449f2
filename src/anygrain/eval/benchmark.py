"""Run a benchmark of the field: the official data set through the same Segmenter that users have."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from anygrain import __version__
from anygrain.data.datasets import DATASETS, read_dataset
from anygrain.data.labels import open_photo
from anygrain.data.ledger import in_ledger, read_ledger
from anygrain.eval.benchmarks import BENCHMARKS
from anygrain.eval.rules import Answer, Rule
from anygrain.hub import find
from anygrain.images import write_atomic
from anygrain.markdown import table
from anygrain.types import Mask, Prompt, Sample

if TYPE_CHECKING:
    import numpy as np

    from anygrain.segmenter import Segmenter


@dataclass(frozen=True, kw_only=True)
class BenchmarkReport:
    """The figures of one benchmark, and all that is needed to repeat them.

    figures: by name, shares in 0..1. samples, prompts: how many. trained_on: of how many samples the model's ledger has
    the image; None when the model has no ledger. notes: the protocol. model: name and fingerprint. settings: threshold
    and the like. seconds: of the run.
    """

    task: str
    split: str
    root: str
    figures: dict[str, float]
    samples: int
    prompts: int
    trained_on: int | None
    notes: str
    model: dict[str, Any]
    settings: dict[str, Any]
    command: str
    version: str
    seconds: float

    def __str__(self) -> str:
        limit = self.settings["limit"]
        part = "" if limit is None else f" (only the first {limit}: not comparable with published figures)"
        rows = [["figure", "value"], *([name, f"{value:.4g}"] for name, value in self.figures.items())]
        head = f"{self.task} {self.split}{part}, {self.samples} samples, {self.prompts} prompts"
        return f"{head}\n\n{self.contamination}\n\n{table(rows)}\n"

    @property
    def contamination(self) -> str:
        """What is known of the benchmark's images in the model's training."""
        if self.trained_on is None:
            return "It is not known whether the model was trained on these images: it has no ledger (trained_on.npy)."
        if self.trained_on:
            return f"WARNING: the model was TRAINED ON {self.trained_on} of these {self.samples} samples' images."
        return "None of these images is in the ledger of the model's training."

    def markdown(self) -> str:
        """The report as a page of Markdown."""
        model = f"{self.model['name']} ({self.model['fingerprint']})"
        settings = ", ".join(f"{name} {value}" for name, value in self.settings.items() if value is not None)
        facts = [f"Protocol: {self.notes}", f"Model: {model}. Settings: {settings}. anygrain {self.version}."]
        facts += [f"Command: `{self.command}`", f"{self.seconds:.0f} s, {self.samples / self.seconds:.2f} samples/s."]
        return f"# {self}\n" + "\n\n".join(facts) + "\n"

    def write(self, folder: str | Path) -> tuple[Path, Path]:
        """Write ``report.md`` and ``report.json`` into a folder; returns their paths."""
        page, record = Path(folder) / "report.md", Path(folder) / "report.json"
        write_atomic(page, self.markdown().encode())
        write_atomic(record, (json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n").encode())
        return page, record


def run_benchmark(
    model: str | Path | Segmenter,
    task: str,
    root: str | Path,
    split: str | None = None,
    *,
    out: str | Path | None = None,
    limit: int | None = None,
    device: str = "auto",
    threshold: float | None = None,
    strict: bool = False,
) -> BenchmarkReport:
    """Ask a model all that a benchmark asks, on the data set in its official form.

    model: alias, folder or "org/repo", or a Segmenter. task: a key of `anygrain.eval.benchmarks.BENCHMARKS`. root: the
    data set's folder. split: None takes the one most papers report.
    out: a folder for ``report.md``, ``report.json`` and ``predictions.jsonl`` (a line an answer, its mask as COCO RLE).
    limit: only the first samples. threshold: of mask probabilities; None takes the model's own (official: 0.35).
    strict: refuse, before anything is asked, when the model's ledger has an image of the benchmark, or the model none.
    Under torchrun each process takes every so many-th sample, and the figures are merged exactly; only the first
    process writes the report, and each its own predictions.
    Raises ValueError for an unknown task or split or what ``strict`` refuses, FileNotFoundError or ValueError for files
    of the data set that are missing or wrong.
    """
    if task not in BENCHMARKS:
        raise ValueError(f"no task is named {task!r}; there are {', '.join(BENCHMARKS)}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; take at least 1 sample")
    benchmark = BENCHMARKS[task]
    split = benchmark.splits[0] if split is None else split
    if split not in DATASETS[task].splits:
        raise ValueError(f"{task} has no split {split!r}; it has {', '.join(DATASETS[task].splits)}")
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    ledger = read_ledger(find(model)) if isinstance(model, (str, Path)) else None
    if strict:
        _refuse_seen(ledger, islice(read_dataset(task, root, split), limit))
    samples = islice(read_dataset(task, root, split), rank, limit, world)
    first = next(samples, None)  # before the model is loaded: a wrong folder is found at once
    if first is None and rank == 0:
        raise ValueError(f"{root}: no sample of {task} {split}")
    segmenter, clock, rule = _segmenter(model, device, threshold), time.perf_counter(), benchmark.rule()
    counted = prompts = seen = 0
    with ExitStack() as stack:
        lines = None if out is None else stack.enter_context(_predictions(Path(out), rank, world))
        for sample in _progress(first, samples, f"{task} {split}", rank):
            prompts += _one(segmenter, rule, sample, lines)
            seen += ledger is not None and in_ledger(ledger, sample)
            counted += 1
    if world > 1:
        rule, counted, prompts, seen = _merged(rule, counted, prompts, seen)
    report = BenchmarkReport(
        task=task,
        split=split,
        root=str(root),
        figures=rule.compute(),
        samples=counted,
        prompts=prompts,
        trained_on=None if ledger is None else seen,
        notes=benchmark.notes,
        model=dict(segmenter.info),
        settings={
            "threshold": segmenter.threshold,
            "presence_threshold": segmenter.presence_threshold,
            "limit": limit,
            "processes": world,
            "device": str(segmenter.model.device),
        },
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        version=__version__,
        seconds=time.perf_counter() - clock,
    )
    if out is not None and rank == 0:
        report.write(out)
    return report


def _one(segmenter: Segmenter, rule: Rule, sample: Sample, lines: TextIO | None) -> int:
    """Ask about one sample; returns the number of prompts."""
    texts = rule.ask(sample)
    if texts:
        (embedding,) = segmenter.embed([open_photo(sample)])
        rule.take(sample, _answers(segmenter, embedding, texts, sample.id, lines))
    return len(texts)


def _answers(segmenter: Segmenter, embedding: Any, texts: Any, name: str, lines: TextIO | None) -> Iterator[Answer]:
    import torch

    for prediction in segmenter.answer(embedding, [Prompt(text=text) for text in texts]):
        logits, mask, present = prediction.low_res_logits, prediction.masks[0], bool(prediction.present[0])

        def probability(logits: Any = logits) -> Any:
            return segmenter.model.probabilities(torch.from_numpy(logits), embedding.resize)[0]

        score = float(prediction.scores[0])
        if lines is not None:
            record = {"id": name, "text": prediction.labels[0], "present": present, "score": round(score, 4)}
            shape = {"segmentation": Mask.from_array(mask).to_coco()} if present else {}
            lines.write(json.dumps(record | shape, ensure_ascii=False) + "\n")
        yield Answer(mask, present, score, probability)


def _refuse_seen(ledger: np.ndarray | None, samples: Iterator[Sample]) -> None:
    if ledger is None:
        raise ValueError(
            "--strict needs a model with a ledger of its training images: see `anygrain data ledger --help`"
        )
    for sample in samples:
        if in_ledger(ledger, sample):
            raise ValueError(f"the model was trained on the image of {sample.id}; measure it without --strict")


def _merged(rule: Any, *numbers: int) -> tuple[Any, ...]:
    """The sums of all processes, in each of them."""
    import torch.distributed as dist

    dist.init_process_group("gloo")
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, (rule, numbers))
    dist.destroy_process_group()
    whole = parts[0][0]
    for part, _ in parts[1:]:
        whole.merge(part)
    return whole, *map(sum, zip(*(part[1] for part in parts), strict=True))


def _segmenter(model: str | Path | Segmenter, device: str, threshold: float | None) -> Segmenter:
    if not isinstance(model, (str, Path)):
        return model
    from anygrain.hub import load

    return load(model, device=device, threshold=threshold)


def _predictions(out: Path, rank: int, world: int) -> TextIO:
    out.mkdir(parents=True, exist_ok=True)
    return (out / ("predictions.jsonl" if world == 1 else f"predictions.{rank}.jsonl")).open("w", encoding="utf-8")


def _progress(first: Sample | None, samples: Iterator[Sample], title: str, rank: int) -> Iterator[Sample]:
    from tqdm import tqdm

    with tqdm(desc=title, unit="sample", file=sys.stderr, disable=True if rank else None) as bar:
        while first is not None:
            yield first
            bar.update()
            first = next(samples, None)
