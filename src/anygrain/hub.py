"""Model folders: ``config.json``, ``model.safetensors``, ``README.md``; ``tokenizer.json`` for models that read text,
``vocabulary.json`` for those that know what they were trained on, ``tags.json`` for taggers. Nothing pickled.

``load`` and ``load_tagger`` take an alias of a shipped model, the name of a released one, a folder, or ``org/repo`` on
the Hugging Face Hub.
"""

from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from anygrain import config as configs
from anygrain.files import sha256, whole_folder
from anygrain.models import MODELS
from anygrain.models.tags import TagList
from anygrain.released import ADDRESSES, REPOSITORIES, fetch
from anygrain.vocabulary import Vocabulary

if TYPE_CHECKING:
    from torch import Tensor, nn

    from anygrain.models.psalm.network import PSALM
    from anygrain.models.ram import RAM
    from anygrain.models.semantic_sam import SemanticSAM
    from anygrain.models.unilseg import UniLSeg
    from anygrain.segmenter import Segmenter
    from anygrain.tagger import Tagger

    Network = UniLSeg | SemanticSAM | PSALM

FORMAT_VERSION = 1
_FILES = (
    *("config.json", "model.safetensors", "tokenizer.json", "vocabulary.json", "tags.json", "trained_on.npy"),
    "README.md",
)
ALIASES = {"nano": Path(__file__).parent / "weights" / "nano"}
"""Names of the models that ship in the package."""

Storage = Literal["float32", "float16", "int8"]


def load(model: str | Path = "nano", *, device: str = "auto", **options: Any) -> Segmenter:
    """Load a model and make it ready: eval mode, BatchNorm folded, fast linear layers, on ``device``.

    model: alias ("nano"), released model ("semantic-sam-swint"), folder, or "org/repo".
    device: "auto" (CUDA when there is one, else the CPU), "cpu", "cuda", "cuda:1", "mps".
    options: ``threshold``, ``presence_threshold``, ``memory_limit``, ``bf16``, ``tile``, ``joint`` of the Segmenter.
    Raises ValueError for an unknown name, a folder that holds no model, a tagger, or weights that do not fit their
    config.
    """
    from anygrain.models.layers import fold_batch_norm, use_onednn
    from anygrain.segmenter import Segmenter

    device = pick_device(device)
    folder = find(model)
    network = read_model(folder).to(device).requires_grad_(False)
    use_onednn(fold_batch_norm(network))
    return Segmenter(network, _info(model, network, folder), **options)


def load_tagger(model: str | Path, *, device: str = "auto", **options: Any) -> Tagger:
    """Load a tagging model and make it ready: eval mode, fast linear layers, on ``device``.

    model: folder, or "org/repo". device: as for ``load``. options: ``batch_size`` of the Tagger.
    Raises ValueError as ``load`` does, and for a model that is no tagger.
    """
    from anygrain.models.layers import use_onednn
    from anygrain.tagger import Tagger

    device = pick_device(device)
    folder = find(model)
    network = read_tagger(folder).to(device).requires_grad_(False)
    use_onednn(network)
    return Tagger(network, _info(model, network, folder), **options)


def _info(model: str | Path, network: Network | RAM, folder: Path) -> dict[str, str]:
    return {"name": str(model), "architecture": network.architecture, "fingerprint": fingerprint(folder)}


