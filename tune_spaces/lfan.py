"""Search space of LFAN: windows, heads, learning rate and its schedule.

A space is a function of an Optuna trial whose parameters are named after recipe keys; a branch may
ask for parameters that other branches do not have (define-by-run).
"""

from __future__ import annotations

import optuna


def space(trial: optuna.Trial) -> None:
    """Suggest a value for every searched key of the recipe."""
    window = trial.suggest_int("train.window", 25, 100, step=25)
    trial.suggest_int("train.hop", window // 2, window)
    trial.suggest_categorical("model.options.num_heads", [1, 2, 4])
    trial.suggest_float("train.optimiser.lr", 1e-3, 3e-2, log=True)
    schedule = trial.suggest_categorical(
        "train.schedule.name", ["constant", "mystep", "mycosine", "mywarmup"]
    )
    options = "train.schedule.options"
    if schedule == "mystep":
        trial.suggest_float(f"{options}.gamma", 0.3, 0.9)
        trial.suggest_int(f"{options}.step_size", 3, 15)
    elif schedule == "mycosine":
        trial.suggest_int(f"{options}.max_epochs", 10, 40)
    elif schedule == "mywarmup":
        trial.suggest_int(f"{options}.min_epochs", 1, 4)
        trial.suggest_float(f"{options}.factor", 0.3, 0.8)
