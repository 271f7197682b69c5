"""Search spaces: found by name or file, and all they can suggest is a recipe and a model."""

from __future__ import annotations

import warnings
from collections import Counter

import optuna
import pytest
from optuna.samplers import TPESampler

from erray.config import load_recipe, parse_recipe, with_settings
from erray.errors import UserError
from erray.labels import CEXPR_7
from erray.models import MODELS, make_model
from erray.plan import Plan
from erray.training.schedules import SCHEDULES, make_schedule
from erray.tuning import load_space

RECIPE = load_recipe("demo")
NUM_SAMPLES = 70
# A recipe of one stream whose own settings stand in the way of every other choice.
ODD = {
    "train.optimiser": {"name": "sgd", "momentum": 0.5, "dampening": 0.1, "nesterov": False},
    "train.loss": {
        "level": "both",
        "clip_weight": 0.3,
        "class_weights": "effective",
        "beta": 0.5,
        "focal_gamma": 1.0,
    },
    "train.warmup_epochs": 2,
    "train.epochs": 7,
    "train.window": 4,
    "train.hop": 3,
}


@pytest.fixture(scope="module", params=["demo", "odd"])
def recipe(request):
    if request.param == "demo":
        return RECIPE
    data = RECIPE.model_dump() | {"streams": {"hash": {}}, "model": {"name": "lfan"}}
    for key, value in ODD.items():
        section, name = key.split(".")
        data[section][name] = value
    data["train"]["schedule"] = {"name": "constant", "options": {}}
    return parse_recipe(data)


@pytest.fixture(scope="module", params=sorted(MODELS))
def suggestions(request, recipe):
    """Suggestions of a model's space, most of them at random: (trial, settings)."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space, found = load_space(request.param), []
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    sampler = TPESampler(seed=0, multivariate=True, group=True, n_startup_trials=60)
    study = optuna.create_study(sampler=sampler, direction="maximize")
    for number in range(NUM_SAMPLES):
        trial = study.ask()
        found.append((trial, space.suggest(trial, recipe)))
        study.tell(trial, number % 7)
    return request.param, found


def test_every_suggestion_is_a_recipe_and_a_model(suggestions, recipe):
    name, found = suggestions
    widths = Plan(recipe).widths
    for _, settings in found:
        changed = with_settings(recipe, settings)
        assert changed.model.name == name
        make_model(changed.model.name, widths, len(CEXPR_7), changed.model.options)
        schedule, train = changed.train.schedule, changed.train
        for epoch in (0, train.epochs - 1):
            rate = make_schedule(schedule.name, train.optimiser.lr, schedule.options).lr(epoch)
            assert 0 < rate <= train.optimiser.lr * 2
        assert changed.model_dump(exclude={"model", "train"}) == recipe.model_dump(
            exclude={"model", "train"}
        )


def test_what_is_suggested_is_what_is_trained(suggestions, recipe):
    for trial, settings in suggestions[1]:
        flat = with_settings(recipe, settings).model_dump()
        for key, value in trial.params.items():
            if key.startswith("space."):
                continue
            found = flat
            for part in key.split("."):
                found = found[part]
            assert found == value, key


def test_every_branch_is_taken_with_its_own_parameters_alone(suggestions):
    trials = [trial for trial, _ in suggestions[1]]
    taken = Counter(trial.params["train.schedule.name"] for trial in trials)
    assert set(taken) == set(SCHEDULES)
    for trial in trials:
        params = trial.params
        assert ("train.optimiser.beta1" in params) == (params["train.optimiser.name"] != "sgd")
        assert ("train.optimiser.momentum" in params) == (params["train.optimiser.name"] == "sgd")
        assert ("train.loss.beta" in params) == (params["train.loss.class_weights"] == "effective")
        assert ("train.loss.clip_weight" in params) == (params["train.loss.level"] == "both")
        assert ("train.loss.focal_gamma" in params) == params["space.focal"]
        has_gamma = "train.schedule.options.gamma" in params
        assert has_gamma == params["train.schedule.name"].endswith("step")
    assert {t.params["train.optimiser.name"] for t in trials} == {"sgd", "adam", "adamw"}
    assert {t.params["train.loss.level"] for t in trials} == {"frame", "clip", "both"}


def test_the_encoders_differ_in_width_depth_and_kernel(suggestions):
    _, found = suggestions
    options = {
        (tuple(next(iter(s["model.options.channels"].values()))), s["model.options.kernel_size"])
        for _, s in found
    }
    assert len(options) > 8


def test_a_space_asks_for_the_recipe_or_not(tmp_path):
    (tmp_path / "one.py").write_text(
        "def space(trial):\n    trial.suggest_int('train.window', 99, 99)"
    )
    two = (
        "def space(trial, recipe):\n"
        "    width = trial.suggest_int('space.width', 3, 3)\n"
        "    return {'model.options.channels': {name: [width] for name in recipe.streams}}\n"
    )
    (tmp_path / "two.py").write_text(two)
    found = [
        load_space(str(tmp_path / name)).suggest(optuna.trial.FixedTrial(params), RECIPE)
        for name, params in (
            ("one.py", {"train.window": 99}),
            ("two.py", {"space.width": 3}),
        )
    ]
    assert found[0] == {"train.window": 99}
    assert found[1] == {"model.options.channels": {"hog": [3], "logmel": [3], "hash": [3]}}


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("train.windw", r"unknown key train\.windw"),
        ("seed", r"mine\.py suggests seed: a trial changes keys of model and train alone"),
        ("train.epochs", r"suggests train\.epochs"),
        ("train.select.metric", r"suggests train\.select\.metric"),
        ("tune.epochs", r"suggests tune\.epochs"),
    ],
)
def test_a_trial_cannot_change_what_makes_trials_comparable(tmp_path, key, message):
    (tmp_path / "mine.py").write_text(f"def space(trial):\n    trial.suggest_int('{key}', 0, 3)\n")
    space = load_space(str(tmp_path / "mine.py"))
    with pytest.raises(UserError, match=message):
        space.suggest(optuna.trial.FixedTrial({key: 2}), RECIPE)


def test_a_space_beside_the_user_is_found_before_ours(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "branches.tcn" in load_space("lfan").text
    (tmp_path / "tune_spaces").mkdir()
    (tmp_path / "tune_spaces" / "lfan.py").write_text("def space(trial):\n    pass\n")
    assert load_space("lfan").file == tmp_path / "tune_spaces" / "lfan.py"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "no search space named 'nothing'; .*can, concat, jmt, lfan, mt"),
        ("nothing.py", "no search space file nothing.py; .*can, concat, jmt, lfan, mt"),
        ("tune_spaces/lfan", "'tune_spaces/lfan' is no name of a search space; .*can, concat"),
        ("../tune_spaces/lfan", "is no name of a search space; expected a .py file or one of"),
        ("a\\b", "is no name of a search space"),
        ("", "is no name of a search space"),
    ],
)
def test_a_missing_space_is_a_users_mistake(name, message):
    with pytest.raises(UserError, match=message):
        load_space(name)


@pytest.mark.parametrize("text", ["space = 3\n", "def space():\n    pass\n", ""])
def test_a_file_without_the_function_is_a_users_mistake(tmp_path, text):
    (tmp_path / "empty.py").write_text(text)
    with pytest.raises(UserError, match=r"empty\.py has no function space\(trial\) or space"):
        load_space(str(tmp_path / "empty.py"))
