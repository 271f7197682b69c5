"""Search space of MT: TCNs, attention, training.

A space is a function of an Optuna trial, and of the recipe where it asks for it; docs/search.md
says how to write one.
"""

from __future__ import annotations

from typing import Any

import optuna

from erray.config import Recipe
from erray.tuning import branches


def space(trial: optuna.Trial, recipe: Recipe) -> dict[str, Any]:
    """Suggest a value for every searched key; return what follows from them."""
    settings = branches.training(trial, recipe) | branches.tcn(trial, recipe)
    branches.heads(trial, "modal_dim", [32, 64, 128])
    branches.dropout(trial)
    return settings | {"model.name": "mt"}
