"""The masked norm against torch's own and against plain formulas, on one process and on two."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from erray.models.blocks import (
    TCN,
    AbsentVector,
    CausalConv1d,
    Dropout,
    MaskedBatchNorm1d,
    Normaliser,
)

shapes_BCT = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 9)).filter(
    lambda shape: shape[0] * shape[2] > 1
)


def randomise(norm, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        norm.weight.copy_(torch.randn(norm.weight.shape, generator=generator))
        norm.bias.copy_(torch.randn(norm.bias.shape, generator=generator))
        norm.running_mean.copy_(torch.randn(norm.running_mean.shape, generator=generator))
        norm.running_var.copy_(0.5 + torch.rand(norm.running_var.shape, generator=generator))
    return norm


@settings(deadline=None, max_examples=60)
@given(shape_BCT=shapes_BCT, seed=st.integers(0, 2**31), training=st.booleans())
def test_with_everything_counted_it_is_torchs_batch_norm(shape_BCT, seed, training):
    ours = randomise(MaskedBatchNorm1d(shape_BCT[1]), seed).train(training)
    theirs = nn.BatchNorm1d(shape_BCT[1])
    assert theirs.load_state_dict(ours.state_dict()).missing_keys == []
    theirs.train(training)
    x_BCT = torch.randn(shape_BCT, generator=torch.Generator().manual_seed(seed))
    x_ours, x_theirs = x_BCT.clone().requires_grad_(), x_BCT.clone().requires_grad_()
    mask_BT = torch.ones(shape_BCT[0], shape_BCT[2], dtype=torch.bool)
    weights = torch.linspace(-1, 1, x_BCT.numel()).reshape(shape_BCT)
    y_ours, y_theirs = ours(x_ours, mask_BT), theirs(x_theirs)
    # two frames that are almost equal are divided by almost nothing, so rounding is what remains
    torch.testing.assert_close(y_ours, y_theirs, atol=2e-4, rtol=1e-4)
    (y_ours * weights).sum().backward()
    (y_theirs * weights).sum().backward()
    torch.testing.assert_close(x_ours.grad, x_theirs.grad, atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(ours.bias.grad, theirs.bias.grad, atol=1e-4, rtol=1e-4)
    for name, buffer in theirs.named_buffers():
        torch.testing.assert_close(dict(ours.named_buffers())[name], buffer, msg=name)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**31), num_counted=st.integers(2, 12))
def test_only_counted_frames_make_the_statistics(seed, num_counted):
    """The counted frames alone, put through torch's norm as a batch of their own."""
    random = np.random.default_rng(seed)
    mask_BT = np.zeros(12, bool)
    mask_BT[random.permutation(12)[:num_counted]] = True
    mask_BT = torch.from_numpy(mask_BT.reshape(3, 4))
    x_BCT = torch.from_numpy(random.standard_normal((3, 2, 4)).astype(np.float32) * 3 + 100)
    ours, theirs = MaskedBatchNorm1d(2).train(), nn.BatchNorm1d(2).train()
    y_BTC = ours(x_BCT, mask_BT).transpose(1, 2)
    expected_NC = theirs(x_BCT.transpose(1, 2)[mask_BT])
    torch.testing.assert_close(y_BTC[mask_BT], expected_NC, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var, rtol=1e-4, atol=1e-5)


def test_gradients_are_those_of_the_plain_formula():
    torch.manual_seed(0)
    x_BCT = torch.randn(3, 2, 5, dtype=torch.float64, requires_grad=True)
    mask_BT = torch.rand(3, 5) < 0.6
    norm = randomise(MaskedBatchNorm1d(2), 1).double().train()
    counted_NC = x_BCT.transpose(1, 2)[mask_BT]
    mean_C, var_C = counted_NC.mean(0), counted_NC.var(0, correction=0)
    plain_BTC = (x_BCT.transpose(1, 2) - mean_C) / (var_C + norm.eps).sqrt() * norm.weight
    weights = torch.randn_like(x_BCT)
    inputs = (x_BCT, norm.weight, norm.bias)
    got = torch.autograd.grad((norm(x_BCT, mask_BT) * weights).sum(), inputs)
    plain_BCT = (plain_BTC + norm.bias).transpose(1, 2)
    expected = torch.autograd.grad((plain_BCT * weights).sum(), inputs)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("num_counted", [0, 1])
