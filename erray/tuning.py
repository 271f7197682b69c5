"""A search space and a job to a study and its best settings: Ray Tune with Optuna and ASHA.

A trial runs the plain training loop in its own process on train and val; the test split is not
among what it is given.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from ray import tune
from ray.tune.execution import class_cache
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

import erray
from erray.config import Recipe, fingerprint, with_settings
from erray.errors import UserError
from erray.training.job import TrainJob
from erray.training.loop import TrainingLoop
from erray.training.validation import selection_key

# Ray Tune passes the keys of object storage on to its trials as a runtime environment, and Ray
# writes that to its logs. Trials have what their node has, without it.
class_cache.ENV_VARS_TO_PROPAGATE.difference_update(
    [name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")]
)

Space = Callable[[optuna.Trial], dict[str, Any] | None]


@dataclass(frozen=True)
class Study:
    """Every trial of a search as plain data, and the settings of the best.

    ``trials``: ``{"number", "state", "value", "epochs", "params", "curve"}`` each; state is
    ``complete``, ``pruned`` (stopped early by ASHA) or ``failed``.
    """

    metric: str
    trials: list[dict[str, Any]]
    best: int

    @property
    def best_settings(self) -> dict[str, Any]:
        """Recipe keys and values of the best trial."""
        return dict(self.trials[self.best]["params"])


def load_space(name_or_file: str) -> Space:
    """Load the function ``space`` of a file of ``tune_spaces/`` by name, or of any file.

    Raises:
        UserError: no such file, or a file without that function.
    """
    path = _space_file(name_or_file)
    spec = importlib.util.spec_from_file_location(f"tune_space_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # the searcher is pickled, its space by module and name
    spec.loader.exec_module(module)
    if not callable(getattr(module, "space", None)):
        raise UserError(f"{path} has no function space(trial)")
    space: Space = module.space
    return space


def search(recipe: Recipe, job: TrainJob, out: Path) -> Study:
    """Run ``recipe.tune`` from ``job`` on the connected cluster.

    Args:
        job: what is trained where the space leaves the recipe as it is.
        out: folder for what Ray Tune writes.

    Raises:
        UserError: the space asks for something the recipe does not have, or every trial failed.
    """
    settings, metric = recipe.tune, selection_key(job.settings)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    space = load_space(settings.space)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(seed=recipe.seed, multivariate=True, group=True)
    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(_trial, recipe=recipe, job=job),
            {"cpu": settings.cpus_per_trial, "gpu": settings.gpus_per_trial},
        ),
        tune_config=tune.TuneConfig(
            metric=metric,
            mode="max",
            search_alg=OptunaSearch(space=space, metric=metric, mode="max", sampler=sampler),
            scheduler=ASHAScheduler(
                max_t=settings.epochs, grace_period=min(settings.grace_epochs, settings.epochs)
            ),
            num_samples=settings.num_trials,
            max_concurrent_trials=settings.max_concurrent,
        ),
        run_config=tune.RunConfig(
            name=fingerprint([recipe.model_dump(), job.fingerprint]),
            storage_path=str(out),
            verbose=0,
        ),
    )
    return _study(tuner.fit(), metric, settings.epochs)


def trial_job(recipe: Recipe, job: TrainJob, params: Mapping[str, Any]) -> TrainJob:
    """Return ``job`` with the settings ``params`` (dotted recipe keys), at full training length."""
    changed = with_settings(recipe, params)
    return replace(job, model=changed.model, settings=changed.train)


def _trial(params: dict[str, Any], *, recipe: Recipe, job: TrainJob) -> None:
    epochs = {"train.epochs": recipe.tune.epochs, "train.patience": recipe.tune.epochs}
    device = "cuda" if recipe.tune.gpus_per_trial > 0 else "cpu"
    loop = TrainingLoop(trial_job(recipe, job, params | epochs), device=device)
    for row in loop.run():
        tune.report(row)


def _study(results: tune.ResultGrid, metric: str, epochs: int) -> Study:
    trials: list[dict[str, Any]] = []
    for number in range(len(results)):
        result = results[number]
        frame = result.metrics_dataframe
        curve = [] if frame is None else [float(v) for v in frame[metric]]
        if result.error is not None:
            state = "failed"
        else:
            state = "complete" if len(curve) >= epochs else "pruned"
        trials.append(
            {
                "number": number,
                "state": state,
                "value": max(curve) if curve else None,
                "epochs": len(curve),
                "params": dict(result.config or {}),
                "curve": curve,
            }
        )
    scored = [t for t in trials if t["value"] is not None and t["state"] != "failed"]
    if not scored:
        raise UserError(f"all {len(trials)} trials failed; first reason: {results.errors[0]}")
    best = max(scored, key=lambda t: (t["value"], -t["number"]))
    return Study(metric, trials, best["number"])


def _space_file(name_or_file: str) -> Path:
    if name_or_file.endswith(".py"):
        path = Path(name_or_file)
        if not path.is_file():
            raise UserError(f"no search space file {name_or_file}: give an existing .py file")
        return path
    folders = [Path.cwd() / "tune_spaces", Path(erray.__file__).parents[1] / "tune_spaces"]
    for folder in folders:
        if (folder / f"{name_or_file}.py").is_file():
            return folder / f"{name_or_file}.py"
    known = sorted({path.stem for folder in folders for path in folder.glob("*.py")})
    raise UserError(
        f"no search space named {name_or_file!r}; expected a .py file or one of: "
        f"{', '.join(known) or 'none found'}"
    )
