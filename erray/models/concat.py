"""The baseline of the fusion models: every stream's own encoder, side by side, one linear map.

With one stream this is that stream's encoder and a linear head.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from erray.models.blocks import AbsentVector
from erray.models.fusion import EncoderConfig, TcnFusionModel
from erray.models.lfan import CHANNEL_TABLE


class Concat(TcnFusionModel):
    """See ``erray.models`` for the contract of ``forward``.

    A stream that is absent at a tick is a learned vector in front of the linear map.
    """

    config_class = EncoderConfig
    causal = True
    channel_table = CHANNEL_TABLE

    def __init__(self, streams: Mapping[str, int], num_classes: int, config: EncoderConfig) -> None:
        super().__init__(streams, num_classes, config)
        widths = {name: self.channels[name][-1] for name in self.streams}
        self.absent = nn.ModuleDict({name: AbsentVector(width) for name, width in widths.items()})
        self.head = nn.Linear(sum(widths.values()), num_classes)

    def forward(
        self, streams: Mapping[str, Tensor], present: Mapping[str, Tensor], valid_BT: Tensor
    ) -> Tensor:
        encoded = self.encode(streams, present, valid_BT)
        side_by_side = [
            absent(encoded[name], present[name]) for name, absent in self.absent.items()
        ]
        logits_BTC = self.head(torch.cat(side_by_side, dim=-1))
        return torch.where(valid_BT[..., None], logits_BTC, 0)
