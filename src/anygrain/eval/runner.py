"""Measure a model on shards, through the same Segmenter that users have."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anygrain.data.shards import ShardReader
from anygrain.eval.figures import Figures, all_protocols
from anygrain.eval.gallery import Gallery
from anygrain.eval.metrics import Scores, headline, overlap
from anygrain.eval.photo import Asked, Photo, ask
from anygrain.eval.referring import PHRASES_PER_PHOTO
from anygrain.eval.report import Report, SourceReport, total
from anygrain.eval.tasks import ABSENT_PER_PHOTO, Question, questions, spread
from anygrain.recipes.sources import find_sources
from anygrain.types import Prediction

if TYPE_CHECKING:
    from anygrain.models.unilseg import UniLSeg
    from anygrain.segmenter import Segmenter

PARAPHRASED_PER_SOURCE = 6  # photos whose every target is asked for three times


def evaluate(
    model: str | Path | Segmenter,
    data: str | Path,
    *,
    out: str | Path | None = None,
    limit: int | None = None,
    overlays: int = 12,
    device: str = "auto",
    figures: bool = False,
) -> Report:
    """Ask a model about every photo of the shards under ``data`` and compare its masks in the photos' own size.

    model: alias, folder or "org/repo", or a Segmenter.
    data: a folder of shards, or one that holds such a folder for each source.
    out: a folder for ``report.json`` and ``report.html``; None writes nothing.
    limit: photos a source, evenly spaced; None takes all.
    overlays: how many of the worst and of the random answers of each source the page shows.
    device: where a model that is loaded by name runs.
    figures: also ask what the table of target figures needs (``report.figures``): about twice the prompts.
    Masks are taken as users get them: an answer "not there" is an empty mask. Pixels the annotation does not know are
    left out. ``print(report)`` shows the table. Raises ValueError when there is nothing to ask or the model is unknown,
    and OSError when ``out`` cannot be written.
    """
    folders = find_sources(data)
    if out is not None:
        _check_writable(Path(out))
    segmenter = _segmenter(model, device)
    started, clock = datetime.now(timezone.utc), time.perf_counter()
    protocols = all_protocols() if figures else {}
    sources = {}
    with progress(sum(len(spread(len(ShardReader(folder)), limit)) for folder in folders)) as bar:
        for folder in folders:
            bar.set_description(Path(folder).name)
            meter = Meter(gallery=Gallery(overlays if out is not None else 0))
            for photo in photos_of(folder, limit):
                ask(segmenter, photo, [meter, *protocols.values()])
                bar.update()
            sources[Path(folder).name] = SourceReport.of(meter.scores, meter.gallery)
    if not any(source.figures["present_prompts"] or source.figures["absent_prompts"] for source in sources.values()):
        raise ValueError(f"{data}: no photo has a caption or a category, so there is nothing to ask")
    report = Report(
        model=dict(segmenter.info),
        data=str(data),
        sources=sources,
        figures=Figures.of(protocols, sources) if figures else None,
        settings=_settings(segmenter, limit, figures),
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
    scores = {}
    for folder in find_sources(data):
        meter = Meter()
        for photo in photos_of(folder, limit_per_source):
            ask(segmenter, photo, [meter])
        scores[Path(folder).name] = meter.scores
    figures = {name: source.compute() for name, source in scores.items()}
    heads = {name: value for name, source in figures.items() if (value := headline(source)) is not None}
    overall = total(list(figures.values()))
    kept = ("headline", "absent_called_absent", "present_called_absent")
    return heads | {name.replace("headline", "mean"): overall[name] for name in kept if name in overall}


@dataclass
class Meter:
    """Asks every photo of one source its ``questions``, and counts and shows the answers."""

    scores: Scores = field(default_factory=Scores)
    gallery: Gallery = field(default_factory=lambda: Gallery(0))

    def ask(self, photo: Photo) -> Asked:
        """All questions about a photo."""
        asked = questions(photo.sample)
        self.scores.photos += bool(asked)
        for question in asked:
            yield question.text, partial(self._take, photo, question)

    def _take(self, photo: Photo, question: Question, prediction: Prediction) -> None:
        labels = photo.truth(question.candidate)
        pair = overlap(prediction.masks[0], labels)
        answered, score = bool(prediction.present[0]), float(prediction.scores[0])
        self.scores.update(question.kind, question.candidate.category, pair, answered, score)
        self.gallery.offer(photo.sample, question, prediction, labels, pair)


def photos_of(folder: str | Path, limit: int | None) -> Iterator[Photo]:
    """``limit`` evenly spaced photos of a source, a few of them marked as sampled."""
    reader = ShardReader(folder)
    numbers = spread(len(reader), limit)
    sampled = set(spread(len(numbers), PARAPHRASED_PER_SOURCE))
    for place, number in enumerate(numbers):
        yield Photo(reader[number], Path(folder).name, place in sampled)
    reader.close()


def _segmenter(model: str | Path | Segmenter, device: str) -> Segmenter:
    if not isinstance(model, (str, Path)):
        return model
    from anygrain.hub import load

    return load(model, device=device)


def _settings(segmenter: Segmenter, limit: int | None, figures: bool) -> dict[str, Any]:
    more = {"referring_phrases_per_photo": PHRASES_PER_PHOTO, "paraphrased_photos_per_source": PARAPHRASED_PER_SOURCE}
    return {
        "limit": limit,
        "absent_prompts_per_photo": ABSENT_PER_PHOTO,
        "threshold": segmenter.threshold,
        "presence_threshold": segmenter.presence_threshold,
        "device": str(segmenter.model.device),
        **(more if figures else {}),
    }


def _check_writable(out: Path) -> None:
    """Before the work, not after it."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file: name a folder for the report")
    out.mkdir(parents=True, exist_ok=True)
    if not os.access(out, os.W_OK):
        raise PermissionError(f"cannot write into {out}: name another folder for the report")


def progress(photos: int) -> Any:
    """A bar that counts photos."""
    from tqdm import tqdm

    return tqdm(total=photos, unit="photo", file=sys.stderr, disable=None)
