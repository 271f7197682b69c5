"""What JMT and MT share: encoder layers over time, attention between streams, then over the slots.

A source is a stream or, in JMT, the joint of all streams. A slot is one ordered pair of sources:
the first asks, the second is attended to. Shapes as in ``erray.models.blocks``, D = ``modal_dim``,
S slots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from erray.errors import UserError
from erray.models.attention import EncoderLayer, MaskedAttention
from erray.models.can import CHANNEL_TABLE
from erray.models.fusion import EncoderConfig, TcnFusionModel
from erray.models.head import NormedHead


@dataclass(frozen=True, slots=True)
class CrossAttentionConfig(EncoderConfig):
    """Settings of JMT and MT; sizes are the published ones.

    ``fusion_axis`` and ``readout`` at ``published`` and ``last`` exist to load old checkpoints. On
    the published axis the last stage attends over all ticks of all clips of the batch, slot by
    slot: a clip's logits then depend on its batch mates (it is therefore scored alone), and with
    ``last`` the other slots learn nothing.
    """

    dropout: float = 0.2
    num_heads: int = 1  # of every attention
    modal_dim: int = 128  # width of every attention
    fusion_axis: Literal["slots", "published"] = "slots"  # what the last stage attends over
    readout: Literal["mean", "last"] = "mean"  # of the present slots, or the last slot

    def __post_init__(self) -> None:
        EncoderConfig.__post_init__(self)  # super() does not work in a class with slots
        if self.num_heads < 1 or self.modal_dim < 1 or self.modal_dim % self.num_heads:
            raise UserError(
                f"modal_dim must be a positive multiple of num_heads, found modal_dim "
                f"{self.modal_dim} and num_heads {self.num_heads}"
            )


class CrossAttentionModel(TcnFusionModel):
    """JMT or MT. See ``erray.models`` for the contract of ``forward``.

    Attention over time stays within the clip, but is not causal. With one stream there is nothing
    to cross: the model is the stream's encoder, its encoder layer and the head.
    """

    config_class = CrossAttentionConfig
    causal = False
    channel_table = CHANNEL_TABLE
    has_joint: ClassVar[bool]
    config: CrossAttentionConfig

    def __init__(
        self, streams: Mapping[str, int], num_classes: int, config: CrossAttentionConfig
    ) -> None:
        super().__init__(streams, num_classes, config)
        width, size = config.modal_dim, {"num_heads": config.num_heads}
        num_streams, several = len(self.streams), len(self.streams) > 1
        self.proj = nn.ModuleDict(
            {
                name: nn.Linear(channels[-1], width)
                for name, channels in self.channels.items()
                if channels[-1] != width
            }
        )
        joint = self.has_joint and several
        self.joint = nn.Linear(num_streams * width, width) if joint else None
        num_sources = num_streams + joint
        self.layers = nn.ModuleList(EncoderLayer(width, **size) for _ in range(num_sources))
        self.pairs = ordered_pairs(num_streams, joint=joint)
        self.cross = nn.ModuleList(MaskedAttention(width, **size) for _ in self.pairs)
        self.slot_layer = EncoderLayer(width, **size) if several else None
        self.slot_attention = MaskedAttention(width, **size) if several else None
        self.head = NormedHead(width, num_classes)

    @property
    def depends_on_batch_mates(self) -> bool:
        return self.config.fusion_axis == "published" and self.slot_layer is not None

    def forward(
        self, streams: Mapping[str, Tensor], present: Mapping[str, Tensor], valid_BT: Tensor
    ) -> Tensor:
        encoded = self.encode(streams, present, valid_BT)
        xs_BTD, here_BT = self._sources(encoded, present, valid_BT)
        xs_BTD = [
            layer(x, here) for layer, x, here in zip(self.layers, xs_BTD, here_BT, strict=True)
        ]
        anything_BT = torch.stack(here_BT).any(0)
        if self.slot_layer is None or self.slot_attention is None:
            fused_BTD = torch.where(anything_BT[..., None], xs_BTD[0], 0)
        else:
            fused_BTD = self._read_out(*self._slots(xs_BTD, here_BT))
        logits_BTC = self.head(fused_BTD, anything_BT)
        return torch.where(valid_BT[..., None], logits_BTC, 0)

    def _sources(
        self, encoded: Mapping[str, Tensor], present: Mapping[str, Tensor], valid_BT: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Every source at one width, and where it is there: streams in order, the joint last."""
        here_BT = [present[name] & valid_BT for name in self.streams]
        xs_BTD = [
            self.proj[name](encoded[name]) if name in self.proj else encoded[name]
            for name in self.streams
        ]
        if self.joint is not None:
            parts = [
                torch.where(here[..., None], x, 0) for x, here in zip(xs_BTD, here_BT, strict=True)
            ]
            xs_BTD.append(self.joint(torch.cat(parts, dim=-1)))
            here_BT.append(torch.stack(here_BT).any(0))
        return xs_BTD, here_BT

    def _slots(self, xs_BTD: Sequence[Tensor], here_BT: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The slots [B, T, S, D], and where each is there [B, T, S]: where the asking source is.

        In a clip that never has the source to attend to, the asking one attends to itself; else a
        clip with a single stream would leave MT nothing.
        """
        slots = []
        for attention, (query, context) in zip(self.cross, self.pairs, strict=True):
            some_B1 = here_BT[context].any(-1, keepdim=True)
            key_BT = torch.where(some_B1, here_BT[context], here_BT[query])
            x_BTD = torch.where(some_B1[..., None], xs_BTD[context], xs_BTD[query])
            slots.append(attention(xs_BTD[query], x_BTD, key_BT))
        here_BTS = torch.stack([here_BT[query] for query, _ in self.pairs], dim=-1)
        return torch.stack(slots, dim=-2), here_BTS

    def _read_out(self, slots_BTSD: Tensor, here_BTS: Tensor) -> Tensor:
        """One vector a tick from its slots; 0 where none of those that are read is there."""
        assert self.slot_layer is not None and self.slot_attention is not None
        shape_BT = slots_BTSD.shape[:2]
        if self.config.fusion_axis == "slots":
            x, key = slots_BTSD.flatten(0, 1), here_BTS.flatten(0, 1)
        else:
            x, key = (part.flatten(0, 1).transpose(0, 1) for part in (slots_BTSD, here_BTS))
        x = self.slot_layer(x, key)
        x = self.slot_attention(x, x, key)
        if self.config.fusion_axis == "published":
            x = x.transpose(0, 1)
        x_BTSD = torch.where(here_BTS[..., None], x.unflatten(0, shape_BT), 0)
        if self.config.readout == "last":
            return x_BTSD[..., -1, :]
        return x_BTSD.sum(-2) / here_BTS.sum(-1, keepdim=True).clamp(min=1)


def ordered_pairs(num_streams: int, *, joint: bool) -> list[tuple[int, int]]:
    """(asking, attended to) for every slot; sources by position, the joint after the streams.

    Both ways of every two streams, then of the joint and every stream. With two streams the order
    is the published one: 01 10 20 02 21 12.
    """
    pairs = [pair for a, b in combinations(range(num_streams), 2) for pair in ((a, b), (b, a))]
    if joint:
        last = num_streams
        pairs += [pair for one in range(num_streams) for pair in ((last, one), (one, last))]
    return pairs
