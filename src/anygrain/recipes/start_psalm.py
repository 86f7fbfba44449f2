"""Public start weights of PSALM's second stage, from the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from anygrain.models.psalm.network import PSALM
from anygrain.models.psalm.pretrained import mask2former_from_transformers, phi_from_transformers
from anygrain.models.psalm.tokenizer import PAD, SEG, BPETokenizer
from anygrain.recipes.start import fetch_state

_JOINED = ("pixel_decoder.lateral.0.bias", "pixel_decoder.output.0.bias")  # Mask2Former's convolutions have none


def phi_tokenizer(repo: str) -> BPETokenizer:
    """Phi's tokenizer with PSALM's two tokens behind its own. Raises ValueError when it cannot be fetched."""
    from huggingface_hub import snapshot_download

    files = ("vocab.json", "merges.txt", "added_tokens.json")
    try:
        folder = Path(snapshot_download(repo, allow_patterns=list(files)))
    except OSError as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"the tokenizer {repo} could not be fetched ({reason}); go online, or give --init MODEL"
        ) from None
    tokenizer = BPETokenizer.of_files(folder)
    tokenizer.add_tokens([PAD, SEG])
    return BPETokenizer(tokenizer, repo)


def start_phi(language: Any, repo: str) -> None:
    """Give the language model the weights of a public Phi. Raises ValueError when they do not come or do not fit."""
    size = language.config.vocab_size
    _load(language, phi_from_transformers(fetch_state(repo), size, size - 2), (), repo)


def start_mask2former(model: PSALM, repo: str) -> None:
    """Give image encoder and both decoders the weights of a public Mask2Former; raises ValueError as above."""
    own = ("image_encoder.", "pixel_decoder.", "mask_decoder.")
    rest = [name for name in model.state_dict() if not name.startswith(own)]
    _load(model, mask2former_from_transformers(fetch_state(repo)), (*rest, *_JOINED), repo)
    for name in _JOINED:
        nn.init.zeros_(model.get_parameter(name))


def _load(module: nn.Module, state: dict, without: tuple[str, ...], repo: str) -> None:
    """Load ``state``, which must hold everything but ``without``."""
    try:
        missing, unexpected = module.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise ValueError(f"{repo}: does not fit this recipe: {' '.join(str(error).split())[:300]}") from None
    missing = [name for name in missing if name not in without]
    if missing or unexpected:
        raise ValueError(f"{repo}: does not fit this recipe (missing {missing[:3]}, unexpected {unexpected[:3]})")
