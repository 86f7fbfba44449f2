"""Measure a model on shards, through the same Segmenter that users have."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anygrain.data.labels import Labels, open_photo
from anygrain.data.shards import ShardReader
from anygrain.eval.gallery import Gallery
from anygrain.eval.metrics import Overlap, Scores, headline, overlap
from anygrain.eval.report import Report, SourceReport, total
from anygrain.eval.tasks import ABSENT_PER_PHOTO, Question, questions, spread
from anygrain.recipes.sources import find_sources
from anygrain.types import Prediction, Prompt, Sample

if TYPE_CHECKING:
    from anygrain.models.unilseg import UniLSeg
    from anygrain.segmenter import Segmenter

Answer = tuple[Question, Prediction, np.ndarray, Overlap]


def evaluate(
    model: str | Path | Segmenter,
    data: str | Path,
    *,
    out: str | Path | None = None,
    limit: int | None = None,
    overlays: int = 12,
    device: str = "auto",
) -> Report:
    """Ask a model about every photo of the shards under ``data`` and compare its masks in the photos' own size.

    model: alias, folder or "org/repo", or a Segmenter.
    data: a folder of shards, or one that holds such a folder for each source.
    out: a folder for ``report.json`` and ``report.html``; None writes nothing.
    limit: photos a source, evenly spaced; None takes all.
    overlays: how many of the worst and of the random answers of each source the page shows.
    device: where a model that is loaded by name runs.
    Masks are taken as users get them: an answer "not there" is an empty mask. Pixels the annotation does not know are
    left out. ``print(report)`` shows the table. Raises ValueError when there is nothing to ask or the model is unknown,
    and OSError when ``out`` cannot be written.
    """
    folders = find_sources(data)
    if out is not None:
        _check_writable(Path(out))
    segmenter = _segmenter(model, device)
    started, clock = datetime.now(timezone.utc), time.perf_counter()
    sources = {}
    with _progress(sum(len(spread(len(ShardReader(folder)), limit)) for folder in folders)) as bar:
        for folder in folders:
            bar.set_description(Path(folder).name)
            gallery = Gallery(overlays if out is not None else 0)
            scores = measure(segmenter, _samples(folder, limit, bar), gallery)
            sources[Path(folder).name] = SourceReport.of(scores, gallery)
    if not any(source.figures["prompts"] or source.figures["absent_prompts"] for source in sources.values()):
        raise ValueError(f"{data}: no photo has a caption or a category, so there is nothing to ask")
    report = Report(
        model=dict(segmenter.info),
        data=str(data),
        sources=sources,
        settings=_settings(segmenter, limit),
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        started=started.isoformat(timespec="seconds"),
        seconds=time.perf_counter() - clock,
    )
    if out is not None:
        report.write(out)
    return report


def evaluate_training(model: UniLSeg, data: str | Path, limit_per_source: int = 8) -> dict[str, float]:
    """A quick look at a network in training: some photos of each source, no report, the network left as it is.

    model: in eval mode; BatchNorm stays unfolded.
    limit_per_source: photos of each source, evenly spaced.
    Returns the headline figure of each source by its name (mIoU over categories, or mean IoU of its prompts), their
    mean as "mean", and "absent_called_absent" and "present_called_absent" over all sources.
    """
    from anygrain.segmenter import Segmenter

    if model.training:
        raise ValueError("the network is in training mode; call .eval() before it is evaluated")
    segmenter = Segmenter(model, {"name": "in training", "fingerprint": "in training"})
    scores = {
        Path(folder).name: measure(segmenter, _samples(folder, limit_per_source)) for folder in find_sources(data)
    }
    figures = {name: source.compute() for name, source in scores.items()}
    heads = {name: value for name, source in figures.items() if (value := headline(source)) is not None}
    overall = total(list(figures.values()))
    kept = ("headline", "absent_called_absent", "present_called_absent")
    return heads | {name.replace("headline", "mean"): overall[name] for name in kept if name in overall}


def measure(segmenter: Segmenter, samples: Iterable[Sample], gallery: Gallery | None = None) -> Scores:
    """The scores of some samples. Those about which nothing can be asked are not counted."""
    scores = Scores()
    for sample in samples:
        asked = questions(sample)
        scores.photos += bool(asked)
        for question, prediction, labels, pair in answers(segmenter, sample, asked):
            scores.update(question.kind, question.candidate.category, pair, bool(prediction.present[0]))
            if gallery is not None:
                gallery.offer(sample, question, prediction, labels, pair)
    return scores


def answers(segmenter: Segmenter, sample: Sample, asked: Sequence[Question]) -> Iterator[Answer]:
    """Each question with its prediction, its truth as labels [H, W], and how they overlap. One embedding a photo."""
    if not asked:
        return
    (embedding,) = segmenter.embed([open_photo(sample)])
    truth = Labels(sample)
    predictions = segmenter.answer(embedding, [Prompt(text=question.text) for question in asked])
    for question, prediction in zip(asked, predictions, strict=True):
        labels = truth.of(question.candidate)
        yield question, prediction, labels, overlap(prediction.masks[0], labels)


def _samples(folder: str | Path, limit: int | None, bar: Any = None) -> Iterator[Sample]:
    reader = ShardReader(folder)
    for number in spread(len(reader), limit):
        yield reader[number]
        if bar is not None:
            bar.update()
    reader.close()


def _segmenter(model: str | Path | Segmenter, device: str) -> Segmenter:
    if not isinstance(model, (str, Path)):
        return model
    from anygrain.hub import load

    return load(model, device=device)


def _settings(segmenter: Segmenter, limit: int | None) -> dict[str, Any]:
    return {
        "limit": limit,
        "absent_prompts_per_photo": ABSENT_PER_PHOTO,
        "threshold": segmenter.threshold,
        "presence_threshold": segmenter.presence_threshold,
        "device": str(segmenter.model.device),
    }


def _check_writable(out: Path) -> None:
    """Before the work, not after it."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file: name a folder for the report")
    out.mkdir(parents=True, exist_ok=True)
    if not os.access(out, os.W_OK):
        raise PermissionError(f"cannot write into {out}: name another folder for the report")


def _progress(photos: int) -> Any:
    from tqdm import tqdm

    return tqdm(total=photos, unit="photo", file=sys.stderr, disable=None)
