"""Attention with absent steps, and the encoder layer that JMT and MT are built of.

Shapes: N sequences (clips, or ticks of clips), L queries, S steps of context, D features, H heads.
``key_NS`` is True where a step of the context may be attended to.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MaskedAttention(nn.Module):
    """Multi-head attention (Vaswani et al., arXiv 1706.03762, section 3.2.2) that skips steps.

    Where a sequence has no key at all the result is 0.
    """

    def __init__(self, width: int, *, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_proj = nn.Linear(width, 3 * width)  # to queries, keys and values
        self.out_proj = nn.Linear(width, width)

    def forward(self, query_NLD: Tensor, context_NSD: Tensor, key_NS: Tensor) -> Tensor:
        width = query_NLD.shape[-1]
        (to_q, to_kv), (bias_q, bias_kv) = (
            x.split([width, 2 * width]) for x in (self.in_proj.weight, self.in_proj.bias)
        )
        q = F.linear(query_NLD, to_q, bias_q).unflatten(-1, (self.num_heads, -1))
        kv = F.linear(context_NSD, to_kv, bias_kv).unflatten(-1, (2, self.num_heads, -1))
        k, v = kv.unbind(-3)
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # each [N, H, L or S, D / H]
        scores_NHLS = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        # the least finite number, not -inf: a sequence without any key would become NaN
        least = torch.finfo(scores_NHLS.dtype).min
        scores_NHLS = scores_NHLS.masked_fill(~key_NS[:, None, None, :], least)
        heads = scores_NHLS.softmax(dim=-1) @ v
        attended_NLD = self.out_proj(heads.transpose(1, 2).flatten(-2))
        return torch.where(key_NS.any(-1)[:, None, None], attended_NLD, 0)


class EncoderLayer(nn.Module):
    """A post-norm encoder layer with ReLU (arXiv 1706.03762, section 3.1), as wide inside."""

    def __init__(self, width: int, *, num_heads: int) -> None:
        super().__init__()
        self.attention = MaskedAttention(width, num_heads=num_heads)
        self.norm1 = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, width)
        self.linear2 = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, x_NSD: Tensor, key_NS: Tensor) -> Tensor:
        x_NSD = self.norm1(x_NSD + self.attention(x_NSD, x_NSD, key_NS))
        hidden_NSD = F.relu(self.linear1(x_NSD))
        result: Tensor = self.norm2(x_NSD + self.linear2(hidden_NSD))
        return result