def test_too_few_frames_fall_back_to_the_running_statistics(num_counted):
    norm = randomise(MaskedBatchNorm1d(3), 2).train()
    before = {name: buffer.clone() for name, buffer in norm.named_buffers()}
    x_BCT = torch.randn(2, 3, 4, requires_grad=True)
    mask_BT = torch.zeros(2, 4, dtype=torch.bool)
    mask_BT.view(-1)[:num_counted] = True
    y_BCT = norm(x_BCT, mask_BT)
    torch.testing.assert_close(y_BCT, norm.eval()(x_BCT, mask_BT))
    assert all(torch.equal(before[name], buffer) for name, buffer in norm.named_buffers())
    y_BCT.sum().backward()
    assert torch.isfinite(x_BCT.grad).all()


def test_the_mean_may_be_large():
    """Frames around 1e4 with a spread of 1: E[x^2] - E[x]^2 in float32 would be noise."""
    torch.manual_seed(0)
    x_BCT = 1e4 + torch.randn(4, 1, 200)
    norm = MaskedBatchNorm1d(1).train()
    y_BCT = norm(x_BCT, torch.ones(4, 200, dtype=torch.bool))
    assert abs(y_BCT.mean().item()) < 2e-3
    assert abs(y_BCT.std(correction=0).item() - 1) < 1e-3


TWO_PROCESSES = """
    import sys
    import torch
    import torch.distributed as dist
    from erray.models.blocks import MaskedBatchNorm1d

    rank, folder = int(sys.argv[1]), sys.argv[2]
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    for case in ("some", "none"):
        x_BCT, mask_BT, weights = torch.load(f"{folder}/{case}.pt", weights_only=True)
        rows = slice(0, 4) if rank == 0 else slice(4, 5)  # uneven on purpose
        x_BCT = x_BCT[rows].requires_grad_()
        norm = MaskedBatchNorm1d(3).double().train()
        y_BCT = norm(x_BCT, mask_BT[rows])
        (y_BCT * weights[rows]).sum().backward()
        results = [y_BCT.detach(), x_BCT.grad, norm.weight.grad, norm.bias.grad]
        torch.save(results + [norm.running_mean, norm.running_var], f"{folder}/{case}-{rank}.pt")
    dist.destroy_process_group()
"""


def test_two_processes_normalise_like_one(tmp_path):
    """Also when one of the two has no counted frame."""
    torch.manual_seed(0)
    x_BCT, weights = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    mask_BT = torch.rand(5, 4) < 0.6
    mask_BT[4] = torch.tensor([True, True, True, False])
    nothing_last_BT = mask_BT & (torch.arange(5) < 4)[:, None]
    cases = {"some": mask_BT, "none": nothing_last_BT}
    for case, mask in cases.items():
        torch.save([x_BCT, mask, weights], tmp_path / f"{case}.pt")
    command = [sys.executable, "-c", textwrap.dedent(TWO_PROCESSES)]
    processes = [subprocess.Popen([*command, str(rank), tmp_path]) for rank in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]

    def close(got, expected):
        torch.testing.assert_close(got, expected, atol=1e-12, rtol=1e-9)

    for case, mask in cases.items():
        x = x_BCT.clone().requires_grad_()
        norm = MaskedBatchNorm1d(3).double().train()
        y_BCT = norm(x, mask)
        (y_BCT * weights).sum().backward()
        ranks = [torch.load(tmp_path / f"{case}-{r}.pt", weights_only=True) for r in range(2)]
        close(torch.cat([values[0] for values in ranks]), y_BCT.detach())
        close(torch.cat([values[1] for values in ranks]), x.grad)
        close(ranks[0][2] + ranks[1][2], norm.weight.grad)
        close(ranks[0][3] + ranks[1][3], norm.bias.grad)
        for values in ranks:
            close(values[4], norm.running_mean)
            close(values[5], norm.running_var)


