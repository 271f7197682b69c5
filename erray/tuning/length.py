"""How long trials and full trainings are, and how a schedule goes from one to the other.

A schedule counts epochs. Trials are short, and a schedule written for a full training would hardly
begin in one: in a trial it is shortened to the trial's length, and what the search found is
stretched to the length of a full training.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from erray.config import Recipe, with_settings
from erray.training.schedules import SCHEDULES, make_schedule

_WARM_UP, _SCHEDULE, _OPTIONS = "train.warmup_epochs", "train.schedule", "train.schedule.options"


def full_length(recipe: Recipe) -> int:
    """Epochs of a full training as schedules count them.

    ``train.patience`` where early stopping may end a training after that many: the rest of
    ``train.epochs`` is a limit that few trainings reach. Never fewer than a trial has, if
    ``train.epochs`` allows it.
    """
    return min(recipe.train.epochs, max(recipe.train.patience, recipe.tune.epochs))


def trial_recipe(recipe: Recipe) -> Recipe:
    """Return the recipe as trials train it: ``tune.epochs`` long, its own schedule in proportion.

    Raises:
        UserError: the recipe's schedule is unknown, or an option of it.
    """
    train, epochs = recipe.train, recipe.tune.epochs
    own = make_schedule(train.schedule.name, train.optimiser.lr, train.schedule.options)
    factor = epochs / full_length(recipe)
    settings: dict[str, Any] = {"train.epochs": epochs, "train.patience": epochs}
    settings[_WARM_UP] = _stretched(train.warmup_epochs, factor)
    for name in own.in_epochs:
        settings[f"{_OPTIONS}.{name}"] = _stretched(getattr(own, name), factor)
    return with_settings(recipe, settings)


def at_full_length(recipe: Recipe, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a trial's settings (dotted recipe keys) for a full training of ``recipe``.

    Epochs of the schedule and of the warm-up that are among them are stretched in proportion; what
    the recipe says itself is not among them and stays.
    """
    factor = full_length(recipe) / recipe.tune.epochs
    name = with_settings(trial_recipe(recipe), settings).train.schedule.name
    in_epochs = SCHEDULES[name].in_epochs

    def options(given: Mapping[str, Any]) -> dict[str, Any]:
        return {k: _stretched(v, factor) if k in in_epochs else v for k, v in given.items()}

    found = dict(settings)
    for key, value in settings.items():
        if key == _WARM_UP or key in {f"{_OPTIONS}.{option}" for option in in_epochs}:
            found[key] = _stretched(value, factor)
        elif key == _OPTIONS:
            found[key] = options(value)
        elif key == _SCHEDULE:
            found[key] = {**value, "options": options(value.get("options", {}))}
    return found


def _stretched(epochs: Any, factor: float) -> Any:
    """A number of epochs, or a list of them, times ``factor``; 0 means none and stays."""
    if isinstance(epochs, list | tuple):
        return [_stretched(each, factor) for each in epochs]
    return max(1, round(epochs * factor)) if epochs > 0 else epochs
