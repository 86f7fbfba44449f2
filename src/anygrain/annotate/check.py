"""Is what was annotated true? Precision of pairs of a mask and a name, and recall by category, along the score."""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np

from anygrain import markdown
from anygrain.annotate.names import compatible, same
from anygrain.data.boxes import rectangle
from anygrain.data.formats import from_record
from anygrain.data.shards import ShardReader
from anygrain.types import Region, Sample

OVERLAP = 0.5
"""IoU from which on a mask is that of a true one."""
_SURE = float("inf")  # the score of a pair without one: it is kept at every threshold


@dataclass(frozen=True)
class Pair:
    """An annotated mask with its name. right: None when the truth does not tell."""

    source: str
    sample: str
    name: str
    score: float
    right: bool | None


@dataclass(frozen=True)
class Wanted:
    """A category that a photograph truly has. score: of the best right pair of that name, None when there is none."""

    source: str
    sample: str
    category: str
    score: float | None


@dataclass(frozen=True, kw_only=True)
class Row:
    """Figures of one source (or "all") when pairs of at least ``threshold`` are kept.

    right and wrong pairs are those that can be judged; precision = right / (right + wrong), None without any.
    recall: share of (photograph, category) that a kept right pair names; categories: the same for each.
    """

    source: str
    threshold: float
    pairs: int
    right: int
    wrong: int
    unjudged: int
    precision: float | None
    recall: float | None
    categories: dict[str, float] = field(default_factory=dict)


def judge(predicted: Sample, truth: Sample) -> tuple[list[Pair], list[Wanted]]:
    """Every pair of one photograph, and what it should have had.

    A pair is right when its IoU with one true mask of that name, or with the union of them, is at least 0.5. Otherwise
    it is wrong when the photograph truly has something of that name, when every occurrence of the name is annotated
    (``Sample.exhaustive``), or when it covers a true mask whose name contradicts it ("wolf" on the dog); else the truth
    does not tell. A more general name on a true mask ("animal" on the dog) is not told either, nor is what touches a
    box of that name without a mask. Ignored regions' pixels do not count, on neither side.
    """
    counted = np.ones(truth.size, bool)
    for region in truth.regions:
        if region.ignore and region.mask is not None:
            counted &= ~region.mask.to_array()
    true = [(region, _within(region, counted)) for region in truth.regions if region.mask and not region.ignore]
    bare = [region for region in truth.regions if not region.mask and not region.ignore and region.box is not None]
    pairs: list[Pair] = []
    found: dict[str, float] = {}
    categories = sorted({region.category for region, _ in true if region.category is not None})
    for region in predicted.regions:
        name = name_of(region)
        if region.mask is None or name is None or region.ignore:
            continue
        mask = _within(region, counted)
        score = _SURE if region.score is None else region.score
        boxed = [rectangle(region.box, truth.size) for region in bare if region.box and _called(name, region)]
        right = _judged(mask, name, true, boxed, truth.exhaustive)
        pairs.append(Pair(truth.source, truth.id, name, score, right))
        if right:
            for category in categories:
                if same(name, category):
                    found[category] = max(score, found.get(category, -_SURE))
    wanted = [Wanted(truth.source, truth.id, category, found.get(category)) for category in categories]
    return pairs, wanted


def name_of(region: Region) -> str | None:
    """What a region is called: its category, or else its first caption."""
    return region.category or next(iter(region.captions), None)


def _called(name: str, region: Region) -> bool:
    return region.category is not None and same(name, region.category)


def _within(region: Region, counted: np.ndarray) -> np.ndarray:
    assert region.mask is not None
    return region.mask.to_array() & counted


def _judged(
    mask: np.ndarray,
    name: str,
    true: Sequence[tuple[Region, np.ndarray]],
    boxed: Sequence[np.ndarray],
    exhaustive: frozenset[str],
) -> bool | None:
    named = [other for region, other in true if _called(name, region)]
    if named and (_iou(mask, np.any(named, 0)) >= OVERLAP or any(_iou(mask, other) >= OVERLAP for other in named)):
        return True
    if boxed and mask[np.any(boxed, 0)].any():
        return None
    if named or any(same(name, category) for category in exhaustive):
        return False
    covered = [region.category for region, other in true if _iou(mask, other) >= OVERLAP]
    return False if any(other is not None and not compatible(name, other) for other in covered) else None


def _iou(one: np.ndarray, other: np.ndarray) -> float:
    union = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / union if union else 0.0


def score(predicted: Iterable[Sample], truth: Iterable[Sample], thresholds: Sequence[float] | None = None) -> list[Row]:
    """The curve of each source, and of all together where there are several.

    Samples are matched by id, or else by a file name without ending that only one has. thresholds: by default 0 (all)
    and every 5 % of the scores. Raises ValueError when nothing matches.
    """
    pairs, wanted = [], []
    for one, other in matched(predicted, truth):
        some_pairs, some_wanted = judge(one, other)
        pairs += some_pairs
        wanted += some_wanted
    return curve(pairs, wanted, thresholds)


