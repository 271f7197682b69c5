"""The IR-50 network (improved residual units, Deng et al. 2019) for crops of 40 pixels.

Units are BN, conv, PReLU, conv (stride), BN, without biases; the shortcut of a unit that keeps its
channels is strided subsampling, otherwise a 1x1 convolution with BN. Modules are called as in the
published checkpoints: 37,283,520 parameters.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

STAGES = ((64, 3), (128, 4), (256, 14), (512, 3))
"""Channels and units of each stage; from the second on, the first unit halves the sides."""
WIDTH = 512
_HEAD_PX = 5  # 40 pixels, halved three times


class Unit(nn.Module):
    """Improved residual unit."""

    def __init__(self, num_in: int, num_out: int, stride: int) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module = nn.MaxPool2d(1, stride)
        if num_in != num_out:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(num_in, num_out, 1, stride, bias=False), nn.BatchNorm2d(num_out)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(num_in),
            nn.Conv2d(num_in, num_out, 3, 1, 1, bias=False),
            nn.PReLU(num_out),
            nn.Conv2d(num_out, num_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(num_out),
        )

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return self.res_layer(x_NCHW) + self.shortcut_layer(x_NCHW)


class Ir50(nn.Module):
    """Pixels [N, 3, 40, 40] in [-1, 1] to embeddings [N, 512] of length 1."""

    def __init__(self) -> None:
        super().__init__()
        self.input_layer = nn.Sequential(
            nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64)
        )
        units, num_in = [], 64
        for stage, (num_out, num_units) in enumerate(STAGES):
            for i in range(num_units):
                units.append(Unit(num_in, num_out, stride=2 if stage and not i else 1))
                num_in = num_out
        self.body = nn.Sequential(*units)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(512),
            nn.Dropout(0.4),
            nn.Flatten(),
            nn.Linear(512 * _HEAD_PX**2, WIDTH),
            nn.BatchNorm1d(WIDTH),
        )

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return F.normalize(self.output_layer(self.body(self.input_layer(x_NCHW))))
