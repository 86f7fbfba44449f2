"""How far are our metrics from the reference implementations? The largest difference of any figure over random cases.

PySODMetrics and panopticapi are compared with when they can be imported (pip install --no-deps pysodmetrics
panopticapi-lite, in an environment of their own); the others are compared with their definitions, written here without
the shortcuts of ours. AP is pycocotools' own; tests/eval/test_detection.py compares its tables with files.

    python benchmarks/agreement.py --cases 100
"""

import argparse
import contextlib
import importlib
import importlib.util
import io
import sys
import tempfile
import types
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (37, 52)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100, help="random cases of each metric")
    cases = parser.parse_args().cases
    print(f"{'metric':34}{'compared with':32}{'cases':>7}{'largest difference':>22}")
    for name, reference, compare in (
        ("MAE, F, weighted F, S, E", "PySODMetrics", saliency),
        ("PQ, SQ, RQ, things and stuff", "panopticapi", panoptic),
        ("mIoU, pixel and mean accuracy", "definition", label_maps),
        ("boundary F (DAVIS)", "definition, by dilation", boundary_f),
        ("cIoU, gIoU, P@X (LAVT)", "definition", expressions),
        ("AUROC", "definition, by pairs", auroc),
        ("one-click, oracle IoU", "definition", clicks),
    ):
        rng = np.random.default_rng(0)
        try:
            worst = max(compare(rng) for _ in range(cases))
        except ImportError as error:
            print(f"{name:34}{reference:32}{'-':>7}  not installed: {error}")
            continue
        print(f"{name:34}{reference:32}{cases:7}{worst:22.2g}", flush=True)


def blob(rng):
    """A random mask of a few ellipses, not empty and not all."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    mask = np.zeros(SIZE, bool)
    for _ in range(rng.integers(1, 4)):
        height, width = rng.uniform(3, 12, 2)
        mask |= ((y - rng.uniform(5, 32)) / height) ** 2 + ((x - rng.uniform(5, 47)) / width) ** 2 < 1
    return mask


def furthest(ours, theirs):
    """The largest difference of figures of the same names."""
    assert theirs.keys() <= ours.keys(), theirs.keys() - ours.keys()
    return max(abs(ours[name] - value) for name, value in theirs.items())


def saliency(rng):
    from anygrain.eval.saliency import Saliency

    warnings.filterwarnings("ignore", message="This class will be removed")
    reference = sod_metrics()
    measures = {
        name: getattr(reference, name)() for name in ("MAE", "Fmeasure", "WeightedFmeasure", "Smeasure", "Emeasure")
    }
    ours = Saliency()
    for _ in range(3):
        truth = blob(rng)
        soft = np.clip(truth * rng.uniform(50, 200) + rng.normal(40, 40, SIZE), 0, 255).astype(np.uint8)
        ours.update(soft, truth)
        for measure in measures.values():
            measure.step(soft, truth.astype(np.uint8) * 255)
    found = {name: measure.get_results() for name, measure in measures.items()}
    f, e = found["Fmeasure"]["fm"], found["Emeasure"]["em"]
    return furthest(
        ours.compute(),
        {
            "mae": found["MAE"]["mae"],
            "adaptive_f": f["adp"],
            "mean_f": f["curve"].mean(),
            "max_f": f["curve"].max(),
            "weighted_f": found["WeightedFmeasure"]["wfm"],
            "s_measure": found["Smeasure"]["sm"],
            "adaptive_e": e["adp"],
            "mean_e": e["curve"].mean(),
            "max_e": e["curve"].max(),
        },
    )


def sod_metrics():
    """PySODMetrics' main module alone: the rest of the package wants OpenCV and scikit-image, which these do not."""
    if "py_sod_metrics" not in sys.modules:
        place = importlib.util.find_spec("py_sod_metrics")
        if place is None:
            raise ImportError("py_sod_metrics")
        package = types.ModuleType("py_sod_metrics")
        package.__path__ = list(place.submodule_search_locations)
        sys.modules["py_sod_metrics"] = package
        for name in ("cv2", "skimage"):
            if importlib.util.find_spec(name) is None:
                sys.modules[name] = types.ModuleType(name)
                sys.modules[name].measure = sys.modules[name].morphology = None
    return importlib.import_module("py_sod_metrics.sod_metrics")