def pick_device(device: str) -> str:
    """Resolve "auto"; refuse a device this machine does not have."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind = device.split(":")[0]
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(kind, False):
        usable = ", ".join(name for name, ok in there.items() if ok)
        raise ValueError(f"device '{device}' is not available here; usable: auto, {usable}")
    return device


def find(model: str | Path) -> Path:
    """The folder of a model: an alias, a released model (``released.ADDRESSES``), a folder, or one from the Hub."""
    if str(model) in ALIASES:
        folder = ALIASES[str(model)]
        if not folder.is_dir():
            raise ValueError(f"the shipped model '{model}' is missing from this installation ({folder}); install again")
        return folder
    if str(model) in ADDRESSES | REPOSITORIES:
        return fetch(str(model))
    if Path(model).is_dir():
        return Path(model)
    if Path(model).exists():
        raise ValueError(f"{model}: a model is a folder; a checkpoint file is turned into one by `anygrain convert`")
    if isinstance(model, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", model):
        return _download(model)
    raise ValueError(
        f"unknown model '{model}': not a folder; shipped models: {', '.join(ALIASES)}; downloaded on "
        f"first use: {', '.join(ADDRESSES | REPOSITORIES)}; or give org/repo"
    )


def _download(repo: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(repo, allow_patterns=list(_FILES)))
    except RepositoryNotFoundError:
        raise ValueError(
            f"unknown model '{repo}': no such folder here, and on the Hub no such repository or one that needs a login "
            "(hf auth login)"
        ) from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(f"model '{repo}' is not a folder here and could not be downloaded: {reason}") from None


def read_model(folder: Path) -> Network:
    """Build the network of a model that segments in eval mode on the CPU, strictly.

    Raises ValueError with one sentence, also for a tagger.
    """
    network = build(folder)
    if not hasattr(network, "accepts"):  # no prompts
        raise ValueError(
            f"{folder}: a tagger ({network.architecture}) names what a photo shows and draws no masks: give a model "
            "that segments"
        )
    return _fill(network, folder)


def read_tagger(folder: Path) -> RAM:
    """Build the network of a tagger in eval mode on the CPU, strictly. Raises ValueError with one sentence."""
    network = build(folder)
    if not hasattr(network, "tags"):
        raise ValueError(f"{folder}: a model that segments ({network.architecture}), not a tagger such as ram")
    return _fill(network, folder)


def _fill(network: Any, folder: Path) -> Any:
    """Give the network its weights."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    weights = folder / "model.safetensors"
    try:
        state = unpack(load_file(weights))  # the file, mapped into memory, is let go here
    except SafetensorError as error:
        raise ValueError(f"{weights}: not a readable safetensors file ({error})") from None
    except ValueError as error:
        raise ValueError(f"{weights}: the weights cannot be unpacked: {error}") from None
    check_state(network, state, str(weights))
    network.load_state_dict(state, strict=True, assign=True)
    return network.eval()


