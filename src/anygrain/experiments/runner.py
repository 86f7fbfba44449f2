"""Train and measure every row and seed of an experiment; what is finished is not done again.

``OUT/ROW/seed-N/`` holds a run folder for each stage, ``model/`` when it is trained, and ``figures.json`` when it is
measured. Checkpoints go when the model is there.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from anygrain import __version__, hub
from anygrain import config as configs
from anygrain.data.batch import BatchConfig
from anygrain.data.shards import ShardReader
from anygrain.eval.runner import evaluate
from anygrain.experiments.rows import EXPERIMENTS, SCALES, Labels, Row, Stage
from anygrain.experiments.table import GROUPS, Sources, Table
from anygrain.experiments.tasks import TaskView
from anygrain.images import write_atomic
from anygrain.recipes import RECIPES
from anygrain.recipes.sources import find_sources
from anygrain.recipes.start import start_from
from anygrain.train import checkpoint
from anygrain.train.trainer import TrainConfig, Trainer


class Stopped(Exception):
    """Training was asked to stop; the same call goes on from there."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What ``anygrain experiment`` runs.

    name: fig5, fig6 or table8. scale: nano or base. data, val: folders of shards, one a source. out: for the runs and
    the table. steps: of a row, 2 or more; None is the scale's length. seeds: each row is trained once for each.
    val_photos: of each measured source. pseudo: sources whose labels a machine has made, see ``Labels``.
    only: names of the rows that are run; all when empty. init: a model that all rows start from instead of the recipe's
    own start weights. change: of every config before it is shortened to its row.
    Raises ValueError for what cannot be run, before anything is written.
    """

    name: str
    scale: str
    data: Path
    val: Path
    out: Path
    steps: int | None = None
    seeds: Sequence[int] = (0, 1)
    val_photos: int = 20
    pseudo: Sequence[str] = ("pseudo_voc",)
    only: Sequence[str] = ()
    init: str | None = None
    change: Callable[[TrainConfig], TrainConfig] = lambda config: config

    def __post_init__(self):
        for what, name, known in (("experiment", self.name, EXPERIMENTS), ("scale", self.scale, SCALES)):
            if name not in known:
                raise ValueError(f"there is no {what} '{name}'; give one of {', '.join(known)}")
        if self.steps is not None and self.steps < 2:
            raise ValueError(f"steps is {self.steps}; a row takes at least 2, one for each of two stages")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            given = " ".join(map(str, self.seeds))
            raise ValueError(f"seeds are '{given}'; give one or more different numbers of 0 or above")
        if self.val_photos < 1:
            raise ValueError(f"val_photos is {self.val_photos}; measure at least 1 photo of a source")

    def rows(self) -> list[Row]:
        """What is compared. Raises ValueError for rows that the table does not have."""
        labels = Labels(
            scale=SCALES[self.scale], data=self.data, pseudo=self.pseudo, steps=self.steps, change=self.change
        )
        rows = EXPERIMENTS[self.name](labels)
        unknown = sorted({*self.only} - {row.name for row in rows})
        if unknown:
            names = ", ".join(row.name for row in rows)
            raise ValueError(f"{self.name} has no row {', '.join(unknown)}; its rows are {names}")
        return [row for row in rows if not self.only or row.name in self.only]

    def measured_sources(self) -> list[Path]:
        """Folders of ``val`` that belong to a task. Raises ValueError when there is none."""
        names = [name for _, sources in GROUPS.values() for name in sources]
        folders = [folder for folder in map(Path, find_sources(self.val)) if folder.name in names]
        if not folders:
            raise ValueError(f"{self.val}: none of the sources that the table measures is in it ({', '.join(names)})")
        return folders

    def run_folder(self, row: Row, seed: int) -> Path:
        """Where a row's run with a seed lies."""
        return self.out / row.name / f"seed-{seed}"

    def start(self) -> str:
        """The weights that all rows start from, in words that say exactly which."""
        if self.init is None:
            return "the recipe's"
        return f"{self.init} ({hub.fingerprint(hub.find(self.init))[:8]})"

    def settings(self, rows: Sequence[Row]) -> dict[str, Any]:
        """What all rows share."""
        config = rows[0].stages[-1].config
        return {
            "scale": self.scale,
            "data": str(self.data),
            "val": str(self.val),
            "photos measured of each source": self.val_photos,
            "photos in a step": config.batch_images,
            "pixels": config.batch.size,
            "start": self.start(),
            "seeds": " ".join(map(str, self.seeds)),
            "anygrain": __version__,
        }


