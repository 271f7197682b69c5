"""Parts of a search space: what every model can be asked for, each as one call.

A branch asks for a choice and then for what that choice has alone (define-by-run), so that no trial
carries a parameter that it does not read. Parameters are named after recipe keys, or ``space.*``
where settings are made of them. What a part returns are these settings, and the neutral values of
what is not read: a recipe's own must not stay where another choice is tried.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optuna

from erray.config import Loss, Optimiser, Recipe
from erray.tuning.space import OWN

Settings = dict[str, Any]
"""Recipe keys to values."""

_OPTIMISER, _LOSS, _SCHEDULE = "train.optimiser", "train.loss", "train.schedule"


def windows(trial: optuna.Trial, recipe: Recipe) -> Settings:
    """Length of a training window, a third to four thirds of the recipe's, and its hop."""
    step = max(1, recipe.train.window // 3)
    window = trial.suggest_int("train.window", step, 4 * step, step=step)
    # as a share: its range does not depend on the window, so that trials can be compared
    share = trial.suggest_float(f"{OWN}hop_share", 0.5, 1.0)
    return {"train.hop": max(1, round(share * window))}


def optimiser(trial: optuna.Trial) -> Settings:
    """SGD, Adam or AdamW, each with a rate and momenta of its own."""
    name = trial.suggest_categorical(f"{_OPTIMISER}.name", ["sgd", "adam", "adamw"])
    # what the recipe says of another optimiser must not stay
    fields = Optimiser.model_fields
    unset = ("momentum", "dampening", "nesterov", "beta1", "beta2", "eps", "amsgrad")
    found = {f"{_OPTIMISER}.{key}": fields[key].default for key in unset}
    if name == "sgd":
        found[f"{_OPTIMISER}.lr"] = trial.suggest_float(f"{OWN}lr_sgd", 1e-3, 3e-1, log=True)
        momentum = trial.suggest_float(f"{_OPTIMISER}.momentum", 0.8, 0.98)
        nesterov = trial.suggest_categorical(f"{_OPTIMISER}.nesterov", [True, False])
        found |= {f"{_OPTIMISER}.momentum": momentum, f"{_OPTIMISER}.nesterov": nesterov}
    else:
        found[f"{_OPTIMISER}.lr"] = trial.suggest_float(f"{OWN}lr_{name}", 1e-4, 3e-2, log=True)
        for key, low, high in (("beta1", 0.8, 0.95), ("beta2", 0.98, 0.9995)):
            found[f"{_OPTIMISER}.{key}"] = trial.suggest_float(f"{_OPTIMISER}.{key}", low, high)
    trial.suggest_float(f"{_OPTIMISER}.weight_decay", 1e-6, 1e-1, log=True)
    return found


def loss(trial: optuna.Trial) -> Settings:
    """What the loss is of, how classes weigh, and the focal exponent where there is one."""
    fields = Loss.model_fields
    unset = ("clip_weight", "beta", "focal_gamma")
    found = {f"{_LOSS}.{key}": fields[key].default for key in unset}
    level = trial.suggest_categorical(f"{_LOSS}.level", ["frame", "clip", "both"])
    if level == "both":
        key = f"{_LOSS}.clip_weight"
        found[key] = trial.suggest_float(key, 0.1, 0.9)
    trial.suggest_float(f"{_LOSS}.label_smoothing", 0.0, 0.2)
    weights = trial.suggest_categorical(f"{_LOSS}.class_weights", ["none", "inverse", "effective"])
    if weights == "effective":
        key = f"{_LOSS}.beta"
        found[key] = trial.suggest_categorical(key, [0.9, 0.99, 0.999])
    if trial.suggest_categorical(f"{OWN}focal", [False, True]):
        key = f"{_LOSS}.focal_gamma"
        found[key] = trial.suggest_float(key, 0.5, 3.0)
    return found


def modality_dropout(trial: optuna.Trial) -> None:
    """Chance that a stream of a window is absent in training."""
    trial.suggest_float("train.modality_dropout", 0.0, 0.5)


def schedule(trial: optuna.Trial, recipe: Recipe) -> Settings:
    """A constant rate or one of the six published schedules, with that one's parameters.

    Lengths are of the recipe's ``train.epochs``: in a search those of a trial
    (:mod:`erray.tuning.length`). A warm-up of the recipe takes its epochs from them.
    """
    name = trial.suggest_categorical(f"{_SCHEDULE}.name", ["constant", *_SCHEDULES])
    epochs = recipe.train.epochs - (0 if name == "mywarmup" else recipe.train.warmup_epochs)
    found = {} if name == "constant" else _SCHEDULES[name](trial, max(1, epochs))
    return found | ({"train.warmup_epochs": 0} if name == "mywarmup" else {})


def tcn(trial: optuna.Trial, recipe: Recipe, *, max_width: int = 128) -> Settings:
    """Kernel, width and depth of the encoder that every stream has, the same for all streams."""
    trial.suggest_int("model.options.kernel_size", 3, 7, step=2)
    widths = [width for width in (16, 32, 64, 128, 256) if width <= max_width]
    width = trial.suggest_categorical(f"{OWN}tcn_width", widths)
    depth = trial.suggest_int(f"{OWN}tcn_depth", 1, 4)
    return {"model.options.channels": {name: [width] * depth for name in recipe.streams}}


def dropout(trial: optuna.Trial) -> None:
    """Dropout inside the model."""
    trial.suggest_float("model.options.dropout", 0.0, 0.5)


def heads(trial: optuna.Trial, key: str, widths: list[int]) -> None:
    """Heads of the attention, and its width, the option ``key``: multiples of 16 fit them all."""
    assert all(width % 16 == 0 for width in widths), widths
    trial.suggest_categorical("model.options.num_heads", [1, 2, 4, 8])
    trial.suggest_categorical(f"model.options.{key}", widths)


def training(trial: optuna.Trial, recipe: Recipe) -> Settings:
    """All that is of no particular model: windows, loss, optimiser, schedule, absent streams."""
    modality_dropout(trial)
    return windows(trial, recipe) | loss(trial) | optimiser(trial) | schedule(trial, recipe)


def _step(trial: optuna.Trial, epochs: int) -> Settings:
    return _steps(trial, epochs)


def _mystep(trial: optuna.Trial, epochs: int) -> Settings:
    _floor(trial)
    return _steps(trial, epochs)


def _steps(trial: optuna.Trial, epochs: int) -> Settings:
    trial.suggest_float(f"{_SCHEDULE}.options.gamma", 0.1, 0.9)
    trial.suggest_int(f"{_SCHEDULE}.options.step_size", max(1, epochs // 10), max(1, epochs // 2))
    return {}


def _multistep(trial: optuna.Trial, epochs: int) -> Settings:
    trial.suggest_float(f"{_SCHEDULE}.options.gamma", 0.1, 0.9)
    first = trial.suggest_float(f"{OWN}first_milestone", 0.2, 0.6)
    second = trial.suggest_float(f"{OWN}second_milestone", 0.6, 0.9)
    milestones = [max(1, round(first * epochs)), max(1, round(second * epochs))]
    return {f"{_SCHEDULE}.options.milestones": milestones}


def _cosine(trial: optuna.Trial, epochs: int) -> Settings:
    _floor(trial)
    # nearly all of the epochs: after t_max the rate would rise again
    trial.suggest_int(f"{_SCHEDULE}.options.t_max", epochs - epochs // 4, epochs)
    return {}


def _mycosine(trial: optuna.Trial, epochs: int) -> Settings:
    _floor(trial)
    trial.suggest_float(f"{_SCHEDULE}.options.coef", 0.25, 1.0)
    trial.suggest_int(f"{_SCHEDULE}.options.max_epochs", epochs - epochs // 4, epochs)
    return {}


def _mywarmup(trial: optuna.Trial, epochs: int) -> Settings:
    _floor(trial)
    trial.suggest_int(f"{_SCHEDULE}.options.min_epochs", 1, max(1, epochs // 4))
    trial.suggest_float(f"{_SCHEDULE}.options.factor", 0.2, 0.8)
    trial.suggest_int(f"{_SCHEDULE}.options.patience", 1, max(1, epochs // 4))
    return {}


def _floor(trial: optuna.Trial) -> None:
    trial.suggest_float(f"{_SCHEDULE}.options.min_lr", 1e-7, 1e-5, log=True)


_SCHEDULES: dict[str, Callable[[optuna.Trial, int], Settings]] = {
    "step": _step,
    "mystep": _mystep,
    "multistep": _multistep,
    "cosine": _cosine,
    "mycosine": _mycosine,
    "mywarmup": _mywarmup,
}
