"""TPE learns from what stopped trials reached, too."""

from __future__ import annotations

import warnings

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.samplers import TPESampler
from optuna.trial import TrialState, create_trial

from erray.tuning.sampling import make_samplers


def halved_study() -> optuna.Study:
    """Poor trials below 0.3, complete as the first ones are; better ones above 0.7, stopped."""
    study = optuna.create_study(direction="maximize")
    for number in range(30):
        complete, place = number < 4, number / 100
        study.add_trial(
            create_trial(
                state=TrialState.COMPLETE if complete else TrialState.PRUNED,
                params={"x": place if number < 15 else 0.55 + place},
                distributions={"x": FloatDistribution(0, 1)},
                value=0.1 if complete else None,
                intermediate_values={1: 0.1 if number < 15 else 0.6, 2: 0.05},
            )
        )
    return study


def drawn(sampler: optuna.samplers.BaseSampler) -> list[float]:
    study = halved_study()
    study.sampler = sampler
    return [study.ask().suggest_float("x", 0, 1) for _ in range(20)]


@pytest.mark.parametrize("liar", [False, True])
def test_a_stopped_trial_is_ranked_by_the_best_value_that_it_reached(liar: bool) -> None:
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    ours = drawn(make_samplers(0, num_before=0, liar=liar)["tpe"])
    assert sum(x > 0.5 for x in ours) >= 15
    optunas = TPESampler(seed=0, multivariate=True, group=True, n_startup_trials=0)
    assert sum(x > 0.5 for x in drawn(optunas)) <= 5, "why ours is one of our own"


def test_the_study_itself_is_not_changed_by_it() -> None:
    study = halved_study()
    before = study.get_trials()
    study.sampler = make_samplers(0, num_before=0, liar=False)["tpe"]
    study.ask().suggest_float("x", 0, 1)
    assert study.get_trials()[:30] == before
