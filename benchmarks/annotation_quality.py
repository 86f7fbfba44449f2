"""Is what the small route makes true? Precision and recall of its pairs on photographs whose masks are known.

    python benchmarks/annotation_quality.py data_cache/val --out runs/annotation_quality
    python benchmarks/annotation_quality.py data_cache/val --out /tmp/quality --limit 10

Three parts, each skipped where its photographs are annotated already (so it goes on where it was stopped):

1. The photographs of the sources of ``--choose`` are annotated as if nothing were known, with nearly every pair kept.
   What a pair's belief is worth is fitted for names with and without the classifier's evidence: on every other
   photograph, tried on those between, and the other way round. Precision and recall along the score of ``Agree``'s own
   curves; the threshold is the lowest at which precision is ``--wanted``.
2. The same for the sources of ``--report``, at that threshold: has it been chosen too well?
3. The paper's finding that naming given masks is worse than labelling from scratch: the given masks of ``--given``
   photographs are named by the same classifier, each by its own crop; the share of wrong names is printed beside that
   of part 1 on the same photographs.

Writes ``curve.png``, ``report.png`` and ``quality.json`` into ``--out``.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from anygrain.annotate.agree import Agree, class_of
from anygrain.annotate.check import Check, Row, curve, judge, matched
from anygrain.annotate.engine import EngineConfig, annotate
from anygrain.annotate.names import imagenet_names, plain
from anygrain.annotate.photos import Photo, Photos, open_photos
from anygrain.annotate.platt import Curve, fit, probability
from anygrain.annotate.rank import by_precision
from anygrain.annotate.refer import Refer
from anygrain.annotate.routes import route
from anygrain.annotate.step import Step
from anygrain.annotate.tag import Name
from anygrain.data.formats import from_record
from anygrain.data.shards import ShardReader
from anygrain.masks import pairwise_iou
from anygrain.types import Region, Sample

CHOOSE = ("coco", "pets", "horses", "clothing", "camvid")
REPORT = ("caltech_outlines", "coco_people", "food", "labelmefacade", "sky", "sysu_shapes")
LOWEST = 0.3  # belief of the pairs kept for the curves
BELIEF = {"seen": (0.0, 1.0), "unseen": (0.0, 1.0)}  # curves that leave it as it is
KINDS = ("seen", "unseen")


@dataclass
class Spread:
    """``limit`` photographs evenly spread over all: neighbours are often frames of one scene."""

    photos: Photos
    limit: int | None

    def __len__(self) -> int:
        return len(self.photos) if self.limit is None else min(self.limit, len(self.photos))

    def name(self, number: int) -> str:
        return self.photos.name(self._place(number))

    def read(self, number: int) -> Photo:
        return self.photos.read(self._place(number))

    def _place(self, number: int) -> int:
        return number * len(self.photos) // len(self)


def small(arguments: argparse.Namespace) -> tuple[Step, ...]:
    """The small route with nearly every pair kept, scored by its belief alone."""
    steps = []
    for step in route("none", "small"):
        if isinstance(step, (Refer, Agree)):
            step = replace(step, teacher=replace(step.teacher, bf16=arguments.bf16))
        lowest = {Refer: {"presence": LOWEST}, Agree: {"threshold": LOWEST, "thresholds": ()} | BELIEF}
        steps.append(replace(step, **lowest.get(type(step), {})))
    return tuple(steps)


def make(arguments, source: str, out: Path, steps: tuple[Step, ...], limit: int | None, known: bool) -> None:
    """Annotate a source's photographs; what is there is skipped."""
    photos = Spread(open_photos(arguments.shards / source, known=known), limit)
    print(f"{source}: {annotate(photos, out, steps, config=EngineConfig(part=4), progress=True)}", flush=True)


def records(folder: Path) -> Iterator[Sample]:
    reader = ShardReader(folder)
    return (from_record(reader.record(number), b"") for number in range(len(reader)))


def kind_of(region: Region) -> str:
    return "unseen" if class_of(region) is None else "seen"


def scored(sample: Sample, curves: Mapping[str, Curve]) -> Sample:
    """Scores of the curves for belief."""
    regions = (replace(r, score=probability(r.score or 0.0, curves[kind_of(r)])) for r in sample.regions)
    return replace(sample, regions=tuple(regions))


def own_curves() -> dict[str, Curve]:
    """Those that ``Agree`` comes with."""
    return {kind: getattr(Agree(), kind) for kind in KINDS}


def halves(arguments, sources, out: Path) -> dict:
    """Curves fitted on one half of each source's photographs, tried on the other, and the other way round."""
    pairs = [[], []]  # (kind, belief, right) of the photographs of each half
    for source in sources:
        both = sorted(matched(records(out / source), records(arguments.shards / source)), key=lambda two: two[0].id)
        for number, (predicted, truth) in enumerate(both):
            for region in predicted.regions:
                ((pair,), _) = judge(replace(predicted, regions=(region,)), truth)
                if pair.right is not None:
                    pairs[number % 2].append((kind_of(region), region.score, pair.right))
    figures = {"all": {kind: fitted(pairs[0] + pairs[1], kind) for kind in KINDS}, "halves": []}
    for own, other in ((0, 1), (1, 0)):
        curves = {kind: fitted(pairs[own], kind) for kind in KINDS}
        right = np.array([pair[2] for pair in pairs[other]])
        ways = {
            "evidence 0.6 for unseen": [b * (0.6 if kind == "unseen" else 1) for kind, b, _ in pairs[other]],
            "fitted": [probability(b, curves[kind]) for kind, b, _ in pairs[other]],
        }
        figures["halves"].append({"curves": curves, "pairs": len(right), "right": int(right.sum())})
        for way, scores in ways.items():
            figures["halves"][-1][way] = {
                "average precision": average_precision(np.array(scores), right),
                "Brier": float(((np.array(scores) - right) ** 2).mean()),
            }
    return figures