def test_causal_convolution_is_torchs_with_weight_norm():
    torch.manual_seed(0)
    ours = CausalConv1d(3, 4, kernel_size=3, dilation=2)
    with torch.no_grad():
        ours.weight_g.copy_(torch.randn(4, 1, 1))
    theirs = weight_norm(nn.Conv1d(3, 4, 3, dilation=2))
    theirs.load_state_dict(
        {
            "parametrizations.weight.original0": ours.weight_g,
            "parametrizations.weight.original1": ours.weight_v,
            "bias": ours.bias,
        }
    )
    x_BCT = torch.randn(2, 3, 9)
    y_ours, y_theirs = ours(x_BCT), theirs(nn.functional.pad(x_BCT, (4, 0)))
    torch.testing.assert_close(y_ours, y_theirs)
    y_ours.square().sum().backward()
    y_theirs.square().sum().backward()
    original = theirs.parametrizations.weight
    torch.testing.assert_close(ours.weight_g.grad, original.original0.grad)
    torch.testing.assert_close(ours.weight_v.grad, original.original1.grad)
    torch.testing.assert_close(ours.bias.grad, theirs.bias.grad)


def test_initial_weights_are_as_large_as_torchs():
    conv = CausalConv1d(64, 32, kernel_size=5, dilation=1)
    norms = torch.linalg.vector_norm(conv.weight_v, dim=(1, 2), keepdim=True)
    torch.testing.assert_close(conv.weight_g, norms, atol=0.06, rtol=0)


def test_tcn_sees_exactly_its_receptive_field():
    torch.manual_seed(0)
    tcn = TCN(3, (4, 5), kernel_size=3, dropout=0.0).eval()
    x_BCT = torch.randn(1, 3, 40)
    reach = 2 * (3 - 1) * (1 + 2)  # two convolutions a level, dilations 1 and 2
    changed_BCT = x_BCT.clone()
    changed_BCT[..., 10] += 1
    difference_T = (tcn(changed_BCT) - tcn(x_BCT)).abs().amax((0, 1))
    moved = difference_T.nonzero().flatten().tolist()
    assert (moved[0], moved[-1]) == (10, 10 + reach)


def test_normaliser_refuses_nothing_silently():
    normaliser = Normaliser(3)
    x_BTD = torch.randn(2, 4, 3)
    assert torch.equal(normaliser(x_BTD), x_BTD)
    normaliser.fit(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 0.0, 4.0]))
    assert normaliser.std.tolist() == [2, 1, 4]
    with pytest.raises(AssertionError):
        normaliser.fit(torch.tensor([1.0, float("nan"), 3.0]), torch.ones(3))


def test_absent_vector_starts_at_zero():
    absent = AbsentVector(3)
    x_BTD = torch.full((1, 2, 3), float("nan"))
    x_BTD[0, 0] = 1
    filled = absent(x_BTD, torch.tensor([[True, False]]))
    assert filled.tolist() == [[[1, 1, 1], [0, 0, 0]]]


@pytest.mark.parametrize("rate", [0.1, 0.37, 0.5])
def test_dropout_keeps_its_share_and_the_mean(rate):
    torch.manual_seed(0)
    num = 1_000_003  # no multiple of four
    x = torch.ones(num, requires_grad=True)
    out = Dropout(rate)(x)
    kept = out != 0
    # five standard deviations of a binomial share
    assert abs(float(kept.double().mean()) - (1 - rate)) < 5 * (rate * (1 - rate) / num) ** 0.5
    scaled = torch.full_like(out[kept], 1 / (1 - rate))
    torch.testing.assert_close(out[kept], scaled, rtol=2**-15, atol=0)
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())
    neighbours = (kept[:-1] & kept[1:]).double().mean()
    assert abs(float(neighbours) - (1 - rate) ** 2) < 3e-3, "elements of one word are independent"


def test_dropout_follows_torchs_seed_and_is_nothing_in_eval():
    x, dropout = torch.rand(3, 5, 7), Dropout(0.4)
    torch.manual_seed(3)
    first = dropout(x)
    torch.manual_seed(3)
    assert torch.equal(dropout(x), first)
    assert not torch.equal(dropout(x), first)
    assert dropout.eval()(x) is x or torch.equal(dropout(x), x)
    assert torch.equal(Dropout(0.0)(x), x)
    assert torch.count_nonzero(Dropout(1.0)(x)) == 0
    assert torch.count_nonzero(Dropout(0.999999)(torch.ones(1000))) < 10
