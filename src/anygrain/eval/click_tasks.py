"""Tasks of clicks on shards: one click and the right mask; all granularities of one click; names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from anygrain.data.shards import ShardReader
from anygrain.eval.click_meters import ClickMeter, GranularityMeter
from anygrain.eval.name_meter import NameMeter
from anygrain.eval.photo import Photo
from anygrain.eval.runner import photos_of, progress
from anygrain.eval.tasks import spread
from anygrain.images import write_atomic
from anygrain.markdown import table
from anygrain.recipes.sources import find_sources
from anygrain.types import Region

if TYPE_CHECKING:
    from anygrain.segmenter import Segmenter
    from anygrain.types import ImageEmbedding

ClickTask = Literal["click", "granularity", "names"]


@dataclass(frozen=True, kw_only=True)
class ClickReport:
    """Figures of each source by name; ``print`` it for the table.

    settings: what they depend on. model: name and fingerprint.
    """

    task: ClickTask
    model: dict[str, str]
    data: str
    sources: dict[str, dict[str, float]]
    settings: dict[str, Any]

    def __str__(self) -> str:
        columns = list(dict.fromkeys(name for figures in self.sources.values() for name in figures))
        rows = [["source", *columns]]
        for source, figures in self.sources.items():
            cells = (figures.get(name) for name in columns)
            rows.append([source, *("" if v is None else f"{v:.3f}" if v <= 1 or v % 1 else f"{v:.0f}" for v in cells)])
        return table(rows)

    def write(self, out: Path) -> None:
        """``report.json`` in folder ``out``."""
        record = {name: getattr(self, name) for name in self.__dataclass_fields__}
        write_atomic(out / "report.json", (json.dumps(record, indent=1) + "\n").encode())


def evaluate_clicks(
    segmenter: Segmenter,
    data: str | Path,
    task: ClickTask,
    *,
    limit: int | None = None,
    clicks: int = 1,
    points_per_side: int = 16,
) -> ClickReport:
    """Click on every mask of the shards under ``data``.

    task "click": ``one_click_iou`` and ``oracle_iou`` of ``clicks.ClickIoU``. With more clicks ``iou_k`` is the IoU
        after k of them, each in the middle of the largest mistake, and ``good`` the share of masks above 0.85 by then.
    task "granularity": ``best`` is the mean, over the clicks and over all annotated masks that hold the click, of the
        IoU of the best row; ``chosen`` that of the row which the model thinks best; ``rows`` their mean number; and
        ``best_part`` and so on the same for truths of that granularity. Of one click on a part whose whole is annotated
        too, ``part`` and ``whole`` are the IoU of the best row with either, and ``both`` the share of such clicks where
        one row has at least 0.5 with the part and another one with the whole.
    task "names": see ``NameMeter``; ``points_per_side`` is that of the grid which finds the masks to name.
    limit: photos of each source, evenly spaced.
    Raises ValueError for a model without clicks (or, for names, without a text encoder), for shards without masks, and
    for bad numbers.
    """
    if "points" not in segmenter.model.accepts:
        raise ValueError(f"model '{segmenter.info['name']}' takes no clicks: evaluate it by texts, without --task")
    if task == "names" and "categories" not in segmenter.model.accepts:
        raise ValueError(f"model '{segmenter.info['name']}' has no text encoder, so there are no names to measure")
    if not 1 <= clicks <= 20:
        raise ValueError(f"clicks must be from 1 to 20, got {clicks}")
    sources = {}
    folders = find_sources(data)
    with progress(sum(len(spread(len(ShardReader(folder)), limit)) for folder in folders)) as bar:
        for folder in folders:
            meter, photos = _meter(task, clicks, points_per_side, folder), 0
            for photo in photos_of(folder, limit):
                regions = [r for r in photo.sample.regions if r.mask is not None and r.mask.area and not r.ignore]
                if regions:
                    (embedding,) = segmenter.embed([photo.image])
                    photos += 1
                    meter.ask(segmenter, embedding, photo, regions)
                bar.update()
            if figures := meter.compute():
                sources[Path(folder).name] = {"photos": float(photos)} | figures
    if not sources:
        what = "a named mask" if task == "names" else "a mask"
        raise ValueError(f"{data}: no photo has {what}, so there is nothing to click on")
    settings = {"limit": limit, "clicks": clicks, "threshold": segmenter.threshold, "click": "distance transform"}
    settings |= {"points_per_side": points_per_side} if task == "names" else {}
    return ClickReport(task=task, model=dict(segmenter.info), data=str(data), sources=sources, settings=settings)


class Meter(Protocol):
    """Counts the photos of one source."""

    def ask(self, segmenter: Segmenter, embedding: ImageEmbedding, photo: Photo, regions: Sequence[Region]) -> None:
        """Click on the regions of a photo and count the answers."""
        ...

    def compute(self) -> dict[str, float]:
        """Figures by name; nothing when there was nothing to ask."""
        ...


def _meter(task: ClickTask, clicks: int, points_per_side: int, folder: str) -> Meter:
    if task == "click":
        return ClickMeter(clicks)
    if task == "granularity":
        return GranularityMeter()
    return NameMeter.of(folder, points_per_side)