def run(experiment: Experiment) -> tuple[Table, str | None]:
    """Do what is left to do; ``table.md`` and ``table.json`` are written after every run.

    Returns the table as far as it is, and where Ctrl-C or SIGTERM stopped it, None at the end.
    Raises ValueError when ``out`` holds runs of other settings, and OSError when it cannot be written.
    """
    rows, folders = experiment.rows(), experiment.measured_sources()
    runs = [(row.seeded(seed), seed) for seed in experiment.seeds for row in rows]
    for row, seed in runs:
        for stage in row.stages:
            _require_same(stage.config, experiment.run_folder(row, seed) / stage.name / "config.json")
    hub.pick_device(rows[0].stages[0].config.device)
    if experiment.init is not None:
        _start_model(experiment, rows[0])  # a model that does not fit is said before anything is written
    _require_same_start(experiment)
    table = Table(experiment=experiment.name, rows=rows, settings=experiment.settings(rows))
    for number, (row, seed) in enumerate(runs, 1):
        print(f"[{number}/{len(runs)}] {row.name}, seed {seed}", file=sys.stderr)
        folder = experiment.run_folder(row, seed)
        try:
            _train(experiment, row, folder)
        except Stopped as stopped:
            return table, f"{row.name}, seed {seed}: {stopped}"
        table.add(row, seed, _measure(experiment, row, folder, folders))
        table.write(experiment.out)
    return table, None


def _require_same(config: TrainConfig, path: Path) -> None:
    """A run that was begun goes on with its own settings only."""
    if not path.exists():
        return
    before, now = json.loads(path.read_text(encoding="utf-8")), configs.to_dict(config)
    changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    if changed:
        raise ValueError(
            f"{path.parent}: holds a run of other settings ({', '.join(changed)} differ); "
            "give the options it was begun with, or another --out"
        )


def _require_same_start(experiment: Experiment) -> None:
    """All runs below ``out`` start from the same weights, which ``start.txt`` names. Makes the folder."""
    path, now = experiment.out / "start.txt", experiment.start()
    before = path.read_text(encoding="utf-8").strip() if path.exists() else None
    if before is not None and before != now:
        raise ValueError(f"{experiment.out}: its runs start from {before}, not {now}; give that, or another --out")
    experiment.out.mkdir(parents=True, exist_ok=True)
    if before is None:
        write_atomic(path, f"{now}\n".encode())


def _start_model(experiment: Experiment, row: Row) -> Any:
    config = row.stages[0].config
    if experiment.init is not None:
        return start_from(experiment.init, config.model)
    return import_module(RECIPES[SCALES[experiment.scale].finetune]).build(config)


def _train(experiment: Experiment, row: Row, folder: Path) -> None:
    """Every stage, and the model at the end. Raises Stopped."""
    if not (folder / "model").is_dir():
        model = _start_model(experiment, row)
        for stage in row.stages:
            _train_stage(stage, model, folder / stage.name)
        hub.save(model.cpu().eval(), folder / "model", card=_card(row), storage="float16")
    for checkpoints in folder.glob("*/checkpoints"):
        shutil.rmtree(checkpoints)


def _train_stage(stage: Stage, model: Any, folder: Path) -> None:
    """Train to the end of a stage, which leaves its averaged weights in the model. Raises Stopped."""
    config = stage.config
    sources = None
    if stage.task is not None and isinstance(config.batch, BatchConfig):
        # a source without anything to ask is empty, and the mixture leaves it out
        sources = {Path(data).name: TaskView(data, stage.task, boxes=config.batch.boxes) for data in config.data}
    trainer = Trainer(config, model, folder, sources=sources)
    step = trainer.train()
    if step < config.steps:
        raise Stopped(f"stopped after step {step} of {config.steps} of the stage {stage.name}")
    checkpoint.load_weights(trainer.checkpoints / checkpoint.name_of(step), model)


def _card(row: Row) -> str:
    return f"# {row.name}\n\nA row of an experiment of anygrain {__version__}: {row.note}\n"


def _measure(experiment: Experiment, row: Row, folder: Path, folders: Sequence[Path]) -> Sources:
    """The model's figures by source, read where they were measured on the same photos before."""
    path, photos = folder / "figures.json", {source.name: len(ShardReader(source)) for source in folders}
    asked = {"val": str(experiment.val), "photos": photos, "measured": experiment.val_photos}
    if path.exists():
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["asked"] == asked:
            return record["sources"]
    segmenter = hub.load(folder / "model", device=row.stages[-1].config.device)
    sources = {}
    for source in folders:
        report = evaluate(segmenter, source, limit=experiment.val_photos)
        sources[source.name] = report.sources[source.name].figures
    write_atomic(path, (json.dumps({"asked": asked, "sources": sources}, indent=1) + "\n").encode())
    return sources
