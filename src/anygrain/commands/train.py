"""``anygrain train``: a recipe, its fields changed on the command line, and a model folder at the end."""

from __future__ import annotations

import dataclasses
import inspect
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import Positional, arg

from anygrain import __version__, markdown
from anygrain.commands.parse import MARKERS
from anygrain.recipes import RECIPES

if TYPE_CHECKING:
    from anygrain.train.trainer import Evaluate, TrainConfig


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Train a model by a recipe. Started again with the same command, a stopped run goes on where it was.

    The run folder gets config.json, log.jsonl, curves.png, checkpoints and, at the end, model/, which every command
    takes as --model. Every field of the recipe's configuration is an option too, for instance --steps 500,
    --optim.lr 1e-4 or --batch.size 320; `anygrain train RECIPE --data DIR --out RUN --help` lists them.

    examples:
      anygrain train unilseg_nano --data shards/train --val shards/val --out runs/nano
      anygrain train unilseg_nano --data shards/train --out runs/short --steps 500 --optim.lr 1e-3
      anygrain train unilseg_base --data shards/train --out runs/base --init models/unilseg
      anygrain train semantic_sam_nano --data shards/train --out runs/clicks --batch.box-ratio 0.5
      anygrain train psalm_nano --data shards/train --val shards/val --out runs/psalm
    """

    recipe: Annotated[Positional[str], arg(metavar="RECIPE")]
    """One of unilseg_nano, unilseg_nano_pretrain, unilseg_base, unilseg_base_pretrain (texts), semantic_sam_nano,
    semantic_sam_swint, semantic_sam_swinl (clicks and boxes), psalm_nano, psalm_align, psalm_joint (a language model:
    categories, phrases, regions, chats)."""
    data: Annotated[Path, arg(metavar="DIR")]
    """Shards to train on, a folder a source."""
    out: Annotated[Path, arg(metavar="RUN")]
    """The folder of the run."""
    val: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    """Shards to measure on, every eval_every steps and at the end."""
    val_photos: Annotated[int, arg(metavar="N")] = 12
    """How many photos of each source (PSALM: of each task) are measured on the way; `anygrain evaluate` takes all."""
    init: Annotated[str | None, arg(metavar="MODEL", help_behavior_hint="")] = None
    """Start from the weights of this model instead of the recipe's own."""
    storage: Literal["float32", "float16", "int8"] = "float32"
    """How the model is stored at the end; int8 is for the text encoder's matrices, float16 for the others."""


def train(arguments: Sequence[str]) -> int:
    """``anygrain train``."""
    options, config = read_options(arguments)
    from anygrain import hub
    from anygrain.data.loader import open_sources
    from anygrain.data.vocabulary import gather
    from anygrain.models.bert import Bert
    from anygrain.models.low_rank import add_low_rank, merge_low_rank
    from anygrain.train import checkpoint
    from anygrain.train.trainer import Trainer

    hub.pick_device(config.device)
    hub.check_replaceable(options.out / "model")
    model = _start_model(options, config)
    trainer = Trainer(config, model, options.out, evaluate=_evaluator(options, config))
    step = trainer.train()
    if step < config.steps:
        print(f"stopped after step {step} of {config.steps}; the same command goes on from there")
        return 130
    if not trainer.processes.first:
        return 0
    if trainer.processes.count > 1:  # this process holds only a part of the weights
        model = _start_model(options, config)
        if config.lora_rank:
            add_low_rank(model.language, config.lora_rank)
    best = trainer.checkpoints / "best"
    checkpoint.load_weights(best if best.is_dir() else trainer.checkpoints / checkpoint.name_of(step), model)
    merge_low_rank(model)
    # What is asked in words may be read as a near word that was trained; CLIP's cosines do not tell near from far.
    if "text" in model.accepts and isinstance(model.text_encoder, Bert):
        model.vocabulary = gather(chain.from_iterable(open_sources(config.data).values()))
    card = _card(options, config, arguments)
    print(hub.save(model.cpu().eval(), options.out / "model", card=card, storage=options.storage))
    return 0


