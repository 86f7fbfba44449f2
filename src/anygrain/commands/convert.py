"""``anygrain convert``: official checkpoints and the mean of several models to model folders."""

from __future__ import annotations

import warnings
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

    hub.check_replaceable(options.out)
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
class RamOptions:
    """Turn the official RAM checkpoint, as it was published, into the folder of a tagger.

    The file is read without running code from it, and checked strictly: a missing, unexpected or wrongly shaped
    tensor is named. It holds no names: those of the tags and their thresholds are two text files in ram/data of
    https://github.com/xinyu1205/recognize-anything (Apache-2.0), looked for beside the checkpoint.

    examples:
      anygrain convert ram ram_swin_large_14m.pth models/ram
      anygrain convert ram ram_swin_large_14m.pth models/ram --tags ram/data/ram_tag_list.txt \\
        --thresholds ram/data/ram_tag_list_threshold.txt --storage float16
    """

    checkpoint: Annotated[Positional[Path], arg(metavar="CHECKPOINT.pth")]
    """The official file."""
    out: Annotated[Positional[Path], arg(metavar="OUT")]
    """The folder to make; an older model folder of that name is replaced."""
    tags: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None
    """Names of the tags, one a line, in the checkpoint's order (ram_tag_list.txt beside the checkpoint)."""
    thresholds: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None
    """Their thresholds, one a line (ram_tag_list_threshold.txt beside the checkpoint)."""
    storage: Literal["float32", "float16"] = "float32"
    """float32 keeps every bit, float16 halves the file."""


def ram(arguments: Sequence[str]) -> int:
    """``anygrain convert ram``."""
    options = parse(RamOptions, "convert ram", arguments)
    import torch

    from anygrain import hub
    from anygrain.models.convert import read_official
    from anygrain.models.convert_ram import ram
    from anygrain.models.ram import RAM, RAMConfig
    from anygrain.models.tags import TagList

    hub.check_replaceable(options.out)
    config = RAMConfig.released()
    weights = ram(read_official(options.checkpoint, under="model"), config, where=str(options.checkpoint))
    names = _beside(options.checkpoint, options.tags, "ram_tag_list.txt", "--tags")
    thresholds = _beside(options.checkpoint, options.thresholds, "ram_tag_list_threshold.txt", "--thresholds")
    with torch.device("meta"):
        network = RAM(config)
    network.load_state_dict(weights, assign=True)
    network.tags = TagList.from_text(names, thresholds, config.num_tags)
    card = (
        f"# RAM, official weights\n\nConverted from `{options.checkpoint.name}` with anygrain {__version__}; the "
        "numbers are those of the official file. It tags: it draws no masks. Paper: arXiv 2306.03514; code and "
        "weights are by the authors of https://github.com/xinyu1205/recognize-anything, the code under Apache-2.0.\n\n"
        f"- names of the tags: {_origin(names)}\n- thresholds: {_origin(thresholds)}\n"
    )
    print(hub.save(network, options.out, card=card, storage=options.storage))
    return 0


def _beside(checkpoint: Path, given: Path | None, name: str, option: str) -> Path:
    path = given or checkpoint.parent / name
    if given is None and not path.is_file():
        raise ValueError(
            f"there is no {path}: get {name} from ram/data of https://github.com/xinyu1205/recognize-anything "
            f"(Apache-2.0), or name such a file with {option}"
        )
    return path


def _origin(path: Path) -> str:
    """A text file and its licence, for the card; warns when it is not one of those published."""
    from anygrain.models.tags import published

    if what := published(path):
        return f"`{path.name}`, {what}, Apache-2.0"
    warnings.warn(
        f"{path} is not a file published with RAM: its lines must be in the order of the checkpoint's tags, "
        "which nothing here can check",
        stacklevel=1,
    )
    return f"`{path.name}`, not a file published with RAM: its terms are those of its source"


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
    from anygrain import hub, released

    hub.check_replaceable(options.out)
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
    from anygrain import hub, released

    hub.check_replaceable(options.out)
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

    hub.check_replaceable(options.out)
    folders = [hub.find(name).resolve() for name in options.models]  # once: of org/repo it asks the Hub
    network = average(folders)
    names = "\n".join(f"- {folder.name} ({hub.fingerprint(folder)})" for folder in folders)
    card = f"# A mean of models\n\nEvery weight is the mean of these models', by anygrain {__version__}:\n\n{names}\n"
    print(hub.save(network, options.out, card=card, storage=options.storage))
    return 0
