"""CAN: a gate over the channels of all streams, tick by tick (arXiv 2407.12927).

Every stream runs through a TCN of its own and a linear map to one width; a softmax over all
channels of all streams decides how much of each reaches the head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from erray.errors import UserError
from erray.models.fusion import EncoderConfig, TcnFusionModel
from erray.models.head import NormedHead

CHANNEL_TABLE: Mapping[int, tuple[int, ...]] = {
    128: (128, 128, 64, 64),
    512: (256, 256, 128, 128, 128),
    768: (256, 256, 128, 128),
}
"""Stream width to TCN channels of CAN, JMT and MT as published."""


@dataclass(frozen=True, slots=True)
class CanConfig(EncoderConfig):
    """Settings of CAN; the defaults are the published ones."""

    dropout: float = 0.2
    modal_dim: int = 128  # channels of a stream inside the gate

    def __post_init__(self) -> None:
        EncoderConfig.__post_init__(self)  # super() does not work in a class with slots
        if self.modal_dim < 1:
            raise UserError(f"modal_dim must be at least 1, found {self.modal_dim}")


class CAN(TcnFusionModel):
    """See ``erray.models`` for the contract of ``forward``."""

    config_class = CanConfig
    causal = True
    channel_table = CHANNEL_TABLE
    config: CanConfig

    def __init__(self, streams: Mapping[str, int], num_classes: int, config: CanConfig) -> None:
        super().__init__(streams, num_classes, config)
        self.fusion = ChannelGate(
            {name: self.channels[name][-1] for name in self.streams}, modal_dim=config.modal_dim
        )
        self.head = NormedHead(self.fusion.width, num_classes)

    def forward(
        self, streams: Mapping[str, Tensor], present: Mapping[str, Tensor], valid_BT: Tensor
    ) -> Tensor:
        encoded = self.encode(streams, present, valid_BT)
        fused_BTF = self.fusion(encoded, present)
        anything_BT = torch.stack([present[name] for name in self.streams]).any(0)
        logits_BTC = self.head(fused_BTF, anything_BT & valid_BT)
        return torch.where(valid_BT[..., None], logits_BTC, 0)


class ChannelGate(nn.Module):
    """Gate over the channels of one tick: [B, T, C_m] each to [B, T, M * modal_dim].

    A linear map per stream, the results x side by side in the streams' order; then
    softmax(W x + b) x, the softmax over all M * modal_dim channels. The channels of an absent
    stream are 0 and no part of the softmax; so where nothing is present the gate gives 0.
    """

    def __init__(self, widths: Mapping[str, int], *, modal_dim: int) -> None:
        super().__init__()
        self.modal_dim = modal_dim
        self.width = len(widths) * modal_dim
        self.proj = nn.ModuleDict(
            {name: nn.Linear(width, modal_dim) for name, width in widths.items()}
        )
        self.gate = nn.Linear(self.width, self.width)

    def forward(self, encoded: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        x_BTF = torch.cat([proj(encoded[name]) for name, proj in self.proj.items()], dim=-1)
        present_BTM = torch.stack([present[name] for name in self.proj], dim=-1)
        present_BTF = present_BTM.repeat_interleave(self.modal_dim, dim=-1)
        x_BTF = torch.where(present_BTF, x_BTF, 0)
        scores_BTF = self.gate(x_BTF)
        # the least finite number, not -inf: a tick without any stream would become NaN
        scores_BTF = scores_BTF.masked_fill(~present_BTF, torch.finfo(scores_BTF.dtype).min)
        return scores_BTF.softmax(dim=-1) * x_BTF
