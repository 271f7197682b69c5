"""The ramp before a schedule: one straight line, then the schedule from its first epoch."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erray.config import parse_recipe
from erray.errors import UserError
from erray.training.loop import TrainingLoop
from erray.training.schedules import make_schedule
from erray.training.warmup import run_schedule


def settings(**train):
    return parse_recipe({"train": train}).train


@given(
    st.integers(1, 6),
    st.integers(1, 20),
    st.sampled_from(["constant", "step", "mystep", "multistep", "cosine", "mycosine"]),
)
def test_a_ramp_to_the_first_rate_then_the_schedule_from_its_start(epochs, num_batches, name):
    plain = make_schedule(name, 0.3, {})
    found = run_schedule(
        settings(warmup_epochs=epochs, schedule={"name": name}, optimiser={"lr": 0.3})
    )
    total = epochs * num_batches
    ramp = [
        found.lr(epoch, batch, num_batches)
        for epoch in range(epochs)
        for batch in range(num_batches)
    ]
    first = plain.lr(0)
    assert ramp == pytest.approx([first * (step + 1) / total for step in range(total)])
    after = [found.lr(epochs + epoch, 0, num_batches) for epoch in range(30)]
    assert after == [plain.lr(epoch) for epoch in range(30)]


def test_without_it_the_schedule_is_as_it_was():
    assert run_schedule(settings(schedule={"name": "cosine"})) == make_schedule("cosine", 1e-3, {})


def test_two_warm_ups_are_refused():
    with pytest.raises(UserError, match="two warm-ups"):
        settings(warmup_epochs=2, schedule={"name": "mywarmup"})


def test_every_step_gets_its_rate(make_job):
    job = make_job(epochs=3, warmup_epochs=2, optimiser={"lr": 0.004}, accumulate=2)
    loop, rates = TrainingLoop(job), []
    step = loop.stepper.optimiser.step

    def recorded(*arguments):
        rates.append(loop.stepper.optimiser.param_groups[0]["lr"])
        return step(*arguments)

    loop.stepper.optimiser.step = recorded
    list(loop.run())
    num_steps = len(rates) // 3
    assert len(rates) == 3 * num_steps and num_steps > 1
    ramp = [0.004 * (i + 1) / (2 * num_steps) for i in range(2 * num_steps)]
    assert rates == pytest.approx(ramp + [0.004] * num_steps)