def build(folder: Path) -> Any:
    """The network that ``config.json`` describes, on the meta device (no weights), with its words: what it reads with
    its tokenizer, knows of its vocabulary, or answers with its tags.
    """
    import torch

    from anygrain.models.layers import WithoutInit

    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise ValueError(f"{folder}: not a model folder, {name} is missing")
    path = folder / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        version, architecture, fields = values["format_version"], values["architecture"], values["model"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not an anygrain model config ({type(error).__name__}: {error})") from None
    if version != FORMAT_VERSION:
        raise ValueError(f"{path}: format_version {version}, but this anygrain reads {FORMAT_VERSION}; update anygrain")
    if architecture not in MODELS:
        raise ValueError(f"{path}: unknown architecture '{architecture}'; known: {', '.join(MODELS)}")
    module, model_name, config_name = MODELS[architecture]
    module = import_module(module)
    config = configs.from_dict(getattr(module, config_name), fields, where=str(path))
    with torch.device("meta"), WithoutInit():
        network = getattr(module, model_name)(config)
    if hasattr(network, "tokenizer"):
        network.tokenizer = read_tokenizer(config, folder)
    if (folder / "vocabulary.json").is_file():
        network.vocabulary = Vocabulary.read(folder / "vocabulary.json")
    if hasattr(network, "tags"):
        network.tags = read_tags(config, folder)
    return network


def read_tags(config: Any, folder: Path) -> TagList:
    """A tagger's names and thresholds, as many as its weights have rows."""
    path = folder / "tags.json"
    if not path.is_file():
        raise ValueError(f"{folder}: not a complete model folder, tags.json is missing")
    tags = TagList.read(path)
    if len(tags.names) != config.num_tags:
        raise ValueError(f"{path}: {len(tags.names)} tags, but the model has {config.num_tags}")
    return tags


def read_tokenizer(config: Any, folder: Path) -> Any:
    """CLIP's tokenizer is part of the package; BERT and Phi bring their ``tokenizer.json``; None without text."""
    from anygrain.models.clip_text import CLIPTextConfig

    if hasattr(config, "language"):
        from anygrain.models.psalm.tokenizer import BPETokenizer

        return BPETokenizer.read(folder / "tokenizer.json")
    if config.text_encoder is None:
        return None
    if isinstance(config.text_encoder, CLIPTextConfig):
        from anygrain.models.clip_tokenizer import ClipTokenizer

        return ClipTokenizer()
    from anygrain.models.bert import WordPieceTokenizer

    if not (folder / "tokenizer.json").is_file():
        raise ValueError(f"{folder}: not a complete model folder, tokenizer.json is missing")
    return WordPieceTokenizer(folder / "tokenizer.json")


def check_state(network: nn.Module, state: dict[str, Tensor], where: str) -> None:
    """Every key and shape must fit. Raises ValueError that counts the misfits and names the first of each kind."""
    wanted = network.state_dict()
    problems = []
    groups = {
        "missing": [key for key in wanted if key not in state],
        "unexpected": [key for key in state if key not in wanted],
        "wrong shape": [
            f"{key} {tuple(state[key].shape)} instead of {tuple(wanted[key].shape)}"
            for key in wanted
            if key in state and state[key].shape != wanted[key].shape
        ],
    }
    for kind, names in groups.items():
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            problems.append(f"{len(names)} {kind}: {', '.join(names[:3])}{more}")
    if problems:
        raise ValueError(f"{where}: the weights do not fit the configuration; {'; '.join(problems)}")


def save(network: Network | RAM, folder: str | Path, *, card: str, storage: Storage = "float32") -> Path:
    """Write a model folder, whole or not at all. An older model folder of that name is replaced.

    card: text of README.md.
    storage: "float32" keeps every bit; "float16" halves matrices; "int8" further stores the text encoder's matrices
        as 8-bit integers with one scale a row. Vectors (norms, biases) stay float32.
    Raises ValueError when the folder holds anything but a model: nothing else is ever deleted.
    """
    folder = Path(folder)
    check_replaceable(folder)
    with whole_folder(folder) as work:
        _write(network, work, card, storage)
    return folder


def check_replaceable(folder: Path) -> None:
    """Raises ValueError when saving a model as ``folder`` would replace anything but a model."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: give the name of a folder for the model")
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    others = [name for name in names if name not in _FILES]
    if names and "model.safetensors" not in names:  # a README.md alone is somebody's own
        others = names
    if others:
        raise ValueError(f"{folder} holds other things than a model ({others[0]}): choose a new folder")


def _write(network: Network | RAM, folder: Path, card: str, storage: Storage) -> None:
    from safetensors.torch import save_file

    fields = configs.to_dict(network.config)
    values = {"format_version": FORMAT_VERSION, "architecture": network.architecture, "model": fields}
    (folder / "config.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    save_file(pack(network.state_dict(), storage), folder / "model.safetensors")
    (folder / "README.md").write_text(card, encoding="utf-8")
    save_tokenizer = getattr(getattr(network, "tokenizer", None), "save", None)  # CLIP's is part of the package
    if save_tokenizer is not None:
        save_tokenizer(folder / "tokenizer.json")
    for name in ("vocabulary", "tags"):
        words = getattr(network, name, None)
        if words is not None:
            words.write(folder / f"{name}.json")


def pack(state: dict[str, Tensor], storage: Storage) -> dict[str, Tensor]:
    """State dict -> what is stored. An int8 tensor ``key`` comes with ``key.scale``, float32 [rows]."""
    import torch

    packed = {}
    for key, value in state.items():
        value = value.detach().cpu().contiguous()
        if storage == "int8" and key.startswith("text_encoder.") and value.ndim == 2:
            scale = (value.abs().amax(1) / 127).clamp(min=1e-12)
            packed[key] = (value / scale[:, None]).round().to(torch.int8)
            packed[f"{key}.scale"] = scale
        elif storage != "float32" and value.ndim >= 2 and value.is_floating_point():
            packed[key] = value.half()
        else:
            packed[key] = value.clone()
    return packed


def unpack(packed: dict[str, Tensor]) -> dict[str, Tensor]:
    """What is stored -> float32 state dict that shares no memory with it.

    Raises ValueError when an int8 tensor has no scale that fits.
    """
    import torch

    scales = {f"{key}.scale": value.shape[:1] for key, value in packed.items() if value.dtype == torch.int8}
    for name, shape in scales.items():
        if name not in packed or packed[name].shape != shape:
            raise ValueError(f"{name} is missing or not of shape {tuple(shape)}")
    state = {}
    for key, value in packed.items():
        if key in scales:
            continue
        if value.dtype == torch.int8:
            state[key] = value.float().mul_(packed[f"{key}.scale"][:, None])
        else:
            state[key] = value.to(torch.float32 if value.is_floating_point() else value.dtype, copy=True)
    return state


def fingerprint(folder: Path) -> str:
    """First 12 hex digits of the SHA-256 of all but the card: two models that answer alike share it."""
    words = [path for name in ("vocabulary.json", "tags.json") if (path := folder / name).is_file()]
    return sha256(folder / "config.json", folder / "model.safetensors", *words)[:12]


def push(folder: str | Path, repo: str, *, private: bool = False) -> str:
    """Upload a model folder to the Hub as ``org/repo``; returns its address. Needs a token (``hf auth login``)."""
    from huggingface_hub import HfApi

    folder = Path(folder)
    _fill(build(folder), folder)  # a folder that cannot be loaded is not uploaded
    api = HfApi()
    api.create_repo(repo, private=private, exist_ok=True)
    return str(api.upload_folder(folder_path=folder, repo_id=repo))
