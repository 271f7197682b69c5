"""The training step of the published LFAN, rebuilt from its facts in plain torch.

Windows of 300 frames every 200, shorter clips filled with copies of their last frame, which count
like all others; batch 16; SGD. Module names are the published ones, so that weights pass between
this and erray's LFAN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import weight_norm

from erray.models.lfan import CHANNEL_TABLE
from erray.windows import cut

WINDOW, HOP, BATCH = 300, 200, 16
KERNEL, DROPOUT, HEADS, MODAL_DIM = 5, 0.1, 2, 32


class Chomp(nn.Module):
    """Takes the padding off the end, which makes a padded convolution causal."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x_BCT: Tensor) -> Tensor:
        return x_BCT[:, :, : -self.size].contiguous()


class Level(nn.Module):
    """Two weight-normed causal convolutions and a residual path."""

    def __init__(self, channels_in: int, channels_out: int, dilation: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in (channels_in, channels_out):
            pad = (KERNEL - 1) * dilation
            conv = nn.Conv1d(width, channels_out, KERNEL, padding=pad, dilation=dilation)
            layers += [weight_norm(conv), Chomp(pad), nn.LeakyReLU(), nn.Dropout(DROPOUT)]
        self.net = nn.Sequential(*layers)
        same = channels_in == channels_out
        self.downsample = None if same else nn.Conv1d(channels_in, channels_out, 1)

    def forward(self, x_BCT: Tensor) -> Tensor:
        residual = x_BCT if self.downsample is None else self.downsample(x_BCT)
        return F.leaky_relu(self.net(x_BCT) + residual)


class Tcn(nn.Module):
    """Levels of dilation 1, 2, 4, 8."""

    def __init__(self, width: int, channels: Sequence[int]) -> None:
        super().__init__()
        widths = (width, *channels)
        self.network = nn.Sequential(
            *(Level(widths[i], widths[i + 1], 2**i) for i in range(len(channels)))
        )

    def forward(self, x_BCT: Tensor) -> Tensor:
        return self.network(x_BCT)


class Attention(nn.Module):
    """Attention between the streams of a frame: lists of [B, T, C] to [B, T, M * MODAL_DIM]."""

    def __init__(self, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.qkv_proj = nn.ModuleDict({k: nn.Linear(w, 3 * MODAL_DIM) for k, w in widths.items()})
        self.o_proj = nn.Linear(len(widths) * MODAL_DIM, len(widths) * MODAL_DIM)

    def forward(self, encoded: Mapping[str, Tensor]) -> Tensor:
        heads = [p(encoded[k]).unflatten(-1, (HEADS, -1)) for k, p in self.qkv_proj.items()]
        q, k, v = torch.stack(heads, dim=-2).chunk(3, dim=-1)
        weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
        return self.o_proj((weights @ v + v).flatten(-3))


class FusionLayer(nn.Module):
    def __init__(self, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.self_attn = Attention(widths)
        self.norm1 = nn.LayerNorm(len(widths) * MODAL_DIM)

    def forward(self, encoded: Mapping[str, Tensor]) -> Tensor:
        return self.norm1(F.dropout(self.self_attn(encoded), DROPOUT, self.training))


class PublishedLfan(nn.Module):
    """Streams [B, T, D] to logits [B, T, C]; the first stream leads."""

    def __init__(self, streams: Mapping[str, int], num_classes: int) -> None:
        super().__init__()
        channels = {name: CHANNEL_TABLE[width] for name, width in streams.items()}
        self.temporal = nn.ModuleDict({k: Tcn(w, channels[k]) for k, w in streams.items()})
        self.bn = nn.ModuleDict({k: nn.BatchNorm1d(channels[k][-1]) for k in streams})
        widths = {k: channels[k][-1] for k in streams}
        self.fusion = nn.ModuleDict({"layers": FusionLayer(widths)})
        self.leader = next(iter(streams))
        self.regressor = nn.Linear(widths[self.leader] + len(streams) * MODAL_DIM, num_classes)

    def forward(self, streams: Mapping[str, Tensor]) -> Tensor:
        encoded = {
            k: self.bn[k](tcn(streams[k].transpose(1, 2))).transpose(1, 2)
            for k, tcn in self.temporal.items()
        }
        fused_BTF = self.fusion["layers"](encoded)
        logits_BTC: Tensor = self.regressor(torch.cat([encoded[self.leader], fused_BTF], dim=-1))
        return logits_BTC


def filled_windows(x_TD: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Cut one clip's stream; a clip below 300 frames is filled with copies of the last."""
    missing = max(0, WINDOW - len(x_TD))
    filled_TD = np.concatenate([x_TD, np.repeat(x_TD[-1:], missing, axis=0)])
    return [filled_TD[start:stop] for start, stop in cut(len(filled_TD), WINDOW, HOP)]


class PublishedTraining:
    """Epochs over windows that lie ready in memory; labels are the clip's on every frame.

    Args:
        clips: per clip the streams, [T, D] each, and its label.
    """

    def __init__(
        self,
        model: PublishedLfan,
        clips: Sequence[tuple[Mapping[str, NDArray[np.float32]], int]],
    ) -> None:
        self.model = model
        self.optimiser = torch.optim.SGD(
            model.parameters(), lr=1e-3, momentum=0.9, nesterov=True, weight_decay=1e-4
        )
        self.label_N = torch.tensor(
            [y for x, y in clips for _ in filled_windows(next(iter(x.values())))]
        )
        self.streams = {
            name: torch.from_numpy(np.stack([w for x, _ in clips for w in filled_windows(x[name])]))
            for name in clips[0][0]
        }

    def epoch(self, seed: int) -> None:
        self.model.train()
        order_N = torch.randperm(len(self.label_N), generator=torch.Generator().manual_seed(seed))
        for rows in order_N.split(BATCH):
            label_BT = self.label_N[rows][:, None].expand(-1, WINDOW)
            logits_BTC = self.model({name: x[rows] for name, x in self.streams.items()})
            loss = F.cross_entropy(logits_BTC.flatten(0, 1), label_BT.flatten())
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
