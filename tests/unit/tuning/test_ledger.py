"""Every trial is counted once, whatever ends its driver; who stops is a matter of the rungs."""

from __future__ import annotations

import itertools
import math

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from erray.errors import UserError
from erray.tuning.halving import Halving
from erray.tuning.ledger import (
    INTERRUPTED,
    REASON,
    SAMPLER,
    SECONDS,
    SETTINGS,
    Ledger,
)
from erray.tuning.sampling import make_samplers, num_startup


def run_one(ledger, curve, *, seconds=0.5):
    """Ask, report until told to stop, finish; return the number of epochs."""
    number, _ = ledger.ask()
    stops = (ledger.report(number, value, seconds) for value in curve)
    num_epochs = next((i for i, stop in enumerate(stops, start=1) if stop), len(curve))
    ledger.finish(number)
    return num_epochs


def states(ledger):
    return [trial.state.name for trial in ledger.trials]


def test_a_complete_trial_has_the_value_of_its_best_epoch(open_ledger):
    with open_ledger(1) as ledger:
        assert run_one(ledger, [0.1, 0.5, 0.3, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2]) == 9
        (trial,) = ledger.trials
        assert trial.state == TrialState.COMPLETE and trial.value == 0.5
        assert trial.intermediate_values == dict(
            enumerate([0.1, 0.5, 0.3, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2], start=1)
        )
        assert trial.user_attrs[SECONDS] == 4.5
        assert trial.user_attrs[SETTINGS] == {"train.x": trial.params["x"]}
        assert ledger.ask() is None


