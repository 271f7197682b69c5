from __future__ import annotations

import math
from typing import Any

import pytest

from erray.report.curves import make_curves
from erray.report.study import StudyView, make_study


def trial(number: int, value: float | None, **params: Any) -> dict[str, Any]:
    curve = [] if value is None else [value / 2, value]
    state = "failed" if value is None else "complete"
    head = {"number": number, "state": state, "value": value, "epochs": len(curve)}
    return head | {"params": params, "curve": curve}


NOTHING: dict[str, Any] = {
    "importance": {"trials": 0, "params": {}, "branches": {}, "left_out": {}},
    "against_recipe": None,
}


@pytest.fixture
def view() -> StudyView:
    trials = [
        trial(0, 0.5, **{"train.lr": 1e-4, "x.opt.name": "sgd", "fixed": 3}),
        trial(1, 0.7, **{"train.lr": 1e-3, "x.opt.name": "adam", "fixed": 3, "sometimes": 1}),
        trial(2, None, **{"train.lr": 1e-2, "x.opt.name": "sgd", "fixed": 3}),
        trial(3, 0.6, **{"train.lr": 1e-2, "x.opt.name": "sgd", "fixed": 3}),
    ]
    found = make_study(NOTHING | {"metric": "val_weighted_f1", "trials": trials, "best": 1})
    assert found is not None
    return found


def test_history_marks_the_best_and_the_failed(view: StudyView) -> None:
    assert [dot.tone for dot in view.history.dots] == ["complete", "best", "failed", "complete"]
    heights = [dot.y for dot in view.history.dots]
    assert heights[1] == max(heights)
    best_so_far = view.history.lines[0].path
    assert best_so_far.count("L") == 2  # three trials have a value
    assert best_so_far.split("L")[1].split()[1] == best_so_far.split("L")[2].split()[1]


def test_axes_are_the_settings_that_vary_then_the_metric(view: StudyView) -> None:
    assert [axis.name for axis in view.axes] == ["lr", "opt", "Val weighted F1"]
    assert [axis.x for axis in view.axes] == [0, 50, 100]
    assert [tick.text for tick in view.axes[1].ticks] == ["adam", "sgd"]
    threads = {thread.name: thread for thread in view.threads}
    assert view.threads[-1].tone == "best"
    assert threads["trial 1"].path.startswith("M0 50L50 ")  # lr 1e-3, by the logarithm
    assert threads["trial 1"].ends == (100, 100)


def test_the_table_is_ranked_with_failures_last(view: StudyView) -> None:
    assert [row["number"] for row in view.rows] == [1, 3, 0, 2]
    assert view.rows[0]["params"] == {"lr": "0.001", "opt": "adam", "fixed": "3", "sometimes": "1"}


def test_the_most_important_setting_comes_first_under_its_short_name() -> None:
    trials = [
        trial(n, 0.5 + n / 10, **{"a.lr": n, "b.opt.name": "sgd", "b.m": n}) for n in range(3)
    ]
    importance = {
        "trials": 3,
        "params": {"a.lr": 0.2, "b.opt.name": 0.1},
        "branches": {"b.m": {"share": 0.4, "trials": 2}},
        "left_out": {"c": "too few"},
    }
    found = make_study(
        {"metric": "m", "trials": trials, "best": 2, "importance": importance}
        | {"against_recipe": {"seeds": [0]}}
    )
    assert found is not None
    told = [(factor.name, factor.share, factor.trials) for factor in found.factors]
    assert told == [("m", 0.4, 2), ("lr", 0.2, None), ("opt", 0.1, None)]
    assert found.num_left_out == 1
    assert found.against == {"seeds": [0]}


def test_interrupted_trials_are_counted_apart() -> None:
    lost = trial(1, None) | {"state": "interrupted", "reason": "the driver ended"}
    found = make_study(NOTHING | {"metric": "m", "trials": [trial(0, 0.4), lost], "best": 0})
    assert found is not None
    assert found.counts == {"complete": 1, "interrupted": 1}
    assert [dot.tone for dot in found.history.dots] == ["best", "interrupted"]


def test_the_page_says_who_drew_the_trials() -> None:
    drawn = ["random", "random", "tpe", "tpe", "tpe", "again"]
    trials = [trial(i, 0.5 + i / 10) | {"sampler": name} for i, name in enumerate(drawn)]
    found = make_study(NOTHING | {"metric": "m", "trials": trials, "best": 5})
    assert found is not None
    assert found.drawn == ("2 drawn at random, 3 drawn by TPE, 1 tried again after an interruption")
    chance = [trial(0, 0.5) | {"sampler": "random"}]
    found = make_study(NOTHING | {"metric": "m", "trials": chance, "best": 0})
    assert found is not None and found.drawn == "1 drawn at random"


def test_a_study_of_before_does_not_say_who_drew_its_trials(view: StudyView) -> None:
    assert view.drawn == ""


def test_no_study_no_section() -> None:
    assert make_study(None) is None
    assert make_study(NOTHING | {"metric": "m", "trials": [trial(0, None)], "best": None}) is None


def test_a_trial_whose_curve_diverged_has_no_line() -> None:
    diverged = trial(1, 0.2) | {"curve": [math.nan, math.nan]}
    found = make_study(NOTHING | {"metric": "m", "trials": [trial(0, 0.4), diverged], "best": 0})
    assert found is not None and found.curves is not None
    assert [line.name for line in found.curves.lines] == ["trial 0"]


def history(best: int, values: list[float]) -> dict[str, Any]:
    rows = [
        {"epoch": i, "train_loss": math.nan if i == 1 else 2.0 - i, "lr": 0.1, "val_weighted_f1": v}
        for i, v in enumerate(values)
    ]
    return {"epochs": rows, "best_epoch": best}


def test_curves_mark_the_kept_epoch_and_skip_what_is_not_a_number() -> None:
    curves = make_curves(
        {"fusion": history(2, [0.1, 0.2, 0.4]), "hog": history(0, [0.3])}, main="fusion"
    )
    assert curves is not None
    loss, f1, _ = curves.charts
    assert f1.rule_x is not None and f1.rule_x.at == 100
    assert curves.best_epoch == 2
    assert [line.name for line in f1.lines] == ["hog", "fusion"]
    assert {line.name: line.path.count("L") for line in loss.lines} == {"fusion": 1, "hog": 1}


def test_no_history_no_section() -> None:
    assert make_curves({}, main="fusion") is None
    assert make_curves({"fusion": {"epochs": [], "best_epoch": 0}}, main="fusion") is None