def fitted(pairs, kind: str) -> Curve:
    return fit(*zip(*[(belief, right) for k, belief, right in pairs if k == kind], strict=True))


def average_precision(scores: np.ndarray, right: np.ndarray) -> float:
    """Mean precision at each right pair, the surest first."""
    hits = right[np.argsort(-scores, kind="stable")]
    return float((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean())


def judged(arguments, sources, out: Path, curves: Mapping[str, Curve]):
    """Pairs and wanted categories of all sources' photographs that are annotated."""
    pairs, wanted = [], []
    for source in sources:
        for predicted, truth in matched(records(out / source), records(arguments.shards / source)):
            some, asked = judge(scored(predicted, curves), truth)
            pairs += some
            wanted += asked
    return pairs, wanted


def chosen(rows: list[Row], wanted: float) -> float | None:
    """The lowest threshold at which all sources together have the wanted precision."""
    return by_precision([(row.threshold, row.precision) for row in rows if row.source == "all"], wanted)


def given_masks(arguments, sources) -> dict[str, dict[str, int]]:
    """Names of given masks by their own crops against labelling from scratch, on the same photographs."""
    steps = tuple(
        replace(step, threshold=0.0) if isinstance(step, Name) else step
        for step in route("masks", "small", caption_given_masks=True)
    )
    each, classes = -(-arguments.given // len(sources)), {plain(word) for word in imagenet_names().words}
    ways = {"given": arguments.out / "given", "scratch": arguments.out / "choose"}
    figures = {way: {"pairs": 0, "wrong": 0, "of ImageNet": 0, "of ImageNet wrong": 0} for way in ways}
    for source in sources:
        make(arguments, source, ways["given"] / source, steps, each, known=True)
        photographs = {sample.id for sample in records(ways["given"] / source)}
        for way, folder in ways.items():
            made = (sample for sample in records(folder / source) if sample.id in photographs)
            if way == "scratch":
                made = (scored(sample, own_curves()) for sample in made)
            for predicted, truth in matched(made, records(arguments.shards / source)):
                for region in predicted.regions:
                    if way == "scratch" and (region.score or 0) < arguments.threshold:
                        continue
                    pairs, _ = judge(replace(predicted, regions=(region,)), truth)
                    for pair in (pair for pair in pairs if pair.right is not None):
                        known = int(true_name(region, truth) in classes)
                        counts = {"pairs": 1, "wrong": int(not pair.right), "of ImageNet": known}
                        counts["of ImageNet wrong"] = known * counts["wrong"]
                        figures[way] = {name: figures[way][name] + count for name, count in counts.items()}
    return figures


def true_name(region: Region, truth: Sample) -> str | None:
    """What the true mask is called that a region's mask overlaps most."""
    true = [(other.mask, other.category) for other in truth.regions if other.mask and other.category]
    if not true or region.mask is None:
        return None
    best = pairwise_iou([region.mask], [mask for mask, _ in true])[0].argmax()
    return plain(true[int(best)][1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path, help="a folder with shards of val photographs by source")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int, help="photographs a source")
    parser.add_argument("--choose", nargs="+", default=CHOOSE)
    parser.add_argument("--report", nargs="*", default=REPORT)
    parser.add_argument("--wanted", type=float, default=0.9, help="precision")
    parser.add_argument("--given", type=int, default=200, help="photographs of part 3")
    parser.add_argument("--bf16", action="store_true")
    arguments = parser.parse_args()
    thresholds = [round(LOWEST + 0.05 * step, 2) for step in range(14)]

    for source in arguments.choose:
        make(arguments, source, arguments.out / "choose" / source, small(arguments), arguments.limit, known=False)
    fits = halves(arguments, arguments.choose, arguments.out / "choose")
    print(json.dumps(fits, indent=1))
    rows = curve(*judged(arguments, arguments.choose, arguments.out / "choose", own_curves()), thresholds)
    Check(rows=rows).draw(arguments.out / "curve.png")
    print(Check(rows=rows))
    threshold = chosen(rows, arguments.wanted)
    print(f"\nthreshold for precision {arguments.wanted}: {threshold}\n", flush=True)
    arguments.threshold = threshold if threshold is not None else LOWEST
    figures = {"threshold": threshold, "wanted": arguments.wanted, "fits": fits}
    figures["choose"] = [asdict(row) for row in rows]

    for source in arguments.report:
        make(arguments, source, arguments.out / "report" / source, small(arguments), arguments.limit, known=False)
    if arguments.report:
        report = judged(arguments, arguments.report, arguments.out / "report", own_curves())
        rows = curve(*report, [LOWEST, arguments.threshold])
        Check(rows=rows).draw(arguments.out / "report.png")
        print(Check(rows=rows), flush=True)
        figures["report"] = [asdict(row) for row in rows]

    if arguments.given:
        figures["given"] = given_masks(arguments, arguments.choose)
        for way, count in figures["given"].items():
            print(f"{way}: {count}")
    (arguments.out / "quality.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
