"""The contract of erray.models, run on every model: absence, padding, causality, any streams.

Also on JMT and MT with the options for old checkpoints, but for what these options give up: there
a clip's logits depend on its batch mates, and on two streams alone. ``test_cross_attention.py``
shows both.
"""

import itertools
import pickle
import random

import pytest
import torch
from torch.nn.functional import cross_entropy

from erray.errors import UserError
from erray.models import MODELS, make_model
from erray.models.exported import export_program
from erray.models.fusion import TcnFusionModel

WIDTHS = {"face": 12, "voice": 5, "words": 9}
CHANNELS = {"face": (10, 8), "voice": (6,), "words": (7, 7, 4)}
NARROW = {
    "can": {"modal_dim": 6},
    "jmt": {"modal_dim": 8},
    "mt": {"modal_dim": 8},
}
NUM_CLASSES = 3
STREAM_SETS = [
    order for size in range(1, len(WIDTHS) + 1) for order in itertools.permutations(WIDTHS, size)
]
TWO = ("face", "voice")  # tracing takes seconds, and more for every pair of streams
OLD = {f"old {name}": {"fusion_axis": "published", "readout": "last"} for name in ("jmt", "mt")}
WITH_TCN = sorted(name for name, model in MODELS.items() if issubclass(model, TcnFusionModel))

models = pytest.mark.parametrize("name", sorted(MODELS))
models_and_old = pytest.mark.parametrize("name", sorted([*MODELS, *OLD]))


