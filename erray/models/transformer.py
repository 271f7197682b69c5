"""A masked transformer over streams: erray's own fusion, beside the four published ones.

Every stream is read by pre-norm self-attention over time (Xiong et al., arXiv 2002.04745) with
rotary positions (Su et al., arXiv 2104.09864), so that a clip may be of any length; at every tick
the streams attend to each other; attention pooling over the clip gives a logit of the clip that is
added to the logits of its ticks. An absent step is no key, and where nothing is present attention
gives 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from erray.errors import UserError
from erray.models.blocks import AbsentVector, Normaliser
from erray.models.fusion import FusionModel

_ROTARY_BASE = 10_000.0


@dataclass(frozen=True, slots=True)
class TransformerConfig:
    """Settings of the transformer."""

    width: int = 128  # of every stream inside the model
    num_heads: int = 4  # of every attention; width must be a multiple of twice their number
    num_layers: int = 2  # temporal layers per stream
    dropout: float = 0.2
    causal: bool = False  # true: a tick sees its own past alone

    def __post_init__(self) -> None:
        if self.num_heads < 1 or self.width < 1 or self.width % (2 * self.num_heads):
            raise UserError(
                f"width must be a positive multiple of twice num_heads, found width {self.width} "
                f"and num_heads {self.num_heads}"
            )
        if self.num_layers < 0:
            raise UserError(f"num_layers must not be negative, found {self.num_layers}")
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout must be in [0, 1), found {self.dropout}")


class Transformer(FusionModel):
    """See ``erray.models`` for the contract of ``forward``."""

    config_class = TransformerConfig
    config: TransformerConfig

    def __init__(
        self, streams: Mapping[str, int], num_classes: int, config: TransformerConfig
    ) -> None:
        super().__init__(streams, num_classes, config)
        self.causal = config.causal
        size: dict[str, Any] = {"num_heads": config.num_heads, "dropout": config.dropout}
        self.encoders = nn.ModuleDict(
            {name: StreamReader(width, config) for name, width in self.streams.items()}
        )
        self.across = AttentionLayer(config.width, **size)
        self.norm = nn.LayerNorm(config.width)
        self.pool = nn.Linear(config.width, 1, bias=False)  # softmax takes a bias away
        self.tick_head = nn.Linear(config.width, num_classes)
        self.clip_head = nn.Linear(config.width, num_classes)
        nn.init.zeros_(self.clip_head.weight)  # training starts from the ticks alone

    def forward(
        self, streams: Mapping[str, Tensor], present: Mapping[str, Tensor], valid_BT: Tensor
    ) -> Tensor:
        present = {name: present[name] & valid_BT for name in self.streams}
        read = [
            encoder(streams[name], present[name], causal=self.causal)
            for name, encoder in self.encoders.items()
        ]
        present_BTM = torch.stack([present[name] for name in self.encoders], dim=-1)
        slots_BTMD = self.across(torch.stack(read, dim=-2), present_BTM[..., None, :])
        # an absent stream's slot holds what its own past and the other streams say of this tick
        fused_BTD = self.norm(slots_BTMD.mean(-2))
        logits_BTC = self.tick_head(fused_BTD) + self.clip_head(self._pooled(fused_BTD, valid_BT))
        return torch.where(valid_BT[..., None], logits_BTC, 0)

    def _pooled(self, fused_BTD: Tensor, valid_BT: Tensor) -> Tensor:
        """Attention pooling: for every tick the weighted mean over all it may see, [B, T, D]."""
        scores_BT = self.pool(fused_BTD).squeeze(-1).float()
        seen_BTT = _seen(valid_BT, causal=self.causal)
        scores_BTT = scores_BT[:, None, :].masked_fill(~seen_BTT, torch.finfo(torch.float32).min)
        return scores_BTT.softmax(-1).to(fused_BTD.dtype) @ fused_BTD


class StreamReader(nn.Module):
    """One stream up to the fusion: normaliser, absence, linear map, temporal layers.

    ``forward(x_BTD, present_BT)`` gives [B, T, width]; what is stored at absent steps, NaN
    included, has no influence.
    """

    def __init__(self, width_in: int, config: TransformerConfig) -> None:
        super().__init__()
        self.normaliser = Normaliser(width_in)
        self.project = nn.Linear(width_in, config.width)
        self.absent = AbsentVector(config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(
            AttentionLayer(config.width, num_heads=config.num_heads, dropout=config.dropout)
            for _ in range(config.num_layers)
        )

    def forward(self, x_BTD: Tensor, present_BT: Tensor, *, causal: bool) -> Tensor:
        x_BTD = torch.where(present_BT[..., None], self.normaliser(x_BTD), 0)
        hidden_BTD = self.absent(self.dropout(self.project(x_BTD)), present_BT)
        for layer in self.layers:
            hidden_BTD = layer(hidden_BTD, _seen(present_BT, causal=causal), rotary=True)
        return hidden_BTD


class AttentionLayer(nn.Module):
    """Pre-norm attention and feed-forward: ``x [..., N, D]``, ``key_mask [..., N or 1, N]``.

    A row of the mask without a key gives attention 0. ``rotary``: the position along N turns
    queries and keys, so that scores depend on distances.
    """

    def __init__(self, width: int, *, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 2 * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * width, width),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, key_mask: Tensor, *, rotary: bool = False) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(-2, -3)  # [..., H, N, D / H]
            for part in self.qkv(self.norm(x)).chunk(3, dim=-1)
        )
        if rotary:
            q, k = rotate(q), rotate(k)
        scores = (q @ k.transpose(-1, -2)).float() / math.sqrt(q.shape[-1])
        mask = key_mask[..., None, :, :]
        # the least finite number, not -inf: a row without a key would become NaN
        weights = scores.masked_fill(~mask, torch.finfo(torch.float32).min).softmax(-1)
        attended = (torch.where(mask, weights, 0).to(v.dtype) @ v).transpose(-2, -3).flatten(-2)
        attended = torch.where(key_mask.any(-1, keepdim=True), self.out(attended), 0)
        x = x + self.dropout(attended)
        return x + self.dropout(self.feed_forward(x))


def rotate(x: Tensor) -> Tensor:
    """Turn ``x [..., N, W]`` (W even) by its position along N, pair by pair (rotary positions)."""
    half = x.shape[-1] // 2
    power = torch.arange(half, device=x.device, dtype=torch.float32) / half
    position = torch.arange(x.shape[-2], device=x.device, dtype=torch.float32)
    angle_NH = position[:, None] * _ROTARY_BASE**-power
    cos, sin = angle_NH.cos().to(x.dtype), angle_NH.sin().to(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


def _seen(mask_BT: Tensor, *, causal: bool) -> Tensor:
    """Which keys a tick may attend to, [B, 1 or T, T]."""
    seen_BTT = mask_BT[:, None, :]
    if causal:
        length = mask_BT.shape[1]
        past_TT = torch.ones(length, length, dtype=torch.bool, device=mask_BT.device).tril()
        seen_BTT = seen_BTT & past_TT
    return seen_BTT
