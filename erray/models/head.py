"""The classifier that CAN, JMT and MT end with: two linear maps and a norm between them.

Shapes as in ``erray.models.blocks``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from erray.models.blocks import NEGATIVE_SLOPE, MaskedBatchNorm1d


class NormedHead(nn.Module):
    """Linear, masked batch norm, LeakyReLU, linear: [B, T, F] to [B, T, num_classes].

    Batch norm takes away whatever the first linear map adds to a channel, so that an offset there
    would be a parameter that training cannot move. ``offset`` is a buffer therefore: 0 in a new
    model, and the first map's bias in one that is loaded from a published checkpoint.
    """

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width, bias=False)
        self.offset: Tensor
        self.register_buffer("offset", torch.zeros(width))
        self.bn = MaskedBatchNorm1d(width)
        self.out = nn.Linear(width, num_classes)

    def forward(self, x_BTF: Tensor, counted_BT: Tensor) -> Tensor:
        """``counted_BT`` (bool) chooses the ticks that make the norm's training statistics."""
        hidden_BTF = self.linear(x_BTF) + self.offset
        # contiguous: torch.compile expects other strides of batch norm than it then finds
        hidden_BFT = hidden_BTF.transpose(1, 2).contiguous()
        hidden_BTF = self.bn(hidden_BFT, counted_BT).transpose(1, 2)
        logits: Tensor = self.out(F.leaky_relu(hidden_BTF, NEGATIVE_SLOPE))
        return logits
