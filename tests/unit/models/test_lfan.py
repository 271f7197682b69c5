"""What is particular to LFAN: its leader, and its attention against loops."""

import pytest
import torch

from erray.errors import UserError
from erray.models import make_model
from erray.models.fusion import nearest_channels
from erray.models.lfan import LFAN, LeaderFollowerAttention


def test_channels_come_from_the_nearest_width():
    table = LFAN.channel_table
    assert nearest_channels(512, table) == nearest_channels(500, table) == (256, 256, 128, 128)
    assert nearest_channels(64, table) == nearest_channels(320, table) == (64, 64, 32, 32)
    assert nearest_channels(4096, table) == table[768]


def test_the_leader_is_named():
    streams = {"face": 6, "voice": 4}
    options = {"channels": {"face": [5], "voice": [3]}}
    first = make_model("lfan", streams, 2, options)
    named = make_model("lfan", streams, 2, {**options, "leader": "voice"})
    assert (first.leader, first.head.in_features) == ("face", 5 + 64)
    assert (named.leader, named.head.in_features) == ("voice", 3 + 64)
    with pytest.raises(UserError, match=r"'words' is not a stream of the model.*face, voice"):
        make_model("lfan", streams, 2, {"leader": "words"})
    with pytest.raises(UserError, match="multiple of num_heads"):
        make_model("lfan", streams, 2, {"num_heads": 3})


def attention_by_loops(module, encoded, present):
    """The formula of the docstring for one tick, one head and one stream at a time."""
    names = list(module.qkv_proj)
    num_ticks = len(next(iter(encoded.values())))
    slots = []
    for t in range(num_ticks):
        parts = {m: module.qkv_proj[m](encoded[m][t]).chunk(module.num_heads) for m in names}
        here = [m for m in names if present[m][t]]
        row = []
        for head in range(module.num_heads):
            qkv = {m: parts[m][head].chunk(3) for m in names}
            for m in names:
                value = torch.zeros_like(qkv[m][2])
                if m in here:
                    q, _, value = qkv[m]
                    scores = torch.stack([q @ qkv[n][1] / len(q) ** 0.5 for n in here])
                    for n, weight in zip(here, scores.softmax(0), strict=True):
                        value = value + weight * qkv[n][2]
                row.append(value)
        slots.append(torch.cat(row))
    return module.norm(module.o_proj(torch.stack(slots)))


def test_attention_skips_absent_streams():
    torch.manual_seed(0)
    widths = {"face": 6, "voice": 4, "words": 5}
    module = LeaderFollowerAttention(widths, modal_dim=8, num_heads=2, dropout=0.0)
    encoded = {name: torch.randn(8, width) for name, width in widths.items()}
    # every one of the eight combinations of presence
    present = {
        name: torch.tensor([bool(t >> i & 1) for t in range(8)]) for i, name in enumerate(widths)
    }
    fused = module(
        {name: x[None] for name, x in encoded.items()},
        {name: mask[None] for name, mask in present.items()},
    )
    torch.testing.assert_close(fused[0], attention_by_loops(module, encoded, present))


def test_an_absent_leader_is_its_learned_vector():
    torch.manual_seed(0)
    model = make_model("lfan", {"face": 6, "voice": 4}, 2, {"channels": {"face": [5]}}).eval()
    assert not model.absent_leader.vector.any()
    x = {"face": torch.randn(1, 4, 6), "voice": torch.randn(1, 4, 4)}
    everywhere_BT = torch.ones(1, 4, dtype=torch.bool)
    present = {"face": torch.tensor([[True, False, True, False]]), "voice": everywhere_BT}
    before = model(x, present, everywhere_BT)
    with torch.no_grad():
        model.absent_leader.vector += 1
    after = model(x, present, everywhere_BT)
    step = (after - before)[0]
    assert not step[[0, 2]].any()
    torch.testing.assert_close(step[[1, 3]], model.head.weight[:, :5].sum(1).expand(2, 2))
