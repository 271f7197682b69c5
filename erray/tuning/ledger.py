"""Every trial of a study, from its suggestion to its end, written to the study's storage.

A trial is asked for, reports an epoch at a time, and ends in one of four ways: complete (all its
epochs), pruned (stopped at a rung of successive halving), failed, or interrupted (its search's
driver ended first). Interrupted trials do not count and their settings are tried again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from erray.errors import UserError
from erray.tuning.events import RUNNING, OnTrial, TrialNews, tell_nobody
from erray.tuning.halving import Halving, RungPruner
from erray.tuning.sampling import AGAIN, RANDOM, SamplerName, make_samplers, num_startup

COMPLETE, PRUNED, FAILED = "complete", "pruned", "failed"
"""How a trial ends that is not interrupted."""

SETTINGS, SECONDS, REASON, INTERRUPTED = "settings", "seconds", "reason", "interrupted"
SAMPLER, TIMES = "sampler", "times_s"
"""Names of a trial's user attributes."""

_QUEUED = "fixed_params"
"""Optuna's own attribute of a trial that was queued: its parameters."""

Suggest = Callable[[optuna.Trial], dict[str, Any]]
"""Asks a trial for its parameters; returns recipe keys and values.

Raises UserError where these are no recipe: that trial fails, the search goes on.
"""


@dataclass
class Running:
    """A trial between its suggestion and its end: every epoch's value, and when it was told."""

    trial: optuna.Trial
    curve: list[float] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)
    seconds: float = 0.0


class Ledger:
    """The trials of ``study``; trials that a driver left behind are settled at once.

    Args:
        halving: None: every trial has all its epochs.
        sampler: who draws settings; with ``tpe``, chance draws the first ones.
        max_concurrent: trials at a time; with several, the sampler takes running ones for bad.
        on_trial: told of every epoch and of every end of a trial.
    """

    def __init__(
        self,
        study: optuna.Study,
        suggest: Suggest,
        *,
        num_trials: int,
        epochs: int,
        halving: Halving | None,
        max_concurrent: int,
        sampler: SamplerName,
        seed: int,
        on_trial: OnTrial = tell_nobody,
    ) -> None:
        self.study, self.num_trials, self.epochs = study, num_trials, epochs
        self._suggest, self._on_trial = suggest, on_trial
        self._running: dict[int, Running] = {}
        study.pruner = optuna.pruners.NopPruner() if halving is None else RungPruner(halving)
        self._settle_stale()
        self._sampler = sampler
        self._samplers = make_samplers(seed, num_before=len(self.trials), liar=max_concurrent > 1)
        self.num_ended = self.num_counted
        """Trials that have ended and count; kept without the storage."""

    @property
    def trials(self) -> list[FrozenTrial]:
        """Every trial that was ever begun, by its number; interrupted ones too."""
        found = self.study.get_trials(deepcopy=False)
        return [trial for trial in found if trial.state != TrialState.WAITING]

    @property
    def num_counted(self) -> int:
        """Trials that count against ``num_trials``: all but the interrupted ones."""
        return sum(INTERRUPTED not in trial.user_attrs for trial in self.trials)

    def ask(self) -> tuple[int, dict[str, Any]] | None:
        """Begin a trial: its number and settings; None when there are enough.

        A suggestion that is no recipe is a failed trial, and another one is begun.
        """
        while self.num_counted < self.num_trials:
            queued = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
            drawn_by = self._next_sampler()
            self.study.sampler = self._samplers[drawn_by]
            trial = self.study.ask()
            trial.set_user_attr(SAMPLER, AGAIN if queued else drawn_by)
            self._running[trial.number] = Running(trial)
            try:
                settings = self._suggest(trial)
            except UserError as error:
                self.fail(trial.number, str(error))
                continue
            trial.set_user_attr(SETTINGS, settings)
            return trial.number, settings
        return None

    def report(self, number: int, value: float, seconds: float) -> bool:
        """Note one more epoch's value; return whether the trial should stop here.

        Args:
            seconds: that the epoch took to train and validate.
        """
        running = self._running[number]
        running.curve.append(value)
        running.times_s.append(round(time.time(), 3))
        running.seconds += seconds
        epoch = len(running.curve)
        running.trial.report(value, epoch)
        self._tell(running, RUNNING)
        # a trial with all its epochs is complete, whatever a rung there would say
        return epoch < self.epochs and running.trial.should_prune()

    def finish(self, number: int) -> None:
        """End a trial: complete with the best epoch's value, or pruned if epochs are missing."""
        running = self._end(number)
        if len(running.curve) < self.epochs:
            self.study.tell(running.trial, state=TrialState.PRUNED)
            self._tell(running, PRUNED)
        else:
            self.study.tell(running.trial, max(running.curve))
            self._tell(running, COMPLETE)

    def fail(self, number: int, reason: str) -> None:
        """End a trial as failed."""
        running = self._end(number)
        running.trial.set_user_attr(REASON, reason)
        self.study.tell(running.trial, state=TrialState.FAIL)
        self._tell(running, FAILED, reason)

    def _tell(self, running: Running, state: str, reason: str | None = None) -> None:
        found = [trial for trial in self.trials if INTERRUPTED not in trial.user_attrs]
        complete = [trial for trial in found if trial.state == TrialState.COMPLETE]
        best = max(complete, key=lambda trial: (trial.value, -trial.number), default=None)
        self._on_trial(
            TrialNews(
                number=running.trial.number,
                state=state,
                epochs=len(running.curve),
                num_epochs=self.epochs,
                value=max(running.curve, default=None),
                seconds=running.seconds,
                num_ended=sum(trial.state.is_finished() for trial in found),
                num_trials=self.num_trials,
                best=None if best is None else best.value,
                best_number=None if best is None else best.number,
                reason=reason,
            )
        )

    def _next_sampler(self) -> SamplerName:
        """Chance, until as many trials as TPE starts from have a value or will have one."""
        with_value = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
        num = len(self.study.get_trials(deepcopy=False, states=with_value))
        return RANDOM if num < num_startup(self.num_trials) else self._sampler

    def _end(self, number: int) -> Running:
        running = self._running.pop(number)
        self.num_ended += 1
        running.trial.set_user_attr(SECONDS, round(running.seconds, 3))
        running.trial.set_user_attr(TIMES, running.times_s)
        return running

    def _settle_stale(self) -> None:
        """Fail what an earlier driver left running; its settings are the next to be tried."""
        waiting = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        queued = [trial.system_attrs.get(_QUEUED) for trial in waiting]
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if INTERRUPTED not in trial.user_attrs:  # else a driver ended within these lines
                whole = SETTINGS in trial.user_attrs
                params = trial.params if whole else trial.system_attrs.get(_QUEUED)
                if params and params not in queued:
                    self.study.enqueue_trial(params)
                self._note(trial, REASON, "the search's driver ended before the trial")
                self._note(trial, INTERRUPTED, True)
            self.study.tell(trial.number, state=TrialState.FAIL)

    def _note(self, trial: FrozenTrial, name: str, value: Any) -> None:
        # of a trial that this process did not begin, which Optuna has no public way to write to
        self.study._storage.set_trial_user_attr(trial._trial_id, name, value)
