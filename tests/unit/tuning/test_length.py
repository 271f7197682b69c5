"""Schedules live on a trial's length while they are searched, on a full training's afterwards."""

from __future__ import annotations

import warnings

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erray.config import load_recipe, parse_recipe, recipe_names, with_settings
from erray.errors import UserError
from erray.models import MODELS
from erray.training.schedules import SCHEDULES
from erray.training.warmup import run_schedule
from erray.tuning import load_space
from erray.tuning.length import at_full_length, full_length, trial_recipe

MELD = load_recipe("meld_lfan")  # 1000 epochs against the 10 of a trial
NUM_BATCHES = 8
WARM_UP_SHARE = 0.25


def rates(train, epochs, *, improves=False):
    """Rates of every step, as the loop asks for them; val improves never, or in every epoch."""
    schedule, found = run_schedule(train), []
    for epoch in range(epochs):
        found.append([schedule.lr(epoch, batch, NUM_BATCHES) for batch in range(NUM_BATCHES)])
        schedule.end_epoch(float(epoch) if improves else 0.0)
    return found


@pytest.fixture(scope="module", params=sorted(MODELS))
def drawn(request):
    """150 random suggestions of a model's space for MELD's published training."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    space, short = load_space(request.param), trial_recipe(MELD)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    found = [space.suggest(study.ask(), short) for _ in range(150)]
    assert {s["train.schedule.name"] for s in found} == set(SCHEDULES)
    return short, found


def test_every_schedule_of_a_space_changes_the_rate_within_a_trial(drawn):
    short, found = drawn
    for suggested in found:
        train = with_settings(short, suggested).train
        steps = rates(train, short.train.epochs, improves=True)
        if train.schedule.name == "constant":
            assert {rate for epoch in steps for rate in epoch} == {train.optimiser.lr}
        else:
            assert steps[0][0] != steps[-1][-1], train.schedule


def test_a_warm_up_ends_early_in_a_trial_and_a_plateau_is_noticed_in_it(drawn):
    short, found = drawn
    for suggested in found:
        train = with_settings(short, suggested).train
        if train.schedule.name == "mywarmup":
            ramp = train.schedule.options["min_epochs"]
            assert ramp <= WARM_UP_SHARE * short.train.epochs
            assert rates(train, 10, improves=True)[ramp][0] == train.optimiser.lr
            assert rates(train, 10)[-1][-1] < train.optimiser.lr


def test_what_is_found_has_the_same_course_in_a_full_training(drawn):
    """Of a run of five times the epochs, every fifth is one of the trial."""
    short, found = drawn
    recipe = parse_recipe(MELD.model_dump() | {"tune": {"epochs": 10, "grace_epochs": 2}})
    assert full_length(recipe) == 50
    for suggested in found:
        trial, full = (
            with_settings(base, changed).train
            for base, changed in ((short, suggested), (recipe, at_full_length(recipe, suggested)))
        )
        assert full.epochs == MELD.train.epochs and full.patience == MELD.train.patience
        name, options = full.schedule.name, dict(trial.schedule.options)
        for option in SCHEDULES[name].in_epochs:
            value = options[option]
            options[option] = [5 * x for x in value] if isinstance(value, list) else 5 * value
        assert full.schedule.options == options
        if name in {"step", "mystep", "multistep", "cosine"}:
            fifth = [epoch[0] for epoch in rates(full, 50)[::5]]
            assert fifth == pytest.approx([epoch[0] for epoch in rates(trial, 10)])


@given(epochs=st.integers(2, 60), number=st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_trials_of_any_length_see_their_schedule(epochs, number):
    recipe = with_settings(MELD, {"tune.epochs": epochs})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=number))
    suggested = load_space("concat").suggest(study.ask(), trial_recipe(recipe))
    train = with_settings(trial_recipe(recipe), suggested).train
    steps = [rate for epoch in rates(train, epochs, improves=True) for rate in epoch]
    assert (len(set(steps)) > 1) == (train.schedule.name != "constant")
    warm_up = train.schedule.options.get("min_epochs", 0)
    assert warm_up <= max(1, WARM_UP_SHARE * epochs)
    with_settings(recipe, at_full_length(recipe, suggested))


@pytest.mark.parametrize(
    ("epochs", "patience", "trial", "length"),
    [(1000, 50, 10, 50), (30, 50, 10, 30), (100, 5, 10, 10), (8, 50, 10, 8)],
)
def test_a_full_training_is_as_long_as_patience_lets_it_be(epochs, patience, trial, length):
    changes = {"train.epochs": epochs, "train.patience": patience, "tune.epochs": trial}
    assert full_length(with_settings(MELD, changes)) == length


def test_the_recipes_own_schedule_and_warm_up_are_shortened_alike():
    own = with_settings(
        MELD,
        {
            "train.warmup_epochs": 5,
            "train.schedule.name": "multistep",
            "train.schedule.options": {"gamma": 0.5, "milestones": [0, 20, 40]},
        },
    )
    train = trial_recipe(own).train
    assert (train.epochs, train.patience, train.warmup_epochs) == (10, 10, 1)
    assert train.schedule.options == {"gamma": 0.5, "milestones": [0, 4, 8]}
    assert trial_recipe(MELD).train.schedule.options["step_size"] == 10
    found = at_full_length(own, {"train.schedule.options.gamma": 0.3})
    assert found == {"train.schedule.options.gamma": 0.3}, "what is the recipe's own stays"


def test_options_that_a_recipe_leaves_out_are_shortened_too():
    own = with_settings(MELD, {"train.schedule.name": "mywarmup"})
    options = trial_recipe(own).train.schedule.options
    assert options == {"min_epochs": 1, "patience": 2}  # of 5 and 10 in 50 epochs


@pytest.mark.parametrize(
    "suggested",
    [
        {"train.schedule": {"name": "cosine", "options": {"t_max": 9, "min_lr": 1e-6}}},
        {
            "train.schedule.name": "cosine",
            "train.schedule.options": {"t_max": 9, "min_lr": 1e-6},
        },
        {
            "train.schedule.options.t_max": 9,
            "train.schedule.name": "cosine",
            "train.schedule.options.min_lr": 1e-6,
        },
    ],
)
def test_a_schedule_is_stretched_however_a_space_writes_it(suggested):
    more = {"train.warmup_epochs": 1, "train.batch_size": 9}
    found = with_settings(MELD, at_full_length(MELD, suggested | more)).train
    assert found.schedule.options == {"t_max": 45, "min_lr": 1e-6}
    assert (found.warmup_epochs, found.batch_size, found.epochs) == (5, 9, 1000)


def test_a_schedule_that_is_none_is_a_users_mistake():
    with pytest.raises(UserError, match="no schedule named 'cosinus'"):
        trial_recipe(with_settings(MELD, {"train.schedule.name": "cosinus"}))


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_that_comes_with_erray_has_trials(name):
    recipe = load_recipe(name)
    train = trial_recipe(recipe).train
    assert train.epochs == recipe.tune.epochs <= full_length(recipe)
