"""Trials of a search that are killed or raise have failed, and the others go on."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest

from erray.errors import UserError
from erray.ray_session import ray_session
from erray.training.batches import training_spans
from erray.tuning.driver import Slots, run_trials
from erray.tuning.ledger import REASON
from erray.tuning.search import search
from erray.tuning.trial import Epoch
from tests.faults.small_search import EPOCHS, FatalArrays, make_job, make_recipe
from tests.unit.tuning.conftest import Open, open_ledger

__all__ = ["open_ledger"]

pytestmark = pytest.mark.timeout(300)

# Only the second trial learns, and has windows of LONG_TICKS and more.
LONG_TICKS = 20
LEARNS = {"train.window": 32, "train.hop": 8, "train.optimiser.lr": 0.02}
ONE_LEARNS = f"""
def space(trial):
    trial.suggest_float("space.nothing", 0, 1)
    return {LEARNS} if trial.number == 1 else {{"train.optimiser.lr": 1e-9}}
"""


def test_a_trial_whose_process_is_killed_has_failed_and_the_others_go_on(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path, ONE_LEARNS)
    job = make_job(tmp_path, recipe)
    spans = training_spans(job.train, window=LEARNS["train.window"], hop=LEARNS["train.hop"])
    num_long = sum(len(span) >= LONG_TICKS for span in spans)
    # half of the second epoch
    fatal = FatalArrays(job.train.folder, tmp_path, LONG_TICKS, fatal=num_long * 3 // 2)
    with ray_session(num_cpus=2):
        study = search(recipe, [replace(job, train=fatal)], tmp_path / "tune")
    assert study.counts == {"complete": 5, "pruned": 0, "failed": 1, "interrupted": 0}
    failed = study.trials[1]
    assert (failed["state"], failed["epochs"]) == ("failed", 1)
    assert failed["reason"].startswith("the trial's process ended: ")
    assert "\n" not in failed["reason"]
    complete = [trial for trial in study.trials if trial["state"] == "complete"]
    assert all(trial["epochs"] == EPOCHS for trial in complete)
    best = study.trials[study.best]
    assert best["state"] == "complete"
    assert best["value"] == max(trial["value"] for trial in complete) < failed["value"]


class Raising:
    """The first trial ends with a user's mistake, the second with any other error."""

    def __call__(self, settings: Mapping[str, Any]) -> Iterator[Epoch]:
        yield Epoch(0.5, 0.1)
        if settings["train.x"] == 0:
            raise UserError("features of clip a are not finite: leave it out")
        if settings["train.x"] == 1:
            raise ValueError("shapes (2, 3)\nand (4, 5)")
        yield Epoch(0.7, 0.1)


def test_a_trial_that_raises_has_failed_with_its_reason_and_the_others_go_on(
    open_ledger: Open, tmp_path: Path
) -> None:
    def by_number(trial: optuna.Trial) -> dict[str, Any]:
        return {"train.x": trial.number}

    with (
        ray_session(num_cpus=2),
        open_ledger(4, suggest=by_number, epochs=2, halving=None) as ledger,
    ):
        slots = Slots(max_concurrent=2, cpus=1, gpus=0)
        run_trials(ledger, Raising(), slots=slots, folder=tmp_path / "ray")
        found = [(trial.state.name, trial.user_attrs.get(REASON)) for trial in ledger.trials]
    assert found == [
        ("FAIL", "features of clip a are not finite: leave it out"),
        ("FAIL", "ValueError: shapes (2, 3) and (4, 5)"),
        ("COMPLETE", None),
        ("COMPLETE", None),
    ]


class Sleeping:
    """A trial that Ray looks at the memory of many times before it would end."""

    def __call__(self, settings: Mapping[str, Any]) -> Iterator[Epoch]:
        yield Epoch(0.5, 0.1)
        time.sleep(120)


def test_trials_that_ray_ends_for_want_of_memory_have_failed_with_that_reason(
    open_ledger: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # any machine has more in use than that: every trial is ended
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.001")
    with ray_session(num_cpus=2), open_ledger(2, epochs=2, halving=None) as ledger:
        slots = Slots(max_concurrent=2, cpus=1, gpus=0)
        run_trials(ledger, Sleeping(), slots=slots, folder=tmp_path / "ray")
        assert [trial.state.name for trial in ledger.trials] == ["FAIL", "FAIL"]
        for trial in ledger.trials:
            reason = trial.user_attrs[REASON]
            assert "killed due to the node running low on memory" in reason
            assert "\n" not in reason and not reason.startswith("Failure #")
