"""What is trained for each table: rows of equal cost, each of one or two stages.

- ``fig5`` (paper, Figure 5): how pseudo-labels are used. Not at all, mixed with the true labels, or first.
- ``fig6`` (paper, Figure 6): one model for one task, or one for all, without and with pretraining on pseudo-labels.
- ``table8`` (paper, Table 8): pre-fusion, vision path and language path on and off, all eight combinations.

All rows of a table take the same number of steps in total, of the same batch at the same size, from the same start
weights. The true labels are those of the scale's finetuning recipe, the pseudo-labels those of its pretraining recipe,
or those in folders of their own, e.g. what ``anygrain annotate`` has made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import product
from pathlib import Path

from anygrain.data.mixture import Mixture, MixtureConfig
from anygrain.data.shards import ShardReader
from anygrain.experiments.tasks import TASKS, Task
from anygrain.recipes import RECIPES
from anygrain.train.trainer import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How large the network is and how long a row.

    finetune, pretrain: names of the recipes of both stages.
    chooses: the pretraining recipe picks its sources itself; otherwise it gets those that a machine has labelled.
    steps: of a row, unless others are asked for; None takes the finetuning recipe's.
    """

    finetune: str
    pretrain: str
    chooses: bool
    steps: int | None


SCALES = {
    "nano": Scale(finetune="unilseg_nano", pretrain="unilseg_nano_pretrain", chooses=True, steps=300),
    "base": Scale(finetune="unilseg_base", pretrain="unilseg_base_pretrain", chooses=False, steps=None),
}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One training run. task: the only task that is asked; None asks whatever the samples offer."""

    name: str
    config: TrainConfig
    task: Task | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the table. Each stage starts from the weights of the one before, the first from the recipe's.

    note: one sentence about it, below the table.
    """

    name: str
    stages: tuple[Stage, ...]
    note: str

    @property
    def steps(self) -> int:
        """Of all stages."""
        return sum(stage.config.steps for stage in self.stages)

    def seeded(self, seed: int) -> Row:
        """The same row with another seed."""
        stages = (replace(stage, config=replace(stage.config, seed=seed)) for stage in self.stages)
        return replace(self, stages=tuple(stages))


@dataclass(frozen=True, kw_only=True)
class Labels:
    """The two kinds of labels that a table compares, each as its recipe's config, and how long a row is.

    pseudo: what a machine has labelled: names of sources in ``data``, or folders of shards, which then are all the
        pseudo-labels that there are.
    change: of every recipe's config, e.g. another size.
    """

    scale: Scale
    data: Path
    pseudo: Sequence[str]
    steps: int | None = None
    change: Callable[[TrainConfig], TrainConfig] = lambda config: config

    @property
    def length(self) -> int:
        """Steps of a row."""
        return self.steps or self.scale.steps or self._config(self.scale.finetune).steps

    def true(self) -> TrainConfig:
        """Finetuning: every source but those a machine has labelled."""
        config = self._config(self.scale.finetune)
        return _only(config, [folder for folder in config.data if Path(folder).name not in self.pseudo])

    def machine(self) -> TrainConfig:
        """Pretraining: the sources that its recipe chooses, or else those a machine has labelled.

        Raises ValueError when no source is labelled by a machine.
        """
        config = self._config(self.scale.pretrain)
        labelled = [folder for folder in config.data if Path(folder).name in self.pseudo]
        elsewhere = [name for name in self.pseudo if Path(name) not in map(Path, labelled) and _has_shards(name)]
        if not labelled and not elsewhere:
            names = ", ".join(self.pseudo)
            raise ValueError(f"{self.data}: no pseudo-labelled source ({names}) in it; build it or name it by --pseudo")
        return config if self.scale.chooses and not elsewhere else _only(config, [*labelled, *elsewhere])

    def _config(self, recipe: str) -> TrainConfig:
        return self.change(import_module(RECIPES[recipe]).config(self.data))