def rung_decision(value, values, factor):
    """The rule of asynchronous successive halving, written anew: is ``value`` in the top share?

    ``values`` are those of all that got to the rung, this one's the last; the latest count.
    """
    values = values[-4 * factor :]
    kept = max(1, len(values) // factor)
    return value >= sorted(values, reverse=True)[kept - 1]


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_a_trial_stops_where_asynchronous_successive_halving_says_so(open_ledger, factor):
    rng = np.random.default_rng(factor)
    curves = rng.random((60, 16)).cumsum(axis=1)
    rungs = [2 * factor**i for i in range(5)]
    seen: dict[int, list[float]] = {rung: [] for rung in rungs}
    with open_ledger(60, epochs=16, halving=Halving(16, 2, factor)) as ledger:
        for curve in curves:
            expected = 16
            for rung in (r for r in rungs if r < 16):
                seen[rung].append(curve[rung - 1])
                if not rung_decision(curve[rung - 1], seen[rung], factor):
                    expected = rung
                    break
            assert run_one(ledger, curve.tolist()) == expected
        assert {"COMPLETE", "PRUNED"} == set(states(ledger))


def test_better_and_better_trials_do_not_all_go_on(open_ledger):
    """As a sampler that learns suggests them: the share that goes on stays what it was."""
    rng = np.random.default_rng(0)
    passed = []
    with open_ledger(80, epochs=3, halving=Halving(3, 2, 4)) as ledger:
        for number in range(80):
            start = rng.random() + (number >= 40)  # from there on all are better than those before
            passed.append(run_one(ledger, [start, start, start]) == 3)
    assert sum(passed[50:]) / 30 == pytest.approx(0.25, abs=0.12)


def test_without_halving_every_trial_has_all_its_epochs(open_ledger):
    with open_ledger(5, halving=None) as ledger:
        assert [run_one(ledger, [1.0 / (i + 1)] * 9) for i in range(5)] == [9] * 5
        assert set(states(ledger)) == {"COMPLETE"}


def test_a_failed_trial_is_recorded_and_counts(open_ledger):
    with open_ledger(2, halving=None) as ledger:
        number, _ = ledger.ask()
        ledger.report(number, 0.5, 1.0)
        ledger.fail(number, "out of memory")
        run_one(ledger, [0.1] * 9)
        assert states(ledger) == ["FAIL", "COMPLETE"]
        assert ledger.trials[0].user_attrs[REASON] == "out of memory"
        assert INTERRUPTED not in ledger.trials[0].user_attrs
        assert ledger.ask() is None


def test_a_suggestion_that_is_no_recipe_fails_and_the_next_is_asked_for(open_ledger):
    calls = itertools.count()

    def odd_ones_are_wrong(trial):
        trial.suggest_float("x", 0, 1)
        if next(calls) % 2:
            raise UserError("hop exceeds window")
        return {}

    with open_ledger(4, suggest=odd_ones_are_wrong) as ledger:
        numbers = []
        while (asked := ledger.ask()) is not None:
            numbers.append(asked[0])
            ledger.finish(asked[0])
        assert numbers == [0, 2]
        assert [t.user_attrs.get(REASON) for t in ledger.trials] == [
            None,
            "hop exceeds window",
            None,
            "hop exceeds window",
        ]


def test_a_driver_that_ends_leaves_nothing_running_and_its_settings_are_tried_again(open_ledger):
    with open_ledger(4) as ledger:
        run_one(ledger, [0.1] * 9)
        left = [ledger.ask()[0], ledger.ask()[0]]
        ledger.report(left[0], 0.7, 1.0)
        params = [ledger.trials[number].params for number in left]
    with open_ledger(4) as ledger:
        assert states(ledger) == ["COMPLETE", "FAIL", "FAIL"]
        assert ledger.num_counted == 1
        while (asked := ledger.ask()) is not None:
            ledger.finish(asked[0])
        assert ledger.num_counted == 4 and len(ledger.trials) == 6
        assert [trial.params for trial in ledger.trials[3:5]] == params
        assert [INTERRUPTED in trial.user_attrs for trial in ledger.trials] == [
            *(False, True, True),
            *(False, False, False),
        ]


@pytest.mark.parametrize("num_kills", [1, 5])
def test_the_number_is_exact_however_often_the_driver_ends(open_ledger, num_kills):
    """Drivers end after any number of steps, between any two of them."""
    rng = np.random.default_rng(num_kills)
    for kill in range(num_kills + 1):
        with open_ledger(8) as ledger:
            running: list[int] = []
            steps = 10_000 if kill == num_kills else int(rng.integers(1, 25))
            for _ in range(steps):
                if len(running) < 2 and (asked := ledger.ask()) is not None:
                    running.append(asked[0])
                elif not running:
                    break
                else:
                    number = running[int(rng.integers(len(running)))]
                    done = len(ledger.trials[number].intermediate_values) >= 8
                    if ledger.report(number, float(rng.random()), 0.1) or done:
                        ledger.finish(number)
                        running.remove(number)
            found = ledger.trials
    assert not running
    assert sum(INTERRUPTED not in t.user_attrs for t in found) == 8
    assert {t.state.name for t in found} <= {"COMPLETE", "PRUNED", "FAIL"}


def test_more_trials_later_go_on_with_the_same_study(open_ledger):
    with open_ledger(2, halving=None) as ledger:
        for value in (0.9, 0.2):
            run_one(ledger, [value] * 9)
        first = [trial.params for trial in ledger.trials]
    with open_ledger(2, halving=None) as ledger:
        assert ledger.ask() is None
    with open_ledger(4, halving=None) as ledger:
        for value in (0.3, 0.4):
            run_one(ledger, [value] * 9)
        assert [trial.params for trial in ledger.trials[:2]] == first
        assert [trial.params for trial in ledger.trials[2:]] != first, "drawn anew, not again"
        assert len({trial.params["x"] for trial in ledger.trials}) == 4


def test_one_seed_gives_one_search(open_ledger, tmp_path):
    """Two studies of one seed suggest the same, one of another seed does not."""
    found = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / "study.journal").rename(tmp_path / name) if found else None
        with open_ledger(14, seed=seed, max_concurrent=1, halving=None) as ledger:
            for _ in range(14):
                number, settings = ledger.ask()
                for epoch in range(9):
                    ledger.report(number, -((settings["train.x"] - 0.5) ** 2) - epoch, 0.1)
                ledger.finish(number)
            found.append([trial.params for trial in ledger.trials])
    assert found[0] == found[1] != found[2]


def test_a_value_that_is_no_number_stops_its_trial(open_ledger):
    with open_ledger(1) as ledger:
        assert run_one(ledger, [math.nan] * 9) == 1
        assert states(ledger) == ["PRUNED"]


