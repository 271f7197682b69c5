"""What a trial trains, and what travels to its process."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest

from erray.config import Recipe, with_settings
from erray.errors import UserError
from erray.training.loop import TrainingLoop
from erray.tuning import trial_job
from erray.tuning.trial import FoldTrial


@pytest.fixture
def job(make_job):
    return make_job()


@pytest.fixture
def recipe(job):
    return Recipe(model=job.model, train=job.settings)


def with_epochs(recipe, epochs):
    """A recipe of trials of that many epochs."""
    return with_settings(recipe, {"train.epochs": epochs, "train.patience": epochs})


def test_a_trial_changes_the_model_and_the_training_and_nothing_else(recipe, job):
    params = {"train.window": 12, "train.hop": 10, "model.options.num_heads": 4}
    changed = trial_job(recipe, job, params)
    assert (changed.settings.window, changed.settings.hop) == (12, 10)
    assert changed.model.options["num_heads"] == 4
    assert replace(changed, model=job.model, settings=job.settings) == job
    assert changed.fingerprint != job.fingerprint
    assert trial_job(recipe, job, {}) == job


def test_a_trial_cannot_change_what_the_recipe_does_not_have(recipe, job):
    with pytest.raises(UserError, match=r"unknown key train\.windw"):
        trial_job(recipe, job, {"train.windw": 25})


def test_its_epochs_are_those_of_the_plain_loop(recipe, job):
    settings = {"train.optimiser.lr": 0.02}
    trial = FoldTrial(with_epochs(recipe, 4), [job], "cpu")
    rows = list(
        TrainingLoop(
            trial_job(recipe, job, settings | {"train.epochs": 4, "train.patience": 4})
        ).run()
    )
    assert [epoch.value for epoch in trial(settings)] == [row["val_weighted_f1"] for row in rows]
    assert all(epoch.seconds > 0 for epoch in trial(settings))


def test_folds_train_side_by_side_and_their_mean_is_the_value(recipe, job, make_job):
    recipe = Recipe(
        model=recipe.model,
        train=recipe.train.model_copy(
            update={"select": recipe.train.select.model_copy(update={"metric": "accuracy"})}
        ),
    )
    other = replace(make_job(views=True), val=job.train)
    both = FoldTrial(with_epochs(recipe, 3), [job, other], "cpu")({})
    alone = [FoldTrial(with_epochs(recipe, 3), [one], "cpu")({}) for one in (job, other)]
    first = next(both)
    ours, others = (next(part) for part in alone)
    assert ours.value != others.value
    assert first.value == pytest.approx((ours.value + others.value) / 2)
    assert len(list(both)) == 2, "epoch by epoch: the first came before the others"


def test_features_travel_as_a_folder_and_not_as_values(recipe, job):
    """What was mapped and read here stays here."""
    trial = FoldTrial(with_epochs(recipe, 1), [job], "cpu")
    fresh = len(pickle.dumps(trial))
    job.make_model()  # maps the arrays and reads all of train
    assert "_mapped" in vars(job.train) and job.train.clips
    assert len(pickle.dumps(trial)) == pytest.approx(fresh, abs=200)
    size = sum(path.stat().st_size for path in job.train.folder.glob("*.npy"))
    assert fresh < size / 2
    arrived = pickle.loads(pickle.dumps(trial))
    assert arrived.jobs[0].train.folder == job.train.folder
    mapped = arrived.jobs[0].train.values("hog")
    assert mapped.filename == job.train.folder / "hog.values.npy", "the file itself is mapped"
