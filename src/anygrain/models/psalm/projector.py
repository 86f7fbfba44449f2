"""The projector: the coarsest map of the image encoder to tokens of the language model (paper fig. 2).

Official name ``swin_conv``: one residual block of stride 2 and a linear layer. As in the official code, and in the
weights trained with it, the second convolution runs twice.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class Projector(nn.Module):
    """channels: of the map. planes: inside. width: of the language model's tokens. stride: 2 as released, or 1."""

    def __init__(self, channels: int, planes: int, width: int, stride: int = 2):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, planes, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(planes)
        self.shortcut = nn.Sequential(nn.Conv2d(channels, planes, 1, stride=stride, bias=False), nn.BatchNorm2d(planes))
        self.linear = nn.Linear(planes, width)

    def forward(self, feature_map: Tensor) -> Tensor:
        """[B, C, H, W] -> tokens [B, ceil(H/stride) * ceil(W/stride), width], row by row."""
        x = F.relu(self.norm1(self.conv1(feature_map)))
        x = self.norm2(self.conv2(self.conv2(x)))  # twice, with the same weights and nothing between
        x = F.relu(x + self.shortcut(feature_map))
        return self.linear(x.flatten(2).transpose(1, 2))
