"""LFAN: leader-follower attention over streams, frame by frame (arXiv 2203.13031).

Every stream runs through a TCN of its own; at every tick the streams attend to each other; the
leader's own features are put in front of the fused vector, and one linear map gives the logits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from erray.errors import UserError
from erray.models.blocks import AbsentVector
from erray.models.fusion import EncoderConfig, TcnFusionModel

CHANNEL_TABLE: Mapping[int, tuple[int, ...]] = {
    128: (64, 64, 32, 32),
    512: (256, 256, 128, 128),
    768: (256, 256, 128, 128),
}
"""Stream width to TCN channels as published."""


@dataclass(frozen=True, slots=True)
class LfanConfig(EncoderConfig):
    """Settings of LFAN; the defaults are the published ones."""

    leader: str | None = None  # the stream whose own features reach the head; None: the first
    num_heads: int = 2
    modal_dim: int = 32  # width of a stream inside the attention

    def __post_init__(self) -> None:
        EncoderConfig.__post_init__(self)  # super() does not work in a class with slots
        if self.num_heads < 1 or self.modal_dim < 1 or self.modal_dim % self.num_heads:
            raise UserError(
                f"modal_dim must be a positive multiple of num_heads, found modal_dim "
                f"{self.modal_dim} and num_heads {self.num_heads}"
            )


class LFAN(TcnFusionModel):
    """See ``erray.models`` for the contract of ``forward``."""

    config_class = LfanConfig
    causal = True
    channel_table = CHANNEL_TABLE
    config: LfanConfig

    def __init__(self, streams: Mapping[str, int], num_classes: int, config: LfanConfig) -> None:
        super().__init__(streams, num_classes, config)
        self.leader = self._choose_leader()
        self.fusion = LeaderFollowerAttention(
            {name: self.channels[name][-1] for name in self.streams},
            modal_dim=config.modal_dim,
            num_heads=config.num_heads,
            dropout=config.dropout,
        )
        leader_width = self.channels[self.leader][-1]
        self.absent_leader = AbsentVector(leader_width)
        self.head = nn.Linear(leader_width + self.fusion.width, num_classes)

    def forward(
        self, streams: Mapping[str, Tensor], present: Mapping[str, Tensor], valid_BT: Tensor
    ) -> Tensor:
        encoded = self.encode(streams, present, valid_BT)
        fused_BTF = self.fusion(encoded, present)
        leader_BTC = self.absent_leader(encoded[self.leader], present[self.leader])
        logits_BTC = self.head(torch.cat([leader_BTC, fused_BTF], dim=-1))
        return torch.where(valid_BT[..., None], logits_BTC, 0)

    def _choose_leader(self) -> str:
        leader = self.config.leader
        if leader is None:
            return next(iter(self.streams))
        if leader not in self.streams:
            raise UserError(
                f"leader {leader!r} is not a stream of the model; "
                f"expected one of: {', '.join(self.streams)}"
            )
        return leader


class LeaderFollowerAttention(nn.Module):
    """Attention between the M streams of one tick: [B, T, C_m] each to [B, T, M * modal_dim].

    A linear map per stream gives H groups of [q k v], each modal_dim / H wide. Slot m of head h is
    softmax(q k' / sqrt(modal_dim / H)) v + v; the slots are flattened head by head and, within a
    head, stream by stream. An absent stream is no key, and its own slot is 0; so where nothing is
    present the attention gives 0. With one stream the weights are 1 and q, k have no effect.
    """

    def __init__(
        self, widths: Mapping[str, int], *, modal_dim: int, num_heads: int, dropout: float
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.width = len(widths) * modal_dim
        self.qkv_proj = nn.ModuleDict(
            {name: nn.Linear(width, 3 * modal_dim) for name, width in widths.items()}
        )
        self.o_proj = nn.Linear(self.width, self.width)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(self.width)

    def forward(self, encoded: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        qkv = [
            proj(encoded[name]).unflatten(-1, (self.num_heads, -1))
            for name, proj in self.qkv_proj.items()
        ]
        q, k, v = torch.stack(qkv, dim=-2).chunk(3, dim=-1)  # each [B, T, H, M, modal_dim / H]
        present_BT1M = torch.stack([present[name] for name in self.qkv_proj], -1).unsqueeze(-2)
        scores_BTHMM = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        # the least finite number, not -inf: a row of absent keys alone would become NaN
        least = torch.finfo(scores_BTHMM.dtype).min
        scores_BTHMM = scores_BTHMM.masked_fill(~present_BT1M.unsqueeze(-2), least)
        slots = scores_BTHMM.softmax(dim=-1) @ v + v
        slots = torch.where(present_BT1M.unsqueeze(-1), slots, 0)
        return self.norm(self.dropout(self.o_proj(slots.flatten(-3))))
