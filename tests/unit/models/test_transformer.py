"""What is particular to the transformer: rotary positions, pooling, attention without a key."""

import pytest
import torch

from erray.errors import UserError
from erray.models import make_model
from erray.models.transformer import AttentionLayer, rotate

STREAMS = {"face": 5, "words": 3}


def make(**options):
    torch.manual_seed(0)
    sizes = {"width": 8, "num_heads": 2, "dropout": 0.0}
    model = make_model("transformer", STREAMS, 3, sizes | options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def test_rotated_products_depend_on_distances_alone():
    torch.manual_seed(0)
    q, k = torch.randn(2, 6, 8)
    products = rotate(q.expand(9, 6, 8)[:, 0]) @ rotate(k.expand(9, 6, 8)[:, 0]).T
    for distance in range(-8, 9):
        diagonal = products.diagonal(distance)
        equal = diagonal[:1].expand_as(diagonal)
        torch.testing.assert_close(diagonal, equal, atol=1e-5, rtol=1e-5)
    assert (products[0] - products[0, 0]).abs()[1:].max() > 1e-3


def test_rotation_keeps_lengths_and_leaves_the_first_step():
    torch.manual_seed(0)
    x = torch.randn(4, 7, 6)
    torch.testing.assert_close(rotate(x).norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(rotate(x)[:, 0], x[:, 0])


@pytest.mark.parametrize("rotary", [False, True])
def test_attention_equals_torchs_on_the_keys_that_count(rotary):
    torch.manual_seed(0)
    layer = AttentionLayer(8, num_heads=2, dropout=0.0).eval()
    x = torch.randn(3, 5, 8)
    mask = torch.rand(3, 5) < 0.6
    mask[:, 0] = True
    mask[2] = False
    found = layer(x, mask[:, None, :], rotary=rotary)
    q, k, v = layer.qkv(layer.norm(x)).chunk(3, dim=-1)
    q, k, v = (part.unflatten(-1, (2, 4)).transpose(1, 2) for part in (q, k, v))
    if rotary:
        q, k = rotate(q), rotate(k)
    keys = mask[:2, None, None, :]
    heads = torch.nn.functional.scaled_dot_product_attention(q[:2], k[:2], v[:2], attn_mask=keys)
    attended = torch.zeros_like(x)  # and 0 where nothing may be attended to
    attended[:2] = layer.out(heads.transpose(1, 2).flatten(-2))
    between = x + attended
    torch.testing.assert_close(found, between + layer.feed_forward(between))


def test_the_clip_logit_reaches_every_tick():
    """Without temporal layers the ticks know of each other through the pooled clip alone."""
    model = make(num_layers=0)
    x = {name: torch.randn(2, 6, width) for name, width in STREAMS.items()}
    everywhere = torch.ones(2, 6, dtype=torch.bool)
    present = dict.fromkeys(STREAMS, everywhere)
    with torch.no_grad():
        logits_BTC = model(x, present, everywhere)
        x["face"][:, 4] += 1
        moved_BTC = model(x, present, everywhere) - logits_BTC
    assert moved_BTC[:, 0].abs().max() > 1e-4
    others = [0, 1, 2, 3, 5]
    torch.testing.assert_close(moved_BTC[:, others], moved_BTC[:, :1].expand(-1, 5, -1))


def test_no_present_stream_is_read_around():
    """A stream that is absent at a tick is filled in from its own other ticks."""
    model = make()
    x = {name: torch.randn(1, 6, width) for name, width in STREAMS.items()}
    everywhere = torch.ones(1, 6, dtype=torch.bool)
    gap = everywhere.clone()
    gap[:, 3] = False
    with torch.no_grad():
        logits_BTC = model(x, {"face": gap, "words": everywhere}, everywhere)
        x["face"][:, 2] += 1
        moved_BTC = model(x, {"face": gap, "words": everywhere}, everywhere) - logits_BTC
    assert moved_BTC[:, 3].abs().max() > 1e-4


def test_sizes_are_checked():
    for options, message in [
        ({"width": 10, "num_heads": 4}, "width must be a positive multiple of twice num_heads"),
        ({"num_heads": 0}, "width must be a positive multiple"),
        ({"num_layers": -1}, "num_layers must not be negative"),
        ({"causal": 1}, "causal"),
    ]:
        with pytest.raises(UserError, match=message):
            make_model("transformer", STREAMS, 3, options)
