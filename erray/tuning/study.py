"""A finished search as plain data: every trial, the best one, which parameters mattered."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from erray.errors import UserError
from erray.tuning.ledger import (
    COMPLETE,
    FAILED,
    INTERRUPTED,
    PRUNED,
    REASON,
    SAMPLER,
    SECONDS,
    SETTINGS,
    TIMES,
    Ledger,
)

MIN_FOR_IMPORTANCE = 6
"""Complete trials below which no importance is computed: fewer say nothing."""


@dataclass(frozen=True)
class Study:
    """Every trial of a search as plain data, and the settings of the best.

    Attributes:
        name: of the study in its storage.
        trials: ``number``, ``state`` (``complete``, ``pruned``, ``failed`` or ``interrupted``),
            ``value`` (of the best epoch; None without one), ``epochs``, ``params`` (what was
            suggested), ``settings`` (recipe keys; None where they were no recipe), ``curve``,
            ``seconds`` of training, ``times_s`` when each epoch ended (None of an interrupted
            one), ``reason`` of an end that was none of the first two, ``sampler`` that drew it
            (``random``, ``tpe``, or ``again`` after an interruption).
        best: number of the best complete trial; of equal ones the first.
        importance: see :func:`importance`.
    """

    name: str
    metric: str
    trials: list[dict[str, Any]]
    best: int
    importance: dict[str, Any]

    @property
    def best_settings(self) -> dict[str, Any]:
        """Recipe keys and values of the best trial, of a trial's length."""
        return dict(self.trials[self.best]["settings"])

    @property
    def counts(self) -> dict[str, int]:
        """State to number of trials."""
        states = [trial["state"] for trial in self.trials]
        return {state: states.count(state) for state in (COMPLETE, PRUNED, FAILED, INTERRUPTED)}


def read_study(ledger: Ledger, metric: str, *, seed: int) -> Study:
    """Read the study of a search that has ended.

    Raises:
        UserError: no trial is complete.
    """
    found = ledger.trials
    trials = [_plain(trial) for trial in found]
    complete = [trial for trial in trials if trial["state"] == COMPLETE]
    if not complete:
        reasons = [t["reason"] for t in trials if t["state"] == FAILED]
        raise UserError(
            f"none of {len(trials)} trials is complete, {len(reasons)} failed; first reason: "
            f"{reasons[0] if reasons else 'none'}"
        )
    best = max(complete, key=lambda trial: (trial["value"], -trial["number"]))
    assert [trial["number"] for trial in trials] == list(range(len(trials))), "numbers are places"
    return Study(
        name=ledger.study.study_name,
        metric=metric,
        trials=trials,
        best=best["number"],
        importance=importance(found, seed=seed),
    )


def importance(trials: Sequence[FrozenTrial], *, seed: int) -> dict[str, Any]:
    """Share of the variance of the value that each parameter explains, by fANOVA.

    Only complete trials count (Hutter et al., ICML 2014): others have seen fewer epochs.

    Returns:
        ``trials`` (complete ones); ``params``, parameter to share, of those that all of them have;
        ``branches``, parameter to ``{"share", "trials"}``, of those that only some have, computed
        from these with the common ones; ``left_out``, parameter to the reason why it has none.
    """
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    names = sorted({name for trial in complete for name in trial.params})
    having = {name: [trial for trial in complete if name in trial.params] for name in names}
    common = [name for name in names if len(having[name]) == len(complete)]
    shares: dict[str, float] = {}
    branches: dict[str, dict[str, Any]] = {}
    left_out: dict[str, str] = {}
    for name in names:
        reason = _no_importance(name, having[name])
        if reason is not None:
            left_out[name] = reason
        elif name not in common:
            found = _shares(having[name], [*common, name], seed)
            branches[name] = {"share": found[name], "trials": len(having[name])}
    wanted = [name for name in common if name not in left_out]
    if wanted:
        shares = _shares(complete, wanted, seed)
    return {
        "trials": len(complete),
        "params": shares,
        "branches": branches,
        "left_out": left_out,
    }


def _no_importance(name: str, trials: Sequence[FrozenTrial]) -> str | None:
    if len(trials) < MIN_FOR_IMPORTANCE:
        return f"{len(trials)} complete trials have it, fewer than {MIN_FOR_IMPORTANCE}"
    if len({str(trial.params[name]) for trial in trials}) == 1:
        return f"all {len(trials)} complete trials that have it have one value"
    if len({trial.value for trial in trials}) == 1:
        return f"all {len(trials)} complete trials that have it are equally good"
    return None


def _shares(trials: Sequence[FrozenTrial], names: list[str], seed: int) -> dict[str, float]:
    # seconds, and a space needs none of it
    from optuna.importance import (  # noqa: PLC0415
        FanovaImportanceEvaluator,
        get_param_importances,
    )

    study = optuna.create_study(direction="maximize")
    study.add_trials(trials)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        evaluator = FanovaImportanceEvaluator(seed=seed)
        found = get_param_importances(study, evaluator=evaluator, params=names, normalize=False)
    return {name: float(share) for name, share in found.items()}


def _plain(trial: FrozenTrial) -> dict[str, Any]:
    curve = [trial.intermediate_values[epoch] for epoch in sorted(trial.intermediate_values)]
    finite = [value for value in curve if math.isfinite(value)]
    states = {TrialState.COMPLETE: COMPLETE, TrialState.PRUNED: PRUNED, TrialState.FAIL: FAILED}
    noted = trial.user_attrs
    return {
        "number": trial.number,
        "state": INTERRUPTED if INTERRUPTED in noted else states[trial.state],
        "value": max(finite, default=None),
        "epochs": len(curve),
        "params": dict(trial.params),
        "settings": noted.get(SETTINGS),
        "curve": curve,
        "seconds": noted.get(SECONDS),
        "times_s": noted.get(TIMES),
        "reason": noted.get(REASON),
        "sampler": noted.get(SAMPLER),
    }