@pytest.mark.parametrize(
    ("num_trials", "num_random"), [(1, 1), (2, 1), (6, 2), (8, 2), (12, 4), (30, 10), (200, 10)]
)
def test_chance_draws_a_third_of_the_trials_and_at_most_ten(num_trials, num_random):
    assert num_startup(num_trials) == num_random


def ask_and_finish(ledger, num, value=lambda number: number % 3):
    """Ask for trials in turn; return who drew each, as it is noted and whether it was TPE."""
    drawn = []
    for _ in range(num):
        number, _ = ledger.ask()
        is_tpe = isinstance(ledger.study.sampler, optuna.samplers.TPESampler)
        drawn.append((ledger.trials[number].user_attrs[SAMPLER], is_tpe))
        for _ in range(9):
            ledger.report(number, value(number), 0.1)
        ledger.finish(number)
    return drawn


@pytest.mark.parametrize("max_concurrent", [1, 2])
def test_tpe_draws_after_the_start_up_and_every_trial_says_who_drew_it(open_ledger, max_concurrent):
    with open_ledger(6, max_concurrent=max_concurrent, halving=None) as ledger:
        drawn = ask_and_finish(ledger, 6)
        tpe = ledger.study.sampler
    assert drawn == [("random", False)] * 2 + [("tpe", True)] * 4
    assert (tpe._multivariate, tpe._group) == (True, True)
    assert tpe._constant_liar == (max_concurrent > 1)


def test_what_tpe_draws_depends_on_what_it_saw(open_ledger):
    """The trials after the start-up follow the values of the first; those of chance do not."""
    found = []
    for sign in (1, -1):
        with open_ledger(12, max_concurrent=1, halving=None, seed=sign + 2) as ledger:
            ledger._samplers = make_samplers(7, num_before=0, liar=False)
            ask_and_finish(ledger, 12, lambda number, sign=sign: sign * number)
            found.append([t.params["x"] for t in ledger.trials[-12:]])
        ledger.study._storage.delete_study(ledger.study._study_id)
    assert found[0][:4] == found[1][:4] and found[0][4:] != found[1][4:]


def test_trials_without_a_value_are_nothing_to_start_from(open_ledger):
    with open_ledger(9, max_concurrent=1, halving=None) as ledger:
        for _ in range(3):
            ledger.fail(ledger.ask()[0], "no memory")
        drawn = [name for name, _ in ask_and_finish(ledger, 6)]
    assert drawn == ["random"] * 3 + ["tpe"] * 3


def test_random_settings_are_random_to_the_end(open_ledger):
    with open_ledger(6, sampler="random", halving=None) as ledger:
        assert {name for name, _ in ask_and_finish(ledger, 6)} == {"random"}


def test_settings_of_an_interrupted_trial_are_drawn_by_nobody(open_ledger):
    with open_ledger(4, halving=None) as ledger:
        ledger.ask()
    with open_ledger(4, halving=None) as ledger:
        assert [name for name, _ in ask_and_finish(ledger, 2)] == ["again", "tpe"]


def test_settings_are_queued_once_whenever_the_driver_ends(open_ledger, monkeypatch):
    with open_ledger(3) as ledger:
        ledger.ask()
        (lost,) = (trial.params for trial in ledger.trials)

    def ends(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "_note", ends)  # after the settings are queued
        with pytest.raises(KeyboardInterrupt), open_ledger(3):
            pass
    with open_ledger(3) as ledger:
        while ledger.ask() is not None:
            pass
        tried = [t.params for t in ledger.trials if INTERRUPTED not in t.user_attrs]
    assert len(tried) == 3
    assert tried.count(lost) == 1


def test_queued_settings_are_tried_again_when_the_driver_ends_before_they_are(open_ledger):
    with open_ledger(2) as ledger:
        ledger.ask()
        (lost,) = (trial.params for trial in ledger.trials)
    with open_ledger(2) as ledger:
        ledger.study.ask()  # the queued one; the driver ends before its settings are noted
    with open_ledger(2) as ledger:
        ledger.ask()
        assert ledger.trials[-1].params == lost
