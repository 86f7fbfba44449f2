"""Run a benchmark of the field: the official data set through the same Segmenter that users have."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anygrain import __version__
from anygrain.data.datasets import DATASETS, read_dataset
from anygrain.data.labels import open_photo
from anygrain.data.ledger import in_ledger, read_ledger
from anygrain.eval.benchmark_report import BenchmarkReport
from anygrain.eval.benchmarks import BENCHMARKS
from anygrain.eval.click_rule import ClickRule
from anygrain.eval.gallery import Example, Gallery, side_by_side
from anygrain.eval.papers import published
from anygrain.eval.predictions import Predictions
from anygrain.eval.rules import PromptRule, Record, Rule, Shown, TextRule, answers
from anygrain.hub import find
from anygrain.types import Sample

if TYPE_CHECKING:
    import numpy as np

    from anygrain.segmenter import Segmenter


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
    resume: bool = False,
    overlays: int = 12,
    clicks: int = 1,
    ledger: np.ndarray | None = None,
) -> BenchmarkReport:
    """Ask a model all that a benchmark asks, on the data set in its official form.

    model: alias, folder or "org/repo", or a Segmenter. task: a key of `anygrain.eval.benchmarks.BENCHMARKS`. root: the
    data set's folder. split: None takes the one most papers report.
    out: a folder for ``report.md``, ``report.json``, ``report.html`` and ``predictions.jsonl`` (a line a sample, masks
    as COCO RLE). resume: do not ask again what ``predictions.jsonl`` has from an interrupted run with the same model
    and settings; the figures are those of an undisturbed run to the last bit. overlays: how many of the worst and of
    the random answers the page shows.
    limit: only the first samples. threshold: of mask probabilities; None takes the model's own (official: 0.35).
    strict: refuse, before anything is asked, when the model's ledger has an image of the benchmark, or the model none.
    clicks: how many on each mask, for the tasks of clicks.
    ledger: of a Segmenter, see `anygrain.data.ledger`; that of a model by name is read from its folder.
    Under torchrun each process takes every so many-th sample, and the figures are merged exactly; only the first
    process writes the report, and each its own predictions.
    Raises ValueError for an unknown task or split, a model that does not accept the task's prompts, what ``strict``
    refuses or predictions of another run, FileNotFoundError or ValueError for files of the data set that are missing or
    wrong.
    """
    if task not in BENCHMARKS:
        raise ValueError(f"no task is named {task!r}; there are {', '.join(BENCHMARKS)}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; take at least 1 sample")
    benchmark = BENCHMARKS[task]
    data = benchmark.data or task
    split = benchmark.splits[0] if split is None else split
    if split not in DATASETS[data].splits:
        raise ValueError(f"{task} has no split {split!r}; it has {', '.join(DATASETS[data].splits)}")
    if not 1 <= clicks <= 20 or (clicks > 1 and not task.endswith("_clicks")):
        raise ValueError(f"clicks is {clicks}: 1 to 20 on each mask, and more than 1 only in tasks named ..._clicks")
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    ledger = read_ledger(find(model)) if isinstance(model, (str, Path)) else ledger
    if strict:
        _refuse_seen(ledger, islice(read_dataset(data, root, split), limit))
    samples = islice(read_dataset(data, root, split), rank, limit, world)
    first = next(samples, None)  # before the model is loaded: a wrong folder is found at once
    if first is None and rank == 0:
        raise ValueError(f"{root}: no sample of {task} {split}")
    segmenter = ready(model, device, threshold)
    if why := unfit(task, segmenter):
        raise ValueError(why)
    if benchmark.all_scores:
        segmenter = _unsure_too(segmenter)
    rule, notes = benchmark.rule_for(segmenter.model.accepts)
    if world > 1 and getattr(rule, "in_order", False):
        raise ValueError(f"{task} goes from frame to frame: run it in one process, without torchrun")
    if isinstance(rule, ClickRule):
        rule.clicks = clicks
    gallery = Gallery(overlays if out is not None else 0)
    settings = {
        "threshold": segmenter.threshold,
        "presence_threshold": segmenter.presence_threshold,
        "processes": world,
    } | ({"clicks": clicks} if isinstance(rule, ClickRule) else {})
    head = {"task": task, "split": split, "model": segmenter.info["fingerprint"], "process": rank, **settings}
    counted = prompts = seen = resumed = 0
    spent, clock = 0.0, time.perf_counter()
    with ExitStack() as stack:
        file = None if out is None else stack.enter_context(Predictions(_place(out, rank, world), head, resume=resume))
        for sample in _progress(first, samples, f"{task} {split}", rank):
            kept = None if file is None else file.kept(sample.id)
            records, seconds = kept or (_ask(segmenter, rule, sample), 0.0)
            show = partial(_show, gallery, sample) if gallery.size else None
            rule.count(sample, records, show)
            now = time.perf_counter()
            if kept is None:
                seconds = now - clock
                if file is not None:
                    file.write(sample.id, records, seconds)
            clock, spent = now, spent + seconds
            prompts += len(rule.ask(sample))
            seen += ledger is not None and in_ledger(ledger, sample)
            counted, resumed = counted + 1, resumed + (kept is not None)
    if world > 1:
        rule, gallery, spent, (counted, prompts, seen, resumed) = _merged(
            rule, gallery, spent, (counted, prompts, seen, resumed)
        )
    report = BenchmarkReport(
        task=task,
        split=split,
        root=str(root),
        headline=benchmark.headline,
        figures=rule.compute(),
        published=published(task, split),
        samples=counted,
        prompts=prompts,
        trained_on=None if ledger is None else seen,
        notes=notes,
        model=dict(segmenter.info),
        settings={**settings, "limit": limit, "device": str(segmenter.model.device)},
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        version=__version__,
        seconds=spent,
        resumed=resumed,
        examples={"worst": gallery.worst.examples(), "random": gallery.random.examples()},
    )
    if out is not None and rank == 0:
        report.write(out)
    return report


def unfit(task: str, segmenter: Segmenter) -> str:
    """Why a model cannot do a task: the kinds of prompt that it does not accept. Empty when it can."""
    missing = BENCHMARKS[task].needs - segmenter.model.accepts
    if not missing:
        return ""
    return (
        f"model '{segmenter.info['name']}' does not accept {', '.join(sorted(missing))} as a prompt, which {task} asks "
        f"with; it accepts {', '.join(sorted(segmenter.model.accepts))}"
    )


def _unsure_too(segmenter: Segmenter) -> Segmenter:
    """The same model, which leaves no answer out for its score."""
    from anygrain.segmenter import Segmenter

    return Segmenter(
        segmenter.model,
        segmenter.info,
        threshold=segmenter.threshold,
        presence_threshold=1e-9,
        memory_limit=segmenter.memory_limit,
        bf16=segmenter.bf16,
    )


def _ask(segmenter: Segmenter, rule: Rule, sample: Sample) -> list[Record]:
    """Ask about one sample; a photo about which nothing is asked is not encoded."""
    questions = rule.ask(sample)
    if not questions:
        return []
    (embedding,) = segmenter.embed([open_photo(sample)])
    if isinstance(rule, PromptRule):
        return rule.answer(sample, segmenter, embedding)
    assert isinstance(rule, TextRule)
    return rule.record(sample, answers(segmenter, embedding, questions))


def _show(gallery: Gallery, sample: Sample, shown: Shown) -> None:
    def draw() -> Example:
        return Example(
            sample=sample.id,
            text=shown.text,
            kind="benchmark",
            iou=shown.pair.iou,
            score=shown.score,
            answered=shown.answered,
            picture=side_by_side(open_photo(sample), shown.labels, shown.mask),
        )

    gallery.offer_right(draw, sample.id, shown.text, shown.pair.iou, shown.labels)


def _refuse_seen(ledger: np.ndarray | None, samples: Iterator[Sample]) -> None:
    if ledger is None:
        raise ValueError(
            "--strict needs a model with a ledger of its training images: see `anygrain data ledger --help`"
        )
    for sample in samples:
        if in_ledger(ledger, sample):
            raise ValueError(f"the model was trained on the image of {sample.id}; measure it without --strict")


def _merged(rule: Any, gallery: Gallery, seconds: float, numbers: tuple[int, ...]) -> tuple[Any, ...]:
    """What all processes counted, in each of them: sums, and the longest time."""
    import torch.distributed as dist

    dist.init_process_group("gloo")
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, (rule, gallery, seconds, numbers))
    dist.destroy_process_group()
    rule, gallery, _, _ = parts[0]
    for other, examples, _, _ in parts[1:]:
        rule.merge(other)
        gallery.merge(examples)
    longest = max(part[2] for part in parts)
    return rule, gallery, longest, tuple(map(sum, zip(*(part[3] for part in parts), strict=True)))


def ready(model: str | Path | Segmenter, device: str, threshold: float | None) -> Segmenter:
    """The model, loaded unless it is."""
    if not isinstance(model, (str, Path)):
        return model
    from anygrain.hub import load

    return load(model, device=device, threshold=threshold)


def _place(out: str | Path, rank: int, world: int) -> Path:
    return Path(out) / ("predictions.jsonl" if world == 1 else f"predictions.{rank}.jsonl")


def _progress(first: Sample | None, samples: Iterator[Sample], title: str, rank: int) -> Iterator[Sample]:
    from tqdm import tqdm

    with tqdm(desc=title, unit="sample", file=sys.stderr, disable=True if rank else None) as bar:
        while first is not None:
            yield first
            bar.update()
            first = next(samples, None)
