"""Asynchronous successive halving (Li et al., MLSys 2020), against the latest trials only.

A sampler that learns suggests ever better settings. Against all trials before it, most of the later
ones would be among the best and go on, and little would be saved: a trial is compared with
the latest that got to its rung.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import optuna
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial

WINDOW_FACTORS = 4
"""A trial is compared with the latest ``WINDOW_FACTORS * factor`` at its rung, itself included."""


@dataclass(frozen=True)
class Halving:
    """Rungs at ``grace_epochs`` times a power of ``factor``, below ``epochs``.

    A trial goes on past a rung while its value there is among the best of 1 / ``factor`` of the
    latest ``4 * factor`` that got there; the first ones go on if no other was better.
    """

    epochs: int
    grace_epochs: int
    factor: int

    @property
    def rungs(self) -> list[int]:
        """Epochs after which a trial may stop, counted from 1."""
        found, rung = [], self.grace_epochs
        while rung < self.epochs:
            found.append(rung)
            rung *= self.factor
        return found


class RungPruner(BasePruner):
    """Says whether a trial stops; all that it knows is in the study."""

    def __init__(self, halving: Halving) -> None:
        self._halving, self._rungs = halving, set(halving.rungs)

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether ``trial`` stops at its last epoch; where its value is no number it does."""
        epoch = trial.last_step
        assert epoch is not None, "asked after an epoch"
        value = trial.intermediate_values[epoch]
        if math.isnan(value):
            return True
        if epoch not in self._rungs:
            return False
        others = [
            other.intermediate_values[epoch]
            for other in study.get_trials(deepcopy=False)
            if other.number != trial.number and epoch in other.intermediate_values
        ]
        factor = self._halving.factor
        latest = [*(v for v in others if not math.isnan(v)), value][-WINDOW_FACTORS * factor :]
        num_kept = max(1, len(latest) // factor)
        return value < sorted(latest, reverse=True)[num_kept - 1]
