"""What is particular to JMT and MT: pairs, slots, read-out, absence, and the published axis."""

import pytest
import torch

from erray.errors import UserError
from erray.models import make_model
from erray.models.attention import EncoderLayer, MaskedAttention
from erray.models.cross_attention import ordered_pairs

STREAMS = {"face": 6, "voice": 4, "words": 5}
CHANNELS = {"face": [8], "voice": [3], "words": [4]}


def make(name, streams=tuple(STREAMS), **options):
    torch.manual_seed(0)
    model = make_model(
        name,
        {stream: STREAMS[stream] for stream in streams},
        4,
        {"modal_dim": 8, "channels": {s: CHANNELS[s] for s in streams}, **options},
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def make_inputs(streams=tuple(STREAMS), *, shape_BT=(2, 7), share=1.0, seed=1):
    random = torch.Generator().manual_seed(seed)
    x = {s: torch.randn(*shape_BT, STREAMS[s], generator=random) for s in streams}
    present = {s: torch.rand(shape_BT, generator=random) < share for s in streams}
    return x, present, torch.ones(shape_BT, dtype=torch.bool)


def difference(model, changed, inputs):
    return (model(*changed) - model(*inputs)).abs().amax(-1)


def test_attention_is_torchs_where_there_are_keys_and_zero_elsewhere():
    torch.manual_seed(0)
    ours, theirs = MaskedAttention(8, num_heads=2), torch.nn.MultiheadAttention(8, 2)
    names = {name: name.replace("in_proj.", "in_proj_") for name in ours.state_dict()}
    theirs.load_state_dict({names[name]: x for name, x in ours.state_dict().items()})
    query_NLD, context_NSD = torch.randn(4, 5, 8), torch.randn(4, 6, 8)
    key_NS = torch.rand(4, 6) < 0.5
    key_NS[0], key_NS[1] = False, True
    attended_NLD = ours(query_NLD, context_NSD, key_NS)
    assert not attended_NLD[0].any()
    for row in (1, 2, 3):
        context_SD = context_NSD[row][key_NS[row]]
        expected_LD, _ = theirs(query_NLD[row], context_SD, context_SD)
        torch.testing.assert_close(attended_NLD[row], expected_LD, atol=1e-6, rtol=1e-5)


def test_encoder_layer_is_torchs():
    torch.manual_seed(0)
    ours = EncoderLayer(8, num_heads=2)
    theirs = torch.nn.TransformerEncoderLayer(8, 2, 8, dropout=0.0, batch_first=True)
    names = {
        name: name.replace("attention.in_proj.", "self_attn.in_proj_").replace(
            "attention.", "self_attn."
        )
        for name in ours.state_dict()
    }
    theirs.load_state_dict({names[name]: x for name, x in ours.state_dict().items()})
    x_NSD = torch.randn(3, 5, 8)
    key_NS = torch.tensor([[True] * 5, [True, False] * 2 + [True], [False] * 4 + [True]])
    expected_NSD = theirs(x_NSD, src_key_padding_mask=~key_NS)
    torch.testing.assert_close(ours(x_NSD, key_NS), expected_NSD, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("num_streams", [2, 3, 4])
def test_every_ordered_pair_has_a_slot(num_streams, joint):
    sources = range(num_streams + joint)
    pairs = ordered_pairs(num_streams, joint=joint)
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == {(a, b) for a in sources for b in sources if a != b}
    assert pairs[:2] == [(0, 1), (1, 0)]


@pytest.mark.parametrize("name", ["jmt", "mt"])
def test_one_stream_has_nothing_to_cross(name):
    """Also when other options are given: MT and JMT are the same model then."""
    model = make(name, ("voice",), fusion_axis="published", readout="last")
    kinds = {key.split(".")[0] for key, _ in model.named_parameters()}
    assert kinds == {"encoders", "proj", "layers", "head"}
    inputs = make_inputs(("voice",))
    assert torch.equal(model(*inputs), make("jmt", ("voice",))(*inputs))


@pytest.mark.parametrize("name", ["jmt", "mt"])
@pytest.mark.parametrize("stream", STREAMS)
def test_a_clip_with_one_stream_alone_still_says_something(name, stream):
    """The others are absent in all of the clip: every slot would be empty in MT."""
    model = make(name)
    x, present, valid_BT = make_inputs()
    present = {s: valid_BT & (s == stream) for s in STREAMS}
    x[stream].requires_grad_()
    logits_BTC = model(x, present, valid_BT)
    logits_BTC[..., 0].sum().backward()
    assert x[stream].grad.abs().amax((0, 2)).min() > 1e-5


@pytest.mark.parametrize("name", ["jmt", "mt"])
def test_with_the_last_slot_read_every_parameter_learns(name):
    model = make(name, readout="last").train()
    model(*make_inputs(shape_BT=(3, 9), share=0.7))[..., 0].square().sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in model.parameters())


def test_the_mean_is_of_the_slots_that_are_there():
    model = make("mt", ("face", "voice"))
    slots_BTSD, here_BTS = torch.randn(1, 4, 2, 8), torch.ones(1, 4, 2, dtype=torch.bool)
    here_BTS[0, 1, 0] = here_BTS[0, 2] = False
    both, second, none, _ = model._read_out(slots_BTSD, here_BTS)[0]
    attention = model.slot_attention

    def alone(x_SD):
        everywhere_1S = torch.ones(1, len(x_SD), dtype=torch.bool)
        x_1SD = model.slot_layer(x_SD[None], everywhere_1S)
        return attention(x_1SD, x_1SD, everywhere_1S)[0].mean(0)

    torch.testing.assert_close(both, alone(slots_BTSD[0, 0]), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(second, alone(slots_BTSD[0, 1, 1:]), atol=1e-6, rtol=1e-5)
    assert not none.any()


@pytest.mark.parametrize("name", ["jmt", "mt"])
def test_the_published_axis_mixes_clips_and_the_slots_do_not(name):
    """What an old checkpoint computes; the reason that it is no default."""
    inputs = x, present, valid_BT = make_inputs(shape_BT=(2, 6))
    mate = {s: torch.cat([v[:1], v[1:] + 1]) for s, v in x.items()}
    published = make(name, fusion_axis="published", readout="last")
    assert difference(published, (mate, present, valid_BT), inputs)[0].max() > 1e-4
    assert published.depends_on_batch_mates
    slots = make(name)
    assert not slots.depends_on_batch_mates
    assert difference(slots, (mate, present, valid_BT), inputs)[0].max() <= 1e-5


@pytest.mark.parametrize("name", ["jmt", "mt"])
def test_the_published_options_read_two_sources_alone(name):
    """The last slot asks with one source and attends to another; the rest gets no gradient."""
    model = make(name, fusion_axis="published", readout="last")
    model(*make_inputs())[..., 0].square().sum().backward()
    moved = {
        int(key.split(".")[1])
        for key, parameter in model.named_parameters()
        if key.startswith("cross.") and parameter.grad is not None and parameter.grad.any()
    }
    assert moved == {len(model.pairs) - 1}
    everywhere = make(name, fusion_axis="published")
    everywhere(*make_inputs(share=0.7))[..., 0].square().sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in everywhere.parameters())


@pytest.mark.parametrize("name", ["jmt", "mt"])
def test_options_are_checked(name):
    for options, message in [
        ({"num_heads": 3}, "multiple of num_heads"),
        ({"modal_dim": 0}, "multiple of num_heads"),
        ({"fusion_axis": "time"}, "fusion_axis.*'time'"),
        ({"readout": "first"}, "readout.*'first'"),
    ]:
        with pytest.raises(UserError, match=message):
            make_model(name, STREAMS, 4, options)