def read_options(arguments: Sequence[str]) -> tuple[TrainOptions, TrainConfig]:
    """The command's own options, and the recipe's configuration with the fields given on the command line."""
    helps = {"-h", "--help"}
    known = bool(arguments) and arguments[0] in RECIPES and any(a.split("=")[0] == "--data" for a in arguments)
    wants_fields = known and not helps.isdisjoint(arguments)
    if arguments and arguments[0] not in RECIPES and helps.isdisjoint(arguments):
        raise ValueError(f"there is no recipe '{arguments[0]}'; give one of {', '.join(RECIPES)} right after `train`")
    own = [a for a in arguments if not (wants_fields and a in helps)]
    text = inspect.cleandoc(TrainOptions.__doc__ or "")
    options, rest = tyro.cli(
        TrainOptions, prog="anygrain train", description=text, args=own, return_unknown_args=True, config=MARKERS
    )
    default = import_module(RECIPES[options.recipe]).config(options.data)
    rest += ["--help"] if wants_fields else []
    prog = f"anygrain train {options.recipe} ..."
    config = tyro.cli(type(default), prog=prog, default=default, args=rest, config=MARKERS)
    return options, config


def _start_model(options: TrainOptions, config: TrainConfig) -> Any:
    """The network with its start weights: the recipe's, or those of ``--init``."""
    if options.init is None:
        return import_module(RECIPES[options.recipe]).build(config)
    from anygrain.hub import find, read_model

    model = read_model(find(options.init))
    if model.config != config.model:
        fields = [f.name for f in dataclasses.fields(config.model) if _differs(f.name, model.config, config.model)]
        raise ValueError(f"--init {options.init} is another network than the recipe's: {', '.join(fields)} differ")
    return model


def _differs(name: str, one: Any, other: Any) -> bool:
    return getattr(one, name, None) != getattr(other, name)


def _evaluator(options: TrainOptions, config: TrainConfig) -> Evaluate | None:
    val = options.val
    if val is None:
        return None
    from anygrain.data.psalm_tasks import PSALMBatchConfig
    from anygrain.eval.runner import evaluate_training
    from anygrain.eval.training_psalm import evaluate_psalm
    from anygrain.recipes.sources import find_sources

    find_sources(val)  # a wrong folder is said before the first step, not after many
    if isinstance(batch := config.batch, PSALMBatchConfig):
        weights = config.mixture.weights
        return lambda model, _step: evaluate_psalm(model, val, batch, options.val_photos, weights)
    return lambda model, _step: (
        evaluate_training(model, val, options.val_photos)
        if "text" in model.accepts
        else _click_figures(model, val, options.val_photos)
    )


def _click_figures(model: Any, val: Path, photos: int) -> dict[str, float]:
    """IoU of one click on each mask of some photos, by source: of the mask that the model thinks best, and of the best.

    "mean" and "oracle" are means over the sources.
    """
    from anygrain.eval.click_tasks import evaluate_clicks
    from anygrain.segmenter import Segmenter

    info = {"name": "in training", "fingerprint": "in training"}
    figures = evaluate_clicks(Segmenter(model, info), val, "click", limit=photos).sources
    best = {name: values["one_click_iou"] for name, values in figures.items()}
    oracle = {f"{name}/oracle": values["oracle_iou"] for name, values in figures.items()}
    means = {"mean": best, "oracle": oracle}
    return best | oracle | {name: sum(values.values()) / len(values) for name, values in means.items()}


def _card(options: TrainOptions, config: TrainConfig, arguments: Sequence[str]) -> str:
    """README.md of the trained model: what is known about it without a person."""
    import torch

    sources = ", ".join(Path(folder).name for folder in config.data)
    return (
        f"# {options.recipe}\n\nTrained with anygrain {__version__} and torch {torch.__version__} by\n"
        f"`anygrain train {shlex.join(arguments)}`.\n\n"
        f"{config.steps} steps of {config.batch_images} images; sources: {sources}. Their terms apply to the weights.\n"
        f"{_figures(options.out / 'log.jsonl')}"
    )


def _figures(log: Path) -> str:
    """A table of the last evaluation in the log; nothing when there is none."""
    from anygrain.train.log import read

    evaluations = [record for record in read(log) if any(name.startswith("eval/") for name in record)]
    if not evaluations:
        return ""
    last = evaluations[-1]
    rows = [(name[5:], f"{value:.4f}") for name, value in last.items() if name.startswith("eval/")]
    return f"\nMeasured at step {last['step']}:\n\n{markdown.table([('figure', 'value'), *rows])}\n"
