"""What the fusion models share: an encoder per stream, and how it is configured.

Shapes as in ``erray.models.blocks``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from erray.errors import UserError
from erray.models.blocks import TCN, Absence, AbsentVector, MaskedBatchNorm1d, Normaliser


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """Settings of stream encoders that are TCNs."""

    kernel_size: int = 5
    dropout: float = 0.1
    channels: dict[str, tuple[int, ...]] | None = None  # TCN channels of some streams, by name

    def __post_init__(self) -> None:
        if self.kernel_size < 1:
            raise UserError(f"kernel_size must be at least 1, found {self.kernel_size}")
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout must be in [0, 1), found {self.dropout}")
        for stream, channels in (self.channels or {}).items():
            if not channels or min(channels) < 1:
                raise UserError(
                    f"channels.{stream} must be positive numbers, found {list(channels)}"
                )


class StreamEncoder(nn.Module):
    """One stream up to the fusion: normaliser, absence, TCN, masked norm.

    ``forward(x_BTD, present_BT, valid_BT)`` gives [B, T, channels[-1]]. What is stored at absent
    or padded steps (NaN included) has no influence.
    """

    def __init__(
        self, width: int, channels: Sequence[int], *, kernel_size: int, dropout: float
    ) -> None:
        super().__init__()
        self.normaliser = Normaliser(width)
        self.absent = AbsentVector(width)
        self.temporal = TCN(width, channels, kernel_size=kernel_size, dropout=dropout)
        self.bn = MaskedBatchNorm1d(channels[-1])

    def forward(self, x_BTD: Tensor, present_BT: Tensor, valid_BT: Tensor) -> Tensor:
        counted_BT = present_BT & valid_BT
        x_BTD = torch.where(counted_BT[..., None], self.normaliser(x_BTD), 0)
        absent_BT = valid_BT & ~present_BT
        absence = Absence(self.absent.vector, absent_BT[:, None, :].to(x_BTD.dtype))
        hidden_BCT = self.temporal(x_BTD.transpose(1, 2), absence)
        return self.bn(hidden_BCT, counted_BT).transpose(1, 2)


class FusionModel(nn.Module):
    """What every model has; subclasses fill ``encoders`` and define ``forward``.

    ``streams`` (name to width, in order), ``num_classes`` and ``config`` say all of a model but
    its weights.
    """

    config_class: ClassVar[type[Any]]
    causal: bool
    """Whether a tick's logits come from that tick and earlier ones alone."""
    encoders: nn.ModuleDict
    """Stream name to a module with a ``normaliser``."""

    def __init__(self, streams: Mapping[str, int], num_classes: int, config: Any) -> None:
        super().__init__()
        self.streams = dict(streams)
        self.num_classes = num_classes
        self.config = config

    @property
    def depends_on_batch_mates(self) -> bool:
        """Whether a clip's logits change with its batch mates: it is scored alone then."""
        return False

    def fit_normaliser(self, stream: str, mean_D: Tensor, std_D: Tensor) -> None:
        """Set what is subtracted from ``stream`` and what divides it: train split numbers only."""
        normaliser = self.encoders[stream].normaliser
        assert isinstance(normaliser, Normaliser)
        normaliser.fit(mean_D, std_D)


class TcnFusionModel(FusionModel):
    """A model that reads every stream through a TCN; subclasses add the fusion."""

    config_class: ClassVar[type[EncoderConfig]]
    channel_table: ClassVar[Mapping[int, tuple[int, ...]]]
    """Stream width to TCN channels; a stream of another width takes the nearest one's."""

    def __init__(self, streams: Mapping[str, int], num_classes: int, config: EncoderConfig) -> None:
        super().__init__(streams, num_classes, config)
        self.channels = self._choose_channels(config)
        self.encoders = nn.ModuleDict(
            {
                name: StreamEncoder(
                    width,
                    self.channels[name],
                    kernel_size=config.kernel_size,
                    dropout=config.dropout,
                )
                for name, width in self.streams.items()
            }
        )

    def encode(
        self, streams: Mapping[str, Tensor], present: Mapping[str, Tensor], valid_BT: Tensor
    ) -> dict[str, Tensor]:
        """Every stream through its encoder: name to [B, T, C]."""
        return {
            name: encoder(streams[name], present[name], valid_BT)
            for name, encoder in self.encoders.items()
        }

    def _choose_channels(self, config: EncoderConfig) -> dict[str, tuple[int, ...]]:
        given = config.channels or {}
        unknown = sorted(set(given) - set(self.streams))
        if unknown:
            raise UserError(
                f"channels name no stream of the model: {', '.join(unknown)}; "
                f"expected some of: {', '.join(self.streams)}"
            )
        return {
            name: given.get(name) or nearest_channels(width, self.channel_table)
            for name, width in self.streams.items()
        }


def nearest_channels(width: int, table: Mapping[int, tuple[int, ...]]) -> tuple[int, ...]:
    """TCN channels of the table's nearest stream width, the narrower one when two are as near."""
    return table[min(table, key=lambda known: (abs(known - width), known))]
