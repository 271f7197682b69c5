"""What is particular to CAN: its gate against loops, and the head's offset."""

import pytest
import torch

from erray.errors import UserError
from erray.models import make_model
from erray.models.can import ChannelGate
from erray.models.head import NormedHead


@torch.no_grad()
def gate_by_loops(module, encoded, present):
    """The definition, tick by tick over the channels that are there."""
    result = []
    for tick in range(len(next(iter(encoded.values())))):
        x_F = torch.zeros(module.width)
        here = []
        for i, (name, proj) in enumerate(module.proj.items()):
            if present[name][tick]:
                channels = range(i * module.modal_dim, (i + 1) * module.modal_dim)
                x_F[list(channels)] = proj(encoded[name][tick])
                here += channels
        scores_F = module.gate(x_F)
        total = sum(scores_F[c].exp() for c in here)
        gated = [scores_F[c].exp() / total * x_F[c] if c in here else 0 for c in range(len(x_F))]
        result.append(torch.tensor(gated))
    return torch.stack(result)


def test_the_gate_skips_absent_streams():
    torch.manual_seed(0)
    widths = {"face": 6, "voice": 4, "words": 5}
    module = ChannelGate(widths, modal_dim=3)
    encoded = {name: torch.randn(8, width) for name, width in widths.items()}
    # every one of the eight combinations of presence
    present = {
        name: torch.tensor([bool(t >> i & 1) for t in range(8)]) for i, name in enumerate(widths)
    }
    gated = module(
        {name: x[None] for name, x in encoded.items()},
        {name: mask[None] for name, mask in present.items()},
    )
    torch.testing.assert_close(gated[0], gate_by_loops(module, encoded, present))
    assert not gated[0, 0].any()


def test_training_would_not_move_an_offset_in_front_of_batch_norm():
    """Why it is a buffer: its gradient is rounding; without batch statistics it acts."""
    torch.manual_seed(0)
    head = NormedHead(6, 3).double().train()
    x_BTF, weights = torch.randn(2, 5, 6).double(), torch.randn(2, 5, 3).double()
    counted_BT = torch.ones(2, 5, dtype=torch.bool)
    head.offset.requires_grad_()
    (head(x_BTF, counted_BT) * weights).sum().backward()
    assert head.offset.grad.abs().max() < 1e-12 < 1e-3 < head.linear.weight.grad.abs().max()
    head.eval()
    before = head(x_BTF, counted_BT)
    with torch.no_grad():
        head.offset += 1
    assert (head(x_BTF, counted_BT) - before).abs().max() > 1e-2


def test_options_are_checked():
    with pytest.raises(UserError, match="modal_dim must be at least 1"):
        make_model("can", {"face": 3}, 7, {"modal_dim": 0})
