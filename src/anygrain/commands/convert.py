"""``anygrain convert``: official checkpoints and the mean of several models to model folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from anygrain import __version__
from anygrain.commands.parse import parse


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """Turn the official UniLSeg checkpoint, as it was published, into a model folder.

    The file is read without running code from it, and checked strictly: a missing, unexpected or wrongly shaped
    tensor is named.

    examples:
      anygrain convert unilseg UniLSeg20_no_finetune.pth models/unilseg
      anygrain segment street.jpg -t "all people" --model models/unilseg
    """

    checkpoint: Annotated[Positional[Path], arg(metavar="CHECKPOINT.pth")]
    """The official file."""
    out: Annotated[Positional[Path], arg(metavar="OUT")]
    """The folder to make; an older model folder of that name is replaced."""
    storage: Literal["float32", "float16"] = "float32"
    """float32 keeps every bit, float16 halves the file."""


def unilseg(arguments: Sequence[str]) -> int:
    """``anygrain convert unilseg``."""
    options = parse(ConvertOptions, "convert unilseg", arguments)
    import torch

    from anygrain import hub
    from anygrain.models import convert
    from anygrain.models.clip_tokenizer import ClipTokenizer
    from anygrain.models.unilseg import UniLSeg, UniLSegConfig

    check_model_folder(options.out)
    config = UniLSegConfig.released()
    weights = convert.unilseg(convert.read_official(options.checkpoint), config, where=str(options.checkpoint))
    with torch.device("meta"):
        network = UniLSeg(config, ClipTokenizer())
    network.load_state_dict(weights, assign=True)
    card = (
        f"# UniLSeg, official weights\n\nConverted from `{options.checkpoint.name}` with anygrain {__version__}; "
        "the numbers are those of the official file. Paper: arXiv 2312.01623. Ask its authors for the terms.\n"
    )
    print(hub.save(network, options.out, card=card, storage=options.storage))
    return 0


@dataclass(frozen=True, kw_only=True)
class SemanticSAMOptions:
    """Turn an official Semantic-SAM checkpoint (Swin-T or Swin-L), as it was published, into a model folder.

    The file is read without running code from it, and checked strictly: a missing, unexpected or wrongly shaped
    tensor is named, and copies of tied parameters must be equal. `--model semantic-sam-swint` does all of it by itself.

    examples:
      anygrain convert semantic-sam swint_only_sam_many2many.pth models/semantic_sam
      anygrain segment street.jpg --point 310,200 --model models/semantic_sam
    """

    checkpoint: Annotated[Positional[Path], arg(metavar="CHECKPOINT.pth")]
    """The official file."""
    out: Annotated[Positional[Path], arg(metavar="OUT")]
    """The folder to make; an older model folder of that name is replaced."""
    storage: Literal["float32", "float16"] = "float32"
    """float32 keeps every bit, float16 halves the file."""


def semantic_sam(arguments: Sequence[str]) -> int:
    """``anygrain convert semantic-sam``."""
    options = parse(SemanticSAMOptions, "convert semantic-sam", arguments)
    from anygrain import released

    check_model_folder(options.out)
    print(released.convert_semantic_sam(options.checkpoint, options.out, storage=options.storage))
    return 0


@dataclass(frozen=True, kw_only=True)
class PSALMOptions:
    """Turn the released PSALM, the folder of its files as it was published, into a model folder.

    All 935 tensors of the official code are checked: a missing one, or one of another shape, is named. Tensors of other
    experiments that the shards hold too are named and left aside. `--model psalm` does all of it by itself.

    examples:
      hf download EnmingZhang/PSALM --local-dir PSALM
      anygrain convert psalm PSALM models/psalm
      anygrain segment street.jpg --model models/psalm --categories coco
    """

    folder: Annotated[Positional[Path], arg(metavar="FOLDER")]
    """The released folder: shards with their index, vocab.json, merges.txt and added_tokens.json."""
    out: Annotated[Positional[Path], arg(metavar="OUT")]
    """The folder to make; an older model folder of that name is replaced."""
    storage: Literal["float32", "float16"] = "float32"
    """float32 keeps every bit, float16 halves the file."""


def psalm(arguments: Sequence[str]) -> int:
    """``anygrain convert psalm``."""
    options = parse(PSALMOptions, "convert psalm", arguments)
    from anygrain import released

    check_model_folder(options.out)
    print(released.convert_psalm(options.folder, options.out, storage=options.storage))
    return 0


@dataclass(frozen=True, kw_only=True)
class AverageOptions:
    """Make one model of several: each of its weights is the mean of theirs.

    Often better than any of them when one was trained on from another. Look at `anygrain evaluate` before you keep it.

    examples:
      anygrain convert average runs/part1/model runs/part2/model --out models/mean
      anygrain convert average nano runs/mine/model runs/mine/model --out models/mean   # one third, two thirds
    """

    models: Annotated[Positional[tuple[str, ...]], arg(metavar="MODEL")]
    """Two or more: shipped models, folders or org/repo, of one configuration. A model named twice counts twice."""
    out: Annotated[Path, arg(metavar="FOLDER")]
    """The folder to make; an older model folder of that name is replaced."""
    storage: Literal["float32", "float16", "int8"] = "float32"
    """float32 keeps every bit, float16 halves the file, int8 also stores the text encoder in 8 bits, as `nano` is."""


def average(arguments: Sequence[str]) -> int:
    """``anygrain convert average``."""
    options = parse(AverageOptions, "convert average", arguments)
    from anygrain import hub
    from anygrain.average import average

    check_model_folder(options.out)
    folders = [hub.find(name).resolve() for name in options.models]  # once: of org/repo it asks the Hub
    network = average(folders)
    names = "\n".join(f"- {folder.name} ({hub.fingerprint(folder)})" for folder in folders)
    card = f"# A mean of models\n\nEvery weight is the mean of these models', by anygrain {__version__}:\n\n{names}\n"
    print(hub.save(network, options.out, card=card, storage=options.storage))
    return 0


def check_model_folder(out: Path) -> None:
    """Refuse to replace anything but a model folder."""
    if out.is_dir() and any(out.iterdir()) and not (out / "model.safetensors").is_file():
        raise ValueError(f"{out} holds other things than a model: name a new folder")
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file: name a new folder")