def panoptic(rng):
    from panopticapi.evaluation import pq_compute_single_core

    from anygrain.eval.panoptic import PanopticQuality

    names = {1: "car", 2: "dog", 3: "sky", 4: "road"}
    table = {number: {"isthing": int(number < 3)} for number in names}
    ours, pairs = PanopticQuality(things=("car", "dog")), []
    with tempfile.TemporaryDirectory() as folder:
        for photo in range(2):
            truth, true = segments(rng)
            found = np.where(rng.random(SIZE) < 0.1, 0, truth)
            moved = np.roll(found, rng.integers(-3, 4), 1)
            answered = {
                i: true[i] if rng.random() < 0.9 else int(rng.integers(1, 5)) for i in np.unique(moved).tolist() if i
            }
            crowds = [i for i in true if rng.random() < 0.15]
            ours.update(
                moved, {i: names[c] for i, c in answered.items()}, truth, {i: names[c] for i, c in true.items()}, crowds
            )
            rows = []
            for kind, index, categories in (("truth", truth, true), ("found", moved, answered)):
                rgb = np.stack([index % 256, index // 256, index * 0], -1).astype(np.uint8)
                Image.fromarray(rgb).save(Path(folder) / f"{kind}{photo}.png")
                info = [
                    {
                        "id": i,
                        "category_id": c,
                        "area": int((index == i).sum()),
                        "iscrowd": int(kind == "truth" and i in crowds),
                    }
                    for i, c in categories.items()
                ]
                rows.append({"file_name": f"{kind}{photo}.png", "image_id": photo, "segments_info": info})
            pairs.append(rows)
        with contextlib.redirect_stdout(io.StringIO()):
            stat = pq_compute_single_core(0, pairs, folder, folder, table)
    theirs = {}
    for suffix, thing in (("", None), ("_things", True), ("_stuff", False)):
        if any(f"pq{suffix}" == name for name in ours.compute()):
            figures, _ = stat.pq_average(table, thing)
            theirs |= {f"{key}{suffix}": figures[key] for key in ("pq", "sq", "rq")}
    return furthest(ours.compute(), theirs)


def segments(rng):
    """A map of segment ids with some void, and the category of each."""
    index = np.zeros(SIZE, np.int64)
    for number in range(1, 9):
        index[blob(rng)] = number * 40
    return index, {i: int(rng.integers(1, 5)) for i in np.unique(index).tolist() if i}


def label_maps(rng):
    from anygrain.eval.semantic import Confusion

    names = [f"c{number}" for number in range(7)]
    found, truth = rng.integers(-1, 7, SIZE), np.where(rng.random(SIZE) < 0.1, 255, rng.integers(0, 6, SIZE))
    ours = Confusion(names)
    ours.update(found, truth)
    known = truth != 255
    ious, recalls = [], []
    for number in range(7):
        a, b = (found == number) & known, truth == number
        if (a | b).any():
            ious.append((a & b).sum() / (a | b).sum())
        if b.any():
            recalls.append((a & b).sum() / b.sum())
    theirs = {
        "miou": np.mean(ious),
        "pixel_accuracy": (found == truth)[known].mean(),
        "mean_accuracy": np.mean(recalls),
    }
    return furthest(ours.compute(), theirs)


def boundary_f(rng):
    """Contour pixels that the other's contour reaches when it is dilated by a disk, as DAVIS' evaluation does it."""
    from scipy.ndimage import binary_dilation

    from anygrain.eval.boundary import boundary_f as ours

    mask, truth = blob(rng), blob(rng)
    radius = int(np.ceil(0.008 * np.hypot(*SIZE)))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk = x * x + y * y <= radius * radius
    edges = [contour(one) for one in (mask, truth)]
    shares = [(one & binary_dilation(other, disk)).sum() / one.sum() for one, other in (edges, edges[::-1])]
    theirs = 2 * shares[0] * shares[1] / sum(shares) if sum(shares) else 0.0
    return abs(ours(mask, truth) - theirs)


def contour(mask):
    """Pixels whose right, lower or lower right neighbour is another, as DAVIS draws contours; the rim is none."""
    edge = np.zeros_like(mask)
    edge[:, :-1] |= mask[:, :-1] ^ mask[:, 1:]
    edge[:-1] |= mask[:-1] ^ mask[1:]
    edge[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    edge[-1], edge[:, -1] = (
        mask[-1] ^ np.append(mask[-1, 1:], mask[-1, -1:]),
        mask[:, -1] ^ np.append(mask[1:, -1], mask[-1:, -1]),
    )
    edge[-1, -1] = False
    return edge


def expressions(rng):
    from anygrain.eval.expressions import ExpressionIoU
    from anygrain.eval.metrics import overlap

    ours, pairs = ExpressionIoU("refcoco"), []
    for _ in range(8):
        mask, truth = blob(rng), blob(rng)
        ours.update(overlap(mask, truth.astype(np.uint8)), target=True, answered=True)
        pairs.append(((mask & truth).sum(), (mask | truth).sum()))
    ious = np.array([i / u for i, u in pairs])
    theirs = {"ciou": sum(i for i, _ in pairs) / sum(u for _, u in pairs), "giou": ious.mean()}
    theirs |= {f"p_at_0.{level}": (ious >= level / 10).mean() for level in (5, 6, 7, 8, 9)}
    return furthest(ours.compute(), theirs)


def auroc(rng):
    from anygrain.eval.presence import PresenceScores

    ours, scores, there = PresenceScores(), rng.integers(0, 20, 60) / 20, rng.random(60) < 0.4
    for score, present in zip(scores.tolist(), there.tolist(), strict=True):
        ours.update(score, there=present)
    pairs = scores[there][:, None] - scores[~there]
    figures = ours.compute()
    (name,) = (name for name in figures if "auroc" in name)
    return abs(figures[name] - ((pairs > 0) + (pairs == 0) / 2).mean())


def clicks(rng):
    from anygrain.eval.clicks import ClickIoU

    ours, best, oracle = ClickIoU(), [], []
    for _ in range(5):
        truth, masks, scores = blob(rng), np.array([blob(rng) for _ in range(6)]), rng.random(6)
        ours.update(masks, scores, truth.astype(np.uint8))
        ious = [(mask & truth).sum() / (mask | truth).sum() for mask in masks]
        best.append(ious[int(scores.argmax())])
        oracle.append(max(ious))
    return furthest(ours.compute(), {"one_click_iou": np.mean(best), "oracle_iou": np.mean(oracle)})


if __name__ == "__main__":
    main()
