"""A recipe's search: its space, its jobs and its storage to a study and the best settings.

A trial trains on train and val; the test split is not among what it is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import optuna

from erray import interrupt
from erray.config import Recipe, fingerprint
from erray.training.job import TrainJob
from erray.training.validation import selection_key
from erray.tuning import branches
from erray.tuning.driver import Slots, run_trials
from erray.tuning.events import OnTrial, tell_nobody
from erray.tuning.halving import Halving
from erray.tuning.ledger import Ledger
from erray.tuning.length import trial_recipe
from erray.tuning.space import Space, load_space
from erray.tuning.storage import open_study
from erray.tuning.study import Study, read_study
from erray.tuning.trial import FoldTrial


def search(
    recipe: Recipe, jobs: Sequence[TrainJob], folder: Path, *, on_trial: OnTrial = tell_nobody
) -> Study:
    """Run ``recipe.tune`` on the connected cluster; what is there of it already is gone on with.

    Args:
        jobs: what is trained where the space leaves the recipe as it is: one, or one per fold.
        folder: of the journal, and of what Ray Tune writes.
        on_trial: told of every epoch and of every end of a trial.

    Raises:
        UserError: no such space, another search of this study runs, no trial is complete.
    """
    settings, metric = recipe.tune, selection_key(jobs[0].settings)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = load_space(settings.space or recipe.model.name)
    short = trial_recipe(recipe)
    # what a trial needs of the recipe: no address with a password goes to its process
    part = Recipe(name=short.name, model=short.model, train=short.train)
    with open_study(study_name(recipe, jobs, space), folder=folder, url=settings.storage) as study:
        ledger = Ledger(
            study,
            lambda trial: space.suggest(trial, short),
            num_trials=settings.num_trials,
            epochs=settings.epochs,
            halving=Halving(settings.epochs, settings.grace_epochs, settings.reduction_factor),
            max_concurrent=settings.max_concurrent,
            sampler=settings.sampler,
            seed=recipe.seed,
            on_trial=on_trial,
        )
        interrupt.account(lambda: f"{ledger.num_ended} of {settings.num_trials} trials")
        if ledger.num_counted < settings.num_trials:
            device = "cuda" if settings.gpus_per_trial > 0 else "cpu"
            run_trials(
                ledger,
                FoldTrial(part, jobs, device),
                slots=Slots(
                    settings.max_concurrent, settings.cpus_per_trial, settings.gpus_per_trial
                ),
                folder=folder / "ray",
            )
        return read_study(ledger, metric, seed=recipe.seed)


def study_name(recipe: Recipe, jobs: Sequence[TrainJob], space: Space) -> str:
    """Name by all that makes trials comparable: data, model, training, space, epochs and stops.

    How many there are, how many run at a time and on what is not part of it: a search that is
    given more trials goes on.
    """
    tune = recipe.tune
    return fingerprint(
        {
            "jobs": [job.fingerprint for job in jobs],
            "seed": recipe.seed,
            "space": space.text,
            "branches": Path(branches.__file__).read_text(encoding="utf-8"),
            "epochs": tune.epochs,
            "grace_epochs": tune.grace_epochs,
            "reduction_factor": tune.reduction_factor,
        }
    )