def make(name, streams=tuple(WIDTHS), **options):
    """A small model whose every weight, buffer and vector for absence is away from its default."""
    torch.manual_seed(0)
    options = OLD.get(name, {}) | options
    name = name.split()[-1]
    options = {"dropout": 0.0} | NARROW.get(name, {}) | options
    if name in WITH_TCN:
        channels = {stream: CHANNELS[stream] for stream in streams}
        options = {"channels": channels, "kernel_size": 3} | options
    model = make_model(name, {stream: WIDTHS[stream] for stream in streams}, NUM_CLASSES, options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        for buffer in model.buffers():
            if buffer.is_floating_point():
                buffer.add_(0.2 * torch.rand_like(buffer))
    return model.eval()


def make_inputs(streams=tuple(WIDTHS), *, shape_BT=(3, 11), lengths=None, seed=1):
    """Random features, random presence (with at least one absence), valid by length."""
    random_ = torch.Generator().manual_seed(seed)
    x = {name: torch.randn(*shape_BT, WIDTHS[name], generator=random_) for name in streams}
    present = {name: torch.rand(shape_BT, generator=random_) < 0.7 for name in streams}
    lengths = torch.tensor(lengths or [shape_BT[1]] * shape_BT[0])
    valid_BT = torch.arange(shape_BT[1]) < lengths[:, None]
    return x, present, valid_BT


def train_loss(model, x, present, valid_BT):
    logits_BTC = model(x, present, valid_BT)
    labels_BT = torch.arange(len(valid_BT))[:, None].expand(valid_BT.shape) % NUM_CLASSES
    return cross_entropy(logits_BTC[valid_BT], labels_BT[valid_BT], reduction="sum")


@models
@pytest.mark.parametrize("streams", STREAM_SETS, ids="-".join)
def test_any_streams_in_any_order(name, streams):
    model = make(name, streams)
    x, present, valid_BT = make_inputs(streams)
    logits_BTC = model(x, present, valid_BT)
    assert logits_BTC.shape == (3, 11, NUM_CLASSES)
    assert torch.isfinite(logits_BTC).all()
    reverse = {stream: x[stream] for stream in reversed(streams)}
    torch.testing.assert_close(model(reverse, present, valid_BT), logits_BTC)


@models_and_old
@pytest.mark.parametrize("training", [False, True])
def test_one_frame(name, training):
    model = make(name).train(training)
    x, present, valid_BT = make_inputs(shape_BT=(1, 1))
    logits_BTC = model(x, present, valid_BT)
    assert logits_BTC.shape == (1, 1, NUM_CLASSES)
    assert torch.isfinite(logits_BTC).all()


@models
@pytest.mark.parametrize("streams", STREAM_SETS, ids="-".join)
def test_gradients_reach_every_parameter(name, streams):
    model = make(name, streams).train()
    train_loss(model, *make_inputs(streams, lengths=[11, 7, 9])).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
        assert parameter.grad.abs().max() > 0, parameter_name


@models
def test_padding_changes_no_logit(name):
    model = make(name)
    x, present, valid_BT = make_inputs(lengths=[11, 7, 9])
    logits_BTC = model(x, present, valid_BT)
    assert (logits_BTC[~valid_BT] == 0).all()
    for row, length in enumerate([11, 7, 9]):
        alone = model(
            {s: v[row : row + 1, :length] for s, v in x.items()},
            {s: m[row : row + 1, :length] for s, m in present.items()},
            valid_BT[row : row + 1, :length],
        )
        torch.testing.assert_close(logits_BTC[row, :length], alone[0], atol=1e-5, rtol=0)


@models_and_old
def test_what_is_stored_where_nothing_is_has_no_influence(name):
    model = make(name)
    x, present, valid_BT = make_inputs(lengths=[11, 7, 9])
    logits_BTC = model(x, present, valid_BT)
    for stored in (1e6, float("nan")):
        spoilt = {
            s: v.masked_fill(~(present[s] & valid_BT)[..., None], stored) for s, v in x.items()
        }
        everywhere = {s: m | ~valid_BT for s, m in present.items()}
        assert torch.equal(model(spoilt, everywhere, valid_BT), logits_BTC)


@models
def test_presence_matters(name):
    """The counterpart of the test above: taking a present step away changes logits."""
    model = make(name)
    x, present, valid_BT = make_inputs()
    logits_BTC = model(x, present, valid_BT)
    for stream in WIDTHS:
        fewer = {**present, stream: torch.zeros_like(valid_BT)}
        assert (model(x, fewer, valid_BT) - logits_BTC).abs().max() > 1e-3, stream


@models_and_old
def test_padding_changes_no_statistic_and_no_loss_in_training(name):
    narrow, wide = make(name).train(), make(name).train()
    x, present, valid_BT = make_inputs(lengths=[11, 7, 9])
    pad = torch.nn.functional.pad
    padded = (
        {s: pad(v, (0, 0, 0, 6), value=float("nan")) for s, v in x.items()},
        {s: pad(m, (0, 6), value=True) for s, m in present.items()},
        pad(valid_BT, (0, 6)),
    )
    loss, padded_loss = train_loss(narrow, x, present, valid_BT), train_loss(wide, *padded)
    torch.testing.assert_close(padded_loss, loss, atol=1e-5, rtol=1e-5)
    loss.backward()
    padded_loss.backward()
    for (key, a), b in zip(narrow.named_parameters(), wide.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, atol=1e-4, rtol=1e-4, msg=key)
    for (key, a), b in zip(narrow.named_buffers(), wide.buffers(), strict=True):
        torch.testing.assert_close(b, a, atol=1e-5, rtol=1e-5, msg=key)


@pytest.mark.parametrize("name", [*WITH_TCN, *OLD])
def test_training_statistics_leave_absent_steps_out(name):
    model = make(name).train()
    x, present, valid_BT = make_inputs()
    model(x, {**present, "voice": torch.zeros_like(valid_BT)}, valid_BT)
    tracked = {s: int(model.encoders[s].bn.num_batches_tracked) for s in WIDTHS}
    assert tracked == {"face": 1, "voice": 0, "words": 1}


@models_and_old
def test_the_future_changes_the_past_only_where_it_is_said(name):
    model = make(name)
    x, present, valid_BT = make_inputs()
    logits_BTC = model(x, present, valid_BT)
    for now in (1, 5, 10):
        later_x, later_present, _ = make_inputs(seed=2)
        mixed_x = {s: torch.cat([v[:, :now], later_x[s][:, now:]], 1) for s, v in x.items()}
        mixed_present = {
            s: torch.cat([m[:, :now], later_present[s][:, now:]], 1) for s, m in present.items()
        }
        moved_BTC = (model(mixed_x, mixed_present, valid_BT) - logits_BTC).abs()
        if model.causal:
            assert moved_BTC[:, :now].max() <= 1e-5
        else:
            assert moved_BTC[:, :now].max() > 1e-4
        assert moved_BTC[:, now].max() > 1e-3


@models
def test_batch_mates_change_nothing(name):
    model = make(name)
    x, present, valid_BT = make_inputs(shape_BT=(4, 11))
    logits_BTC = model(x, present, valid_BT)
    order = random.Random(0).sample(range(4), 4)
    shuffled = model(
        {s: v[order] for s, v in x.items()}, {s: m[order] for s, m in present.items()}, valid_BT
    )
    torch.testing.assert_close(shuffled, logits_BTC[order], atol=1e-5, rtol=0)


@models
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("streams", STREAM_SETS, ids="-".join)
def test_all_absent_is_finite(name, streams, training):
    model = make(name, streams).train(training)
    x, present, valid_BT = make_inputs(streams)
    nothing = {s: torch.zeros_like(m) for s, m in present.items()}
    loss = train_loss(model, x, nothing, valid_BT)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@models_and_old
def test_normaliser_acts_on_its_stream(name):
    model = make(name)
    for stream, width in WIDTHS.items():
        model.fit_normaliser(stream, torch.zeros(width), torch.zeros(width))  # std 0: kept as is
    x, present, valid_BT = make_inputs()
    plain_BTC = model(x, present, valid_BT)
    model.fit_normaliser("face", torch.full((12,), 3.0), torch.full((12,), 2.0))
    scaled = {**x, "face": 2 * x["face"] + 3}
    torch.testing.assert_close(model(scaled, present, valid_BT), plain_BTC, atol=1e-5, rtol=0)


@models_and_old
def test_save_and_load_give_the_same_logits(name, tmp_path):
    model = make(name)
    x, present, valid_BT = make_inputs()
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    torch.manual_seed(9)
    other = type(model)(model.streams, model.num_classes, model.config).eval()
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert torch.equal(other(x, present, valid_BT), model(x, present, valid_BT))


@models_and_old
def test_half_precision_agrees(name):
    """bfloat16 has 8 bits of mantissa: 2^-8 a step, a few steps on top of each other."""
    model = make(name)
    inputs = make_inputs(lengths=[11, 7, 9])
    logits_BTC = model(*inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half_BTC = model(*inputs)
        loss = train_loss(make(name).train(), *inputs)
    assert half_BTC.dtype == torch.bfloat16
    difference = (half_BTC.float() - logits_BTC).abs().max()
    assert 0 < difference <= 0.03 * logits_BTC.abs().max()
    assert torch.isfinite(loss)


@models
def test_compiled_it_agrees(name):
    """Traced whole, forwards and backwards; the tracer's own backend needs no C++ compiler."""
    model, compiled = make(name, TWO).train(), make(name, TWO).train()
    inputs = make_inputs(TWO, lengths=[11, 7, 9])
    train_loss(model, *inputs).backward()
    run = torch.compile(compiled, backend="aot_eager", fullgraph=True)
    train_loss(run, *inputs).backward()
    for (key, a), b in zip(model.named_parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, atol=1e-5, rtol=1e-5, msg=key)
    for (key, a), b in zip(model.named_buffers(), compiled.buffers(), strict=True):
        torch.testing.assert_close(b, a, atol=1e-5, rtol=1e-5, msg=key)
    model.eval(), compiled.eval()
    torch.testing.assert_close(run(*inputs), model(*inputs), atol=1e-5, rtol=0)


@models_and_old
def test_exported_it_agrees_at_any_size(name, tmp_path):
    model = make(name, TWO).train()
    torch.export.save(export_program(model), tmp_path / "model.pt2")
    assert model.training  # as it was
    model.eval()
    program = torch.export.load(tmp_path / "model.pt2").module()
    for shape_BT, lengths in [
        ((3, 11), [11, 7, 9]),
        ((1, 1), [1]),
        ((1, 40), [33]),
        ((5, 1), None),
    ]:
        inputs = make_inputs(TWO, shape_BT=shape_BT, lengths=lengths, seed=3)
        torch.testing.assert_close(program(*inputs), model(*inputs), atol=1e-5, rtol=0)


@models_and_old
def test_a_model_can_be_sent_to_another_process(name):
    model = make(name)
    inputs = make_inputs()
    assert torch.equal(pickle.loads(pickle.dumps(model))(*inputs), model(*inputs))


@models
def test_a_small_batch_can_be_learned(name):
    model = make(name).train()
    x, present, valid_BT = make_inputs(lengths=[11, 7, 9])
    first = train_loss(model, x, present, valid_BT).item()
    for _ in range(120):
        loss = train_loss(model, x, present, valid_BT)
        if loss < 0.05 * first:
            return
        model.zero_grad()
        loss.backward()
        with torch.no_grad():  # sign descent: torch.optim takes seconds to import
            for parameter in model.parameters():
                parameter.sub_(0.01 * parameter.grad.sign())
    raise AssertionError(f"the loss went from {first} to {loss} only")


@pytest.mark.parametrize("name", sorted(MODELS))
def test_options_and_streams_are_checked(name):
    of_tcn = [
        ({"face": 3}, 7, {"kernel_size": "5"}, "kernel_size: .*'5'"),
        ({"face": 3}, 7, {"kernel_size": 0}, "kernel_size must be"),
        ({"face": 3}, 7, {"channels": {"face": []}}, "channels.face"),
        ({"face": 3}, 7, {"channels": {"fase": [3]}}, "fase; expected some of: face"),
    ]
    for streams, num_classes, options, message in [
        ({}, 7, {}, "at least one stream"),
        ({"a.b": 3}, 7, {}, "'a.b'"),
        ({"face": 0}, 7, {}, "width"),
        ({"face": 3}, 1, {}, "at least 2 classes"),
        ({"face": 3}, 7, {"widht": 1}, "'widht'.*valid options: .*dropout"),
        ({"face": 3}, 7, {"dropout": 1.0}, "dropout must be"),
        *(of_tcn if name in WITH_TCN else []),
    ]:
        with pytest.raises(UserError, match=message):
            make_model(name, streams, num_classes, options)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_unknown_model_lists_the_known(name):
    with pytest.raises(UserError, match=name):
        make_model("no_such_model", WIDTHS, 7, {})
