"""A study in a journal file, and jobs over made-up arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest

from erray.tuning.halving import Halving
from erray.tuning.ledger import Ledger
from erray.tuning.storage import open_study
from tests.unit.training.conftest import make_job

__all__ = ["make_job"]

NAME = "0123456789abcdef"
Open = Callable[..., AbstractContextManager[Ledger]]


def suggest(trial: optuna.Trial) -> dict[str, Any]:
    """One number; half of the trials have another one besides."""
    x = trial.suggest_float("x", 0, 1)
    if trial.suggest_categorical("more", [True, False]):
        trial.suggest_int("y", 1, 9)
    return {"train.x": x}


@pytest.fixture
def open_ledger(tmp_path: Path) -> Open:
    """Open the ledger as a driver does; leaving the block is a driver's end, in whatever state."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    @contextmanager
    def opened(num_trials: int = 6, **changes: Any) -> Iterator[Ledger]:
        settings = {
            "epochs": 9,
            "halving": Halving(9, 1, 3),
            "max_concurrent": 2,
            "sampler": "tpe",
            "seed": 0,
        }
        with open_study(NAME, folder=tmp_path, url=None) as study:
            asked = changes.pop("suggest", suggest)
            yield Ledger(study, asked, num_trials=num_trials, **settings | changes)

    return opened
