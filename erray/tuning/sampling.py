"""Who draws a trial's settings: chance, or Optuna's TPE once it has something to learn from."""

from __future__ import annotations

import copy
import math
import warnings
from typing import Any, Literal

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

RANDOM: Literal["random"] = "random"
TPE: Literal["tpe"] = "tpe"
AGAIN = "again"
"""Settings of an interrupted trial, which nobody drew anew."""

SamplerName = Literal["tpe", "random"]
_MAX_STARTUP = 10


def num_startup(num_trials: int) -> int:
    """Trials that chance draws before TPE does: a third of ``num_trials``, from 1 to 10."""
    return min(_MAX_STARTUP, max(1, num_trials // 3))


def make_samplers(seed: int, *, num_before: int, liar: bool) -> dict[SamplerName, BaseSampler]:
    """Both samplers, seeded by the trials that are there too: a search that goes on draws anew.

    Args:
        liar: TPE takes running trials for bad ones, so that several at a time differ.
    """
    tpe, random = np.random.SeedSequence([seed, num_before]).generate_state(2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return {
            # what comes before it is for the ledger to say
            TPE: _StoppedCount(
                seed=int(tpe), multivariate=True, group=True, constant_liar=liar, n_startup_trials=0
            ),
            RANDOM: RandomSampler(seed=int(random)),
        }


class _StoppedCount(TPESampler):
    """TPE that ranks a stopped trial by the best value that it reached, as a complete one.

    Optuna's own takes every complete trial for better than every stopped one. With halving that is
    wrong: the first trials of a study have all their epochs however poor they are.
    """

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return super().infer_relative_search_space(_seen(study), trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return super().sample_relative(_seen(study), trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return super().sample_independent(_seen(study), trial, param_name, param_distribution)


def _seen(study: optuna.Study) -> optuna.Study:
    """The study with its stopped trials as complete ones, for TPE to read."""
    seen = copy.copy(study)
    read = study._get_trials  # where TPE reads trials; Optuna has no public way to change them
    seen._get_trials = lambda *args, **options: [  # type: ignore[method-assign]
        _as_complete(trial) for trial in read(*args, **options)
    ]
    return seen


def _as_complete(trial: FrozenTrial) -> FrozenTrial:
    values = [v for v in trial.intermediate_values.values() if math.isfinite(v)]
    if trial.state != TrialState.PRUNED or not values:
        return trial
    found = copy.copy(trial)
    found.state, found.value = TrialState.COMPLETE, max(values)
    return found
