"""Schedules against the published values, torch's own schedulers and their formulas."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from erray.errors import UserError
from erray.training.schedules import SCHEDULES, make_schedule

REFERENCE = json.loads(
    (Path(__file__).parents[2] / "assets" / "reference" / "schedules.json").read_text()
)


@pytest.mark.reference
@pytest.mark.parametrize("name", REFERENCE)
def test_published_values(name):
    options = dict(REFERENCE[name])
    values, lr = options.pop("values"), options.pop("lr")
    schedule = make_schedule(name, lr, options)
    assert [schedule.lr(epoch) for epoch in range(len(values))] == pytest.approx(values, abs=1e-6)


def torch_values(make, num_epochs=60, lr=0.1):
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = make(optimiser)
    values = []
    for _ in range(num_epochs):
        values.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    return values


@pytest.mark.parametrize(
    ("name", "options", "make"),
    [
        (
            "step",
            {"gamma": 0.7, "step_size": 9},
            lambda optimiser: lr_scheduler.StepLR(optimiser, 9, gamma=0.7),
        ),
        (
            "multistep",
            {"gamma": 0.3, "milestones": [4, 4, 31]},
            lambda optimiser: lr_scheduler.MultiStepLR(optimiser, [4, 4, 31], gamma=0.3),
        ),
        (
            "cosine",
            {"t_max": 25, "min_lr": 0.01},
            lambda optimiser: lr_scheduler.CosineAnnealingLR(optimiser, 25, eta_min=0.01),
        ),
        ("constant", {}, lambda optimiser: lr_scheduler.ConstantLR(optimiser, factor=1.0)),
    ],
)
def test_same_as_torch(name, options, make):
    schedule = make_schedule(name, 0.1, options)
    values = [schedule.lr(epoch) for epoch in range(60)]
    assert values == pytest.approx(torch_values(make), rel=1e-9)


@given(st.integers(1, 9), st.integers(1, 20))
def test_warm_up_is_one_straight_ramp(min_epochs, num_batches):
    schedule = make_schedule("mywarmup", 0.3, {"min_epochs": min_epochs})
    steps = [
        schedule.lr(epoch, batch, num_batches)
        for epoch in range(min_epochs)
        for batch in range(num_batches)
    ]
    total = min_epochs * num_batches
    assert steps == pytest.approx([0.3 * (step + 1) / total for step in range(total)])
    assert schedule.lr(min_epochs, 0, num_batches) == 0.3


@given(
    metrics=st.lists(st.integers(0, 4), max_size=60),
    patience=st.integers(0, 4),
    mode=st.sampled_from(["max", "min"]),
)
def test_plateaus_are_torchs(metrics, patience, mode):
    """Beyond the ramp the rate is that of ReduceLROnPlateau without its threshold."""
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    plateau = lr_scheduler.ReduceLROnPlateau(
        optimiser, mode, factor=0.5, patience=patience, threshold=0, min_lr=0.004, eps=0
    )
    schedule = make_schedule(
        "mywarmup", 0.1, {"min_epochs": 1, "patience": patience, "min_lr": 0.004, "mode": mode}
    )
    for epoch, metric in enumerate(metrics):
        schedule.end_epoch(metric)
        plateau.step(metric)
        assert schedule.lr(epoch + 1) == pytest.approx(optimiser.param_groups[0]["lr"])


def test_epochs_of_the_ramp_are_not_bad_ones():
    schedule = make_schedule("mywarmup", 0.1, {"min_epochs": 4, "patience": 1})
    for metric in (0.9, 0.1, 0.1, 0.1, 0.1):  # four epochs of ramp, one bad epoch after it
        schedule.end_epoch(metric)
    assert schedule.lr(5) == 0.1
    schedule.end_epoch(float("nan"))  # no number, no improvement
    assert schedule.lr(6) == 0.05


def test_a_resumed_plateau_goes_on():
    options = {"min_epochs": 1, "patience": 2}
    metrics = [0.5, 0.6, 0.6, 0.4, 0.6, 0.3, 0.2, 0.1, 0.7, 0.1]
    whole, first = (make_schedule("mywarmup", 0.1, options) for _ in range(2))
    for metric in metrics:
        whole.end_epoch(metric)
    for metric in metrics[:4]:
        first.end_epoch(metric)
    second = make_schedule("mywarmup", 0.1, options)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for metric in metrics[4:]:
        second.end_epoch(metric)
    assert second.state_dict() == whole.state_dict()
    assert second.lr(10) == whole.lr(10) < 0.1


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "mywarmup"])
def test_the_others_depend_on_the_epoch_alone(name):
    schedule = make_schedule(name, 0.1, {})
    before = schedule.lr(7)
    schedule.end_epoch(0.0)
    assert schedule.lr(7, 3, 10) == before
    assert schedule.state_dict() == {}
    schedule.load_state_dict({})


@given(st.integers(0, 500), st.sampled_from(sorted(SCHEDULES)))
def test_a_rate_is_never_negative_nor_above_the_base(epoch, name):
    assert 0 <= make_schedule(name, 0.1, {}).lr(epoch) <= 0.1


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("linear", {}, "'linear'.*constant, step, mystep, multistep, cosine, mycosine, mywarmup"),
        ("step", {"min_lr": 1e-5}, "'min_lr'.*valid options: gamma, step_size$"),
        ("step", {"base_lr": 1.0}, "no option 'base_lr'"),
        ("constant", {"gamma": 0.1}, "valid options: none"),
        ("mystep", {"gamma": "0.1"}, "gamma: .*found '0.1'"),
        ("mystep", {"gamma": 0}, "gamma must be positive, found 0"),
        ("cosine", {"t_max": 0}, "t_max must be positive"),
        ("mycosine", {"max_epochs": -1}, "max_epochs must be positive"),
        ("multistep", {"milestones": [5, 3]}, "must ascend"),
        ("mywarmup", {"mode": "MIN"}, "mode: .*'max' or 'min'"),
        ("mywarmup", {"factor": 1.5}, "factor must be between 0 and 1"),
        ("mywarmup", {"patience": -1}, "patience must not be negative"),
        ("mywarmup", {"min_epochs": 0}, "min_epochs must be positive"),
        ("mywarmup", {"plateau": {}}, "no option 'plateau'"),
    ],
)
def test_wrong_options_are_refused(name, options, message):
    with pytest.raises(UserError, match=message):
        make_schedule(name, 0.1, options)
