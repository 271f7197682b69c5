"""A study as data: states, the best trial, and which parameters mattered."""

from __future__ import annotations

import json

import numpy as np
import pytest

from erray.errors import UserError
from erray.tuning.study import MIN_FOR_IMPORTANCE, read_study


def run(ledger, value_of, num):
    """Trials with nine epochs, the fifth of them the best."""
    for _ in range(num):
        number, _ = ledger.ask()
        value = value_of(ledger.trials[number].params)
        for epoch in range(9):
            ledger.report(number, value - 0.1 * abs(epoch - 4), 0.1)
        ledger.finish(number)


def test_every_end_of_a_trial_is_told(open_ledger):
    with open_ledger(4, halving=None) as ledger:
        run(ledger, lambda params: 0.5, 1)
        ledger.report(ledger.ask()[0], 0.9, 0.1)
    with open_ledger(4, halving=None) as ledger:
        number, _ = ledger.ask()
        ledger.report(number, 0.8, 0.2)
        ledger.fail(number, "no memory")
        number, _ = ledger.ask()
        ledger.report(number, 0.7, 0.2)
        ledger.finish(number)
        run(ledger, lambda params: 0.5, 1)
        study = read_study(ledger, "val_weighted_f1", seed=0)
    assert [t["state"] for t in study.trials] == [
        *("complete", "interrupted", "failed", "pruned", "complete"),
    ]
    assert study.counts == {"complete": 2, "pruned": 1, "failed": 1, "interrupted": 1}
    assert [t["value"] for t in study.trials] == [0.5, 0.9, 0.8, 0.7, 0.5]
    assert [t["epochs"] for t in study.trials] == [9, 1, 1, 1, 9]
    assert study.trials[2]["reason"] == "no memory"
    assert "driver ended" in study.trials[1]["reason"]
    assert study.trials[3]["reason"] is None
    assert study.trials[3]["seconds"] == 0.2
    times_s = study.trials[0]["times_s"]
    assert len(times_s) == 9 and times_s == sorted(times_s)
    assert study.trials[1]["times_s"] is None, "its driver ended before it told them"
    assert study.best == 0, "the best complete one, of equal ones the first"
    assert study.best_settings == study.trials[0]["settings"]
    assert max(study.trials[0]["curve"]) == study.trials[0]["curve"][4] == 0.5
    assert json.loads(json.dumps(study.trials)) == study.trials


def test_a_study_without_a_complete_trial_says_why(open_ledger):
    with open_ledger(2) as ledger:
        for reason in ("first thing", "second thing"):
            ledger.fail(ledger.ask()[0], reason)
        with pytest.raises(UserError, match="none of 2 trials is complete, 2 failed; first reason"):
            read_study(ledger, "val_weighted_f1", seed=0)


def test_importance_finds_the_parameter_that_matters(open_ledger):
    def suggest(trial):
        trial.suggest_float("matters", 0, 1)
        trial.suggest_float("noise", 0, 1)
        if trial.suggest_categorical("branch", [True, False]):
            trial.suggest_float("inner", 0, 1)
        return {}

    rng = np.random.default_rng(0)

    def value(params):
        return params["matters"] ** 2 + 0.5 * params.get("inner", 0.0) + 0.01 * rng.random()

    with open_ledger(40, suggest=suggest, halving=None, max_concurrent=1) as ledger:
        run(ledger, value, 40)
        found = read_study(ledger, "val_weighted_f1", seed=0)
        again = read_study(ledger, "val_weighted_f1", seed=0)
    importance = found.importance
    assert importance == again.importance
    assert set(importance["params"]) == {"matters", "noise", "branch"}
    assert importance["params"]["matters"] > 3 * importance["params"]["noise"]
    # what two of them explain only together is neither's
    assert 0.9 < sum(importance["params"].values()) < 1
    num_inner = sum("inner" in trial["params"] for trial in found.trials)
    assert importance["branches"]["inner"]["trials"] == num_inner < 40
    assert importance["left_out"] == {} and importance["trials"] == 40


def test_what_has_no_importance_has_a_reason(open_ledger):
    def suggest(trial):
        trial.suggest_float("x", 0, 1)
        trial.suggest_int("constant", 4, 4)
        if trial.number == 3:
            trial.suggest_float("rare", 0, 1)
        return {}

    with open_ledger(8, suggest=suggest, halving=None) as ledger:
        run(ledger, lambda params: params["x"], 8)
        importance = read_study(ledger, "val_weighted_f1", seed=0).importance
    assert importance["params"] == {"x": 1.0}
    assert importance["left_out"] == {
        "constant": "all 8 complete trials that have it have one value",
        "rare": f"1 complete trials have it, fewer than {MIN_FOR_IMPORTANCE}",
    }


def test_equal_values_say_nothing_about_parameters(open_ledger):
    with open_ledger(7, halving=None) as ledger:
        run(ledger, lambda params: 0.5, 7)
        importance = read_study(ledger, "val_weighted_f1", seed=0).importance
    assert importance["params"] == {} and importance["branches"] == {}
    assert "equally good" in importance["left_out"]["x"]
