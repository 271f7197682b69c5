"""Search spaces: found by name or file, and all they can suggest is a valid recipe."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from erray.config import load_recipe, with_settings
from erray.errors import UserError
from erray.labels import CEXPR_7
from erray.models import make_model
from erray.plan import Plan
from erray.training.arrays import FeatureArrays
from erray.training.job import TrainJob
from erray.training.schedules import make_schedule
from erray.tuning import load_space, trial_job

RECIPE = load_recipe("demo")
SPACE = load_space("lfan")


@pytest.fixture(scope="module")
def study() -> optuna.Study:
    """Fifty suggestions of the sampler that a search uses."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(seed=0, multivariate=True, group=True)
    study = optuna.create_study(sampler=sampler, direction="maximize")

    def objective(trial: optuna.Trial) -> float:
        SPACE(trial)
        return trial.params["train.optimiser.lr"]

    study.optimize(objective, n_trials=50)
    return study


@pytest.fixture
def job(tmp_path: Path) -> TrainJob:
    return TrainJob(
        train=FeatureArrays(tmp_path / "train"),
        val=FeatureArrays(tmp_path / "val"),
        streams=Plan(RECIPE).widths,
        num_classes=len(CEXPR_7),
        model=RECIPE.model,
        settings=RECIPE.train,
        seed=RECIPE.seed,
    )


def test_every_suggestion_is_a_valid_recipe(study):
    for trial in study.trials:
        changed = with_settings(RECIPE, trial.params)
        assert 1 <= changed.train.hop <= changed.train.window == trial.params["train.window"]
        assert changed.train.optimiser.lr == trial.params["train.optimiser.lr"]
        schedule = changed.train.schedule
        make_schedule(schedule.name, changed.train.optimiser.lr, schedule.options).lr(0)
        for key, value in trial.params.items():
            if key.startswith("train.schedule.options."):
                assert schedule.options[key.rsplit(".", 1)[1]] == value
        assert changed.model.options | {"num_heads": 0} == RECIPE.model.options | {"num_heads": 0}
        widths, options = Plan(changed).widths, changed.model.options
        make_model(changed.model.name, widths, len(CEXPR_7), options)


def test_every_branch_is_taken(study):
    tried = {trial.params["train.schedule.name"] for trial in study.trials}
    assert tried == {"constant", "mystep", "mycosine", "mywarmup"}
    for trial in study.trials:
        has_gamma = "train.schedule.options.gamma" in trial.params
        assert has_gamma == (trial.params["train.schedule.name"] == "mystep")


def test_the_recipes_own_schedule_options_do_not_leak_into_a_branch(study):
    assert RECIPE.train.schedule.options, "the recipe has options that must not survive"
    constant = {"train.schedule.name": "constant"}
    assert with_settings(RECIPE, constant).train.schedule.options == {}


def test_a_trial_changes_the_model_and_the_training_and_nothing_else(job):
    params = {"train.window": 25, "train.hop": 20, "model.options.num_heads": 4}
    changed = trial_job(RECIPE, job, params)
    assert (changed.settings.window, changed.settings.hop) == (25, 20)
    assert changed.model.options["num_heads"] == 4
    assert replace(changed, model=job.model, settings=job.settings) == job
    assert changed.fingerprint != job.fingerprint
    assert trial_job(RECIPE, job, {}) == job


def test_a_trial_cannot_change_what_the_recipe_does_not_have(job):
    with pytest.raises(UserError, match=r"unknown key train\.windw"):
        trial_job(RECIPE, job, {"train.windw": 25})


def test_a_space_is_found_by_name_or_by_file(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("def space(trial):\n    trial.suggest_int('seed', 0, 3)\n")
    space = load_space(str(tmp_path / "mine.py"))
    trial = optuna.trial.FixedTrial({"seed": 2})
    space(trial)
    assert trial.params == {"seed": 2}
    monkeypatch.chdir(tmp_path)
    assert load_space("lfan").__code__.co_code == SPACE.__code__.co_code


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "no search space named 'nothing'; .*lfan"),
        ("nothing.py", "no search space file nothing.py"),
    ],
)
def test_a_missing_space_is_a_users_mistake(name, message):
    with pytest.raises(UserError, match=message):
        load_space(name)


def test_a_file_without_the_function_is_a_users_mistake(tmp_path):
    (tmp_path / "empty.py").write_text("space = 3\n")
    with pytest.raises(UserError, match=r"empty\.py has no function space\(trial\)"):
        load_space(str(tmp_path / "empty.py"))