def fig5(labels: Labels) -> list[Row]:
    """Pseudo-labels not at all, mixed in, or first (paper: pretraining is better than joint training)."""
    true, machine, steps = labels.true(), labels.machine(), labels.length
    return [
        Row(name="none", stages=(_stage("finetune", true, steps),), note=f"{steps} steps on true labels only."),
        Row(
            name="joint",
            stages=(_stage("joint", _joint(true, machine), steps),),
            note=f"{steps} steps on both: each photo drawn with equal chance from the pretraining and the finetuning "
            "mixture; hide-and-seek as in pretraining, since pseudo-labels are in every batch.",
        ),
        _pretrained("pretrain+finetune", true, machine, steps),
    ]


def fig6(labels: Labels) -> list[Row]:
    """A model for each task against one for all (paper: all tasks without pretraining hurts those of short texts)."""
    steps = labels.length
    true, machine = (_annotated_only(config) for config in (labels.true(), labels.machine()))
    single = [
        Row(
            name=f"single-task-{task}",
            stages=(_stage("finetune", true, steps, task),),
            note=f"{steps} steps on the prompts of one task of every source that has them: {text}.",
        )
        for task, text in TASKS.items()
    ]
    multi = Row(
        name="multi-task",
        stages=(_stage("finetune", true, steps),),
        note=f"{steps} steps on the prompts of all {len(TASKS)} tasks; like these without generated phrases.",
    )
    return [*single, multi, _pretrained("pretrain+multi-task", true, machine, steps)]


def table8(labels: Labels) -> list[Row]:
    """The three parts of the network on and off."""
    true, steps = labels.true(), labels.length
    rows = []
    for language_path, vision_path, pre_fusion in product((False, True), repeat=3):
        parts = {"pre_fusion": pre_fusion, "vision_path": vision_path, "language_path": language_path}
        there = [part for part, on in parts.items() if on]
        config = replace(true, model=true.model.ablation(**parts))
        note = f"{steps} steps on true labels with {' and '.join(there) or 'none of the three parts'}."
        rows.append(Row(name="+".join(there) or "baseline", stages=(_stage("finetune", config, steps),), note=note))
    return rows


EXPERIMENTS: dict[str, Callable[[Labels], list[Row]]] = {"fig5": fig5, "fig6": fig6, "table8": table8}


def _pretrained(name: str, true: TrainConfig, machine: TrainConfig, steps: int) -> Row:
    first, then = steps // 2, steps - steps // 2
    stages = (_stage("pretrain", machine, first), _stage("finetune", true, then))
    note = f"{first} steps on pseudo-labels, then {then} on true labels, each with its whole schedule of rates."
    return Row(name=name, stages=stages, note=note)


def _stage(name: str, config: TrainConfig, steps: int, task: Task | None = None) -> Stage:
    """The config shortened to ``steps``: the warm-up keeps its part of the run."""
    warmup = config.optim.warmup * steps // config.steps
    config = replace(
        config,
        steps=steps,
        optim=replace(config.optim, warmup=warmup),
        log_every=min(config.log_every, steps),
        checkpoint_every=min(config.checkpoint_every, max(1, steps // 4)),
        keep_checkpoints=1,
        best_metric=None,
    )
    return Stage(name=name, config=config, task=task)


def _joint(true: TrainConfig, machine: TrainConfig) -> TrainConfig:
    """Each source as often as pretraining and finetuning of equal length together show it."""
    weights: dict[str, float] = {}
    for config in (true, machine):
        sizes = {Path(folder).name: len(ShardReader(folder)) for folder in config.data}
        mixture = Mixture(sizes, config.mixture, config.seed)
        for name, count in zip(mixture.sources, mixture.counts.tolist(), strict=True):
            weights[name] = weights.get(name, 0.0) + count
    data = tuple(dict.fromkeys((*true.data, *machine.data)))
    augment = replace(true.batch.augment, hide_and_seek=machine.batch.augment.hide_and_seek)
    batch = replace(true.batch, augment=augment)
    return replace(true, data=data, mixture=MixtureConfig(weights=weights), batch=batch)


def _annotated_only(config: TrainConfig) -> TrainConfig:
    """Without generated phrases, so that the prompts of all tasks are those of the single tasks together."""
    return replace(config, batch=replace(config.batch, phrase_ratio=0.0))


def _has_shards(folder: str) -> bool:
    return any(Path(folder).glob("*.tar"))


def _only(config: TrainConfig, folders: Sequence[str]) -> TrainConfig:
    return replace(config, data=tuple(folders), mixture=config.mixture.of(folders))