def matched(predicted: Iterable[Sample], truth: Iterable[Sample]) -> Iterator[tuple[Sample, Sample]]:
    """Annotated and true samples of one photograph. Raises ValueError when there is no such photograph."""
    annotated = {sample.id: replace(sample, image=b"") for sample in predicted}
    stems = Counter(map(_stem, annotated))
    by_stem = {_stem(name): sample for name, sample in annotated.items() if stems[_stem(name)] == 1}
    some = False
    for sample in truth:
        one = annotated.get(sample.id) or by_stem.get(_stem(sample.id))
        if one is None:
            continue
        some = True
        if one.size != sample.size:
            raise ValueError(f"{sample.id} is {sample.size} (height, width), but annotated at {one.size}")
        yield one, sample
    if not some:
        raise ValueError("no annotated photograph is among the true ones, neither by id nor by the name of its file")


def _stem(name: str) -> str:
    return PurePosixPath(name).stem


def curve(pairs: Sequence[Pair], wanted: Sequence[Wanted], thresholds: Sequence[float] | None = None) -> list[Row]:
    """A row for each source and threshold; see ``score``."""
    if thresholds is None:
        scores = [pair.score for pair in pairs if pair.score != _SURE]
        steps = np.quantile(scores, np.linspace(0.05, 0.95, 19)) if scores else []
        thresholds = [0.0, *dict.fromkeys(round(float(step), 3) for step in steps)]
    sources = sorted({entry.source for entry in (*pairs, *wanted)})
    rows = []
    for source in [*sources, *(["all"] if len(sources) > 1 else [])]:
        own = [pair for pair in pairs if source in (pair.source, "all")]
        asked = [want for want in wanted if source in (want.source, "all")]
        rows += [_row(source, threshold, own, asked) for threshold in thresholds]
    return rows


def _row(source: str, threshold: float, pairs: Sequence[Pair], wanted: Sequence[Wanted]) -> Row:
    kept = [pair for pair in pairs if pair.score >= threshold]
    right, wrong = (sum(pair.right is verdict for pair in kept) for verdict in (True, False))
    found: dict[str, list[bool]] = defaultdict(list)
    for want in wanted:
        found[want.category].append(want.score is not None and want.score >= threshold)
    every = [there for category in found.values() for there in category]
    return Row(
        source=source,
        threshold=threshold,
        pairs=len(kept),
        right=right,
        wrong=wrong,
        unjudged=len(kept) - right - wrong,
        precision=right / (right + wrong) if right + wrong else None,
        recall=sum(every) / len(every) if every else None,
        categories={name: sum(there) / len(there) for name, there in sorted(found.items())},
    )


@dataclass(frozen=True, kw_only=True)
class Check:
    """The curves of a folder of annotations; ``print`` it for the tables."""

    rows: list[Row]

    def __str__(self) -> str:
        head = ["source", "threshold", "pairs", "right", "wrong", "not told", "precision", "recall"]
        table = [head, *(_cells(row) for row in self.rows)]
        first = [row for row in self.rows if row.threshold == self.rows[0].threshold]
        categories = [["category", "source", "recall"]]
        categories += [
            [name, row.source, f"{recall:.3f}"]
            for row in first
            if row.source != "all"
            for name, recall in sorted(row.categories.items(), key=lambda entry: -entry[1])
        ]
        note = f"recall by category, all pairs of at least {self.rows[0].threshold:g}:"
        return f"{markdown.table(table)}\n\n{note}\n\n{markdown.table(categories)}"

    def draw(self, picture: Path) -> None:
        """Precision and recall over the threshold, a panel a source, as PNG.

        Raises ValueError for another ending and ImportError without matplotlib.
        """
        if picture.suffix.lower() != ".png":
            raise ValueError(f"cannot write {picture}: the ending must be .png")
        from anygrain.images import write_atomic
        from anygrain.train.log import figure_class

        sources = list(dict.fromkeys(row.source for row in self.rows))
        figure = figure_class()(figsize=(8, 2.6 * len(sources)), layout="constrained")
        for axes, source in zip(figure.subplots(len(sources), 1, squeeze=False)[:, 0], sources, strict=True):
            rows = [row for row in self.rows if row.source == source]
            for name in ("precision", "recall"):
                points = [(r.threshold, value) for r in rows if (value := getattr(r, name)) is not None]
                if points:
                    axes.plot(*zip(*points, strict=True), label=name, marker=".")
            axes.set(title=source, xlabel="score of a pair, at least", ylim=(0, 1))
            axes.grid(alpha=0.3)
            axes.legend(fontsize="small")
        out = io.BytesIO()
        figure.savefig(out, dpi=100, format="png")
        write_atomic(picture, out.getvalue())


def _cells(row: Row) -> list[str]:
    shares = ["-" if value is None else f"{value:.3f}" for value in (row.precision, row.recall)]
    return [row.source, f"{row.threshold:g}", *map(str, (row.pairs, row.right, row.wrong, row.unjudged)), *shares]


def check(folder: str | Path, truth: str | Path) -> Check:
    """Compare the shards of ``folder`` with true ones; no image is read.

    Raises FileNotFoundError when one of them holds no shards, ValueError when they share no photograph.
    """
    return Check(rows=score(_samples(Path(folder)), _samples(Path(truth))))


def _samples(folder: Path) -> Iterator[Sample]:
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}: name one with shards")
    reader = ShardReader(folder)
    return (from_record(reader.record(number), b"") for number in range(len(reader)))
