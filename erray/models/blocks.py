"""Building blocks that the fusion models share: temporal convolutions, masked norm, absence.

Shapes: B clips, T ticks, D features of a stream, C channels. ``mask_BT`` is True where a tick
counts. Padding comes after the valid ticks of a clip, so a causal convolution never sees it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

NEGATIVE_SLOPE = 0.01


class Absence(NamedTuple):
    """A learned vector at some steps of a convolution's input, kept apart from the input.

    A convolution is linear, so what the vector adds is a convolution of the mask alone. Put into
    the input it would ask for the gradient of the whole input, a fifth of a training step.
    """

    vector_C: Tensor
    mask_B1T: Tensor
    """1 where the vector stands, else 0; of the vector's type."""

    def seen_by(self, weight_OCK: Tensor) -> Tensor:
        """What each tap of a convolution's weight makes of the vector, [O, 1, K]."""
        return torch.einsum("ock,c->ok", weight_OCK, self.vector_C)[:, None, :]


class CausalConv1d(nn.Module):
    """A convolution that sees no future, its weight g v / |v| (Salimans & Kingma 2016, eq. 2).

    |v| is per output channel; g starts at 3^-0.5, about which |v| spreads in torch's initial
    weights. Written out because a module with torch's parametrization cannot be pickled.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel_size: int, dilation: int
    ) -> None:
        super().__init__()
        start = nn.Conv1d(in_channels, out_channels, kernel_size)
        assert start.bias is not None
        self.weight_v = start.weight
        self.weight_g = nn.Parameter(torch.full((out_channels, 1, 1), 3**-0.5))
        self.bias = start.bias
        self.dilation = dilation
        self.left_pad = (kernel_size - 1) * dilation

    def forward(self, x_BCT: Tensor, absence: Absence | None = None) -> Tensor:
        norm = torch.linalg.vector_norm(self.weight_v, dim=(1, 2), keepdim=True)
        weight = self.weight_v * (self.weight_g / norm)
        x_BCT = F.pad(x_BCT, (self.left_pad, 0))
        hidden_BCT = F.conv1d(x_BCT, weight, self.bias, dilation=self.dilation)
        if absence is None:
            return hidden_BCT
        mask_B1T = F.pad(absence.mask_B1T, (self.left_pad, 0))
        return hidden_BCT + F.conv1d(mask_B1T, absence.seen_by(weight), dilation=self.dilation)


class Dropout(nn.Dropout):
    """torch's dropout, whose mask on the CPU comes four elements to a random word.

    torch draws a number for each element, which is 6 % of LFAN's training step; this takes 40 % of
    that. The rate is ``p`` to the nearest 2^-16.
    """

    def forward(self, x: Tensor) -> Tensor:
        compiled = torch.compiler.is_compiling()
        if not self.training or self.p in (0, 1) or x.device.type != "cpu" or compiled:
            return super().forward(x)
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        # uniform in [-2^15, 2^15)
        numbers = words.view(torch.int16)[: x.numel()].view(x.shape)
        dropped = min(round(self.p * 2**16), 2**16 - 1)
        kept = numbers >= dropped - 2**15
        return x * kept.to(x.dtype).mul_(2**16 / (2**16 - dropped))


class TemporalBlock(nn.Module):
    """Two weight-normed causal convolutions and a residual path (Bai et al., arXiv 1803.01271)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int,
        dilation: int,
        dropout: float,
    ) -> None:
        super().__init__()
        size = {"kernel_size": kernel_size, "dilation": dilation}
        self.conv1 = CausalConv1d(in_channels, out_channels, **size)
        self.conv2 = CausalConv1d(out_channels, out_channels, **size)
        self.dropout = Dropout(dropout)
        same = in_channels == out_channels
        self.downsample = None if same else nn.Conv1d(in_channels, out_channels, 1)

    def forward(self, x_BCT: Tensor, absence: Absence | None = None) -> Tensor:
        hidden = self.dropout(F.leaky_relu(self.conv1(x_BCT, absence), NEGATIVE_SLOPE))
        hidden = self.dropout(F.leaky_relu(self.conv2(hidden), NEGATIVE_SLOPE))
        return F.leaky_relu(hidden + self._residual(x_BCT, absence), NEGATIVE_SLOPE)

    def _residual(self, x_BCT: Tensor, absence: Absence | None) -> Tensor:
        residual = x_BCT if self.downsample is None else self.downsample(x_BCT)
        if absence is None:
            return residual
        seen_C1 = absence.vector_C[:, None]
        if self.downsample is not None:
            seen_C1 = absence.seen_by(self.downsample.weight).squeeze(1)
        return residual + seen_C1 * absence.mask_B1T


