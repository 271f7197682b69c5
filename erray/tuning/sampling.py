"""Who draws a trial's settings: chance, or Optuna's TPE once it has something to learn from."""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler

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
            TPE: TPESampler(
                seed=int(tpe), multivariate=True, group=True, constant_liar=liar, n_startup_trials=0
            ),
            RANDOM: RandomSampler(seed=int(random)),
        }