class TCN(nn.Module):
    """A stack of temporal blocks; level i has dilation 2^i. [B, D, T] to [B, channels[-1], T]."""

    def __init__(
        self, in_channels: int, channels: Sequence[int], *, kernel_size: int, dropout: float
    ) -> None:
        super().__init__()
        widths = [in_channels, *channels]
        self.network = nn.Sequential(
            *(
                TemporalBlock(
                    widths[level],
                    widths[level + 1],
                    kernel_size=kernel_size,
                    dilation=2**level,
                    dropout=dropout,
                )
                for level in range(len(channels))
            )
        )

    def forward(self, x_BCT: Tensor, absence: Absence | None = None) -> Tensor:
        """``absence``: steps of the input, 0 in ``x_BCT``, that hold a learned vector."""
        for level, block in enumerate(self.network):
            x_BCT = block(x_BCT, absence if level == 0 else None)
        return x_BCT


class MaskedBatchNorm1d(nn.Module):
    """Batch normalisation whose training statistics see only the ticks of a mask, on all workers.

    Parameters, buffers and eval results are those of ``torch.nn.BatchNorm1d``; so are the training
    results when the mask is all True. With ``torch.distributed`` initialised, sums and counts are
    added over all ranks (gradients too), so that one and two workers normalise alike; every rank
    must then call it equally often. A batch with fewer than two counted ticks on all ranks together
    has no variance: it is normalised with the running statistics, which stay as they are.
    """

    def __init__(self, num_features: int, *, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps = eps
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.running_mean: Tensor
        self.running_var: Tensor
        self.num_batches_tracked: Tensor
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long))

    def forward(self, x_BCT: Tensor, mask_BT: Tensor) -> Tensor:
        """Normalise every tick of ``x_BCT``; ``mask_BT`` (bool) chooses those that are counted."""
        if self.training:
            mean_C, var_C = self._batch_statistics(x_BCT, mask_BT)
            scale_C = self.weight * torch.rsqrt(var_C + self.eps)
            shift_C = self.bias - mean_C * scale_C
            return (x_BCT * scale_C[:, None] + shift_C[:, None]).to(x_BCT.dtype)
        return F.batch_norm(
            x_BCT, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )

    def _batch_statistics(self, x_BCT: Tensor, mask_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and biased variance over the counted ticks; updates the running ones."""
        x_BCT = x_BCT.to(torch.promote_types(x_BCT.dtype, torch.float32))
        mask_B1T = mask_BT[:, None, :]
        sum_C = torch.where(mask_B1T, x_BCT, 0).sum((0, 2))
        count_1 = mask_BT.sum().to(sum_C.dtype)[None]
        totals = _sum_over_ranks(torch.cat([sum_C, count_1]))
        count = totals[-1].detach()
        mean_C = totals[:-1] / count.clamp(min=1)
        # two passes: sum(x^2) - n mean^2 loses digits when the mean is large
        deviation_BCT = torch.where(mask_B1T, x_BCT - mean_C[:, None], 0)
        var_C = _sum_over_ranks(deviation_BCT.square().sum((0, 2))) / count.clamp(min=1)

        enough = count >= 2  # kept as a tensor: a Python branch would wait for the accelerator
        with torch.no_grad():
            rate = self.momentum * enough
            unbiased_C = var_C * (count / (count - 1).clamp(min=1))
            self.running_mean += rate * (mean_C - self.running_mean)
            self.running_var += rate * (unbiased_C - self.running_var)
            self.num_batches_tracked += enough
        return (
            torch.where(enough, mean_C, self.running_mean),
            torch.where(enough, var_C, self.running_var),
        )


class Normaliser(nn.Module):
    """(x - mean) / std of one stream; the identity until ``fit`` gets the train split's numbers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))

    def fit(self, mean_D: Tensor, std_D: Tensor) -> None:
        """Take over the statistics of the train split; a feature that never varies gets std 1."""
        assert mean_D.shape == std_D.shape == self.mean.shape, (mean_D.shape, self.mean.shape)
        assert bool((std_D >= 0).all() and torch.isfinite(mean_D).all()), "not finite statistics"
        self.mean.copy_(mean_D)
        self.std.copy_(torch.where(std_D > 0, std_D, 1.0))

    def forward(self, x_BTD: Tensor) -> Tensor:
        return (x_BTD - self.mean) / self.std


class AbsentVector(nn.Module):
    """Puts a learned vector, zero at the start, in the place of every step that is absent."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.zeros(width))

    def forward(self, x_BTD: Tensor, present_BT: Tensor) -> Tensor:
        return torch.where(present_BT[..., None], x_BTD, self.vector.to(x_BTD.dtype))


class _SumOverRanks(torch.autograd.Function):
    """Sum over ranks; its gradient is the sum of the ranks' gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].clone()
        dist.all_reduce(total)
        return total


def _sum_over_ranks(x: Tensor) -> Tensor:
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        return _apply_sum(x)
    return x


@torch.compiler.disable  # traced, the gradient would lose its sum over ranks without a word
def _apply_sum(x: Tensor) -> Tensor:
    return _SumOverRanks.apply(x)
