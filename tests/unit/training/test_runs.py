"""A finished run on disk: the weights that val chose, every clip scored, the history last."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.special
import torch

from erray.checkpoint import load_model
from erray.labels import CEXPR_7
from erray.metrics import CLIP_RULES, clip_prediction, score
from erray.records import tensor_from_columns
from erray.training import runs
from erray.training.arrays import FeatureArrays
from erray.training.job import TrainJob
from erray.training.loop import TrainingLoop
from erray.training.runs import TrainingRun, finish_run, train_in_process
from erray.training.validation import score_split
from erray.windows import UNLABELLED

FEATURES = {"hog": "0" * 16, "logmel": "1" * 16, "hash": "2" * 16}


@pytest.fixture(scope="module")
def job(make_job: Callable[..., TrainJob]) -> TrainJob:
    """Three epochs, seven classes; the last clip of val has no label."""
    job = make_job(epochs=3, optimiser={"lr": 0.05})
    val = FeatureArrays(job.val.folder)
    val.clips[-1] = dataclasses.replace(val.clips[-1], label=UNLABELLED)
    return dataclasses.replace(job, val=val, num_classes=len(CEXPR_7))


@pytest.fixture(scope="module")
def state(job: TrainJob, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    return train_in_process(job, TrainingRun(tmp_path_factory.mktemp("trained")))


@pytest.fixture
def run(tmp_path: Path) -> TrainingRun:
    return TrainingRun(tmp_path / "training" / "fusion")


def finish(run: TrainingRun, job: TrainJob, state: Mapping[str, Any]) -> None:
    splits = {"train": job.train, "val": job.val}
    finish_run(run, job, state, labels=CEXPR_7, features=FEATURES, clock_hz=25.0, splits=splits)


def test_a_finished_run_says_what_it_is(run, job, state):
    assert run.name == "fusion" and run.history() == {} and not run.is_finished(job)
    finish(run, job, state)
    assert not run.is_finished(job), "not before it is tracked"
    run.tracking.write_text("where it is tracked")
    assert run.is_finished(job) and not run.is_finished(dataclasses.replace(job, seed=1))
    history = run.history()
    assert [row["epoch"] for row in history["epochs"]] == [0, 1, 2]
    values = [row["val_weighted_f1"] for row in history["epochs"]]
    assert history["best_metric"] == max(values)
    assert history["best_epoch"] == values.index(max(values)) == state["best_epoch"]
    _, description = load_model(run.model)
    assert description.streams == dict(job.streams)
    assert description.features == {"hog": "0" * 16, "logmel": "1" * 16}
    assert (description.window, description.hop) == (job.settings.window, job.settings.hop)
    assert (description.model, description.options) == ("lfan", job.model.options)
    assert (description.labels, description.clip_rule) == ("cexpr7", job.settings.clip_rule)
    assert description.clock_hz == 25.0


def test_the_weights_are_those_that_val_chose(run, job, state):
    loop, best, metric = TrainingLoop(job), {}, -1.0
    for row in loop.run():
        if row["val_weighted_f1"] > metric:
            metric = row["val_weighted_f1"]
            best = {name: x.clone() for name, x in loop.model.state_dict().items()}
    finish(run, job, state)
    model, _ = load_model(run.model)
    for name, x in model.state_dict().items():
        torch.testing.assert_close(x, best[name], rtol=0, atol=0)


def test_every_clip_of_the_splits_has_a_row(run, job, state):
    finish(run, job, state)
    rows = run.predictions.read().to_pylist()
    places = [*job.train.clips, *job.val.clips]
    assert [row["clip_id"] for row in rows] == [place.clip_id for place in places]
    model, _ = load_model(run.model)
    scored = [*score_split(model, job.train, job), *score_split(model, job.val, job)]
    for row, place, (_, logits_TC) in zip(rows, places, scored, strict=True):
        found_TC = tensor_from_columns(row["logits"], row["shape"], row["dtype"])
        np.testing.assert_array_equal(found_TC, logits_TC)
        label = None if place.label == UNLABELLED else CEXPR_7.names[place.label]
        assert (row["split"], row["group"], row["label"]) == (place.split, place.group, label)
        assert (row["model_name"], row["model_version"]) == ("fusion", job.fingerprint)
        assert len(row["times_s"]) == place.num_ticks


def test_the_val_score_is_the_one_of_the_stored_predictions(run, job, state):
    finish(run, job, state)
    rows = [r for r in run.predictions.read().to_pylist() if r["split"] == "val" and r["label"]]
    labels, predicted = (
        [CEXPR_7.index(row[column]) for row in rows] for column in ("label", "predicted")
    )
    found = score("weighted_f1", labels, predicted, len(CEXPR_7))
    assert found == pytest.approx(run.history()["best_metric"])


def test_a_run_that_was_cut_off_while_it_finished_has_no_history(run, job, state, monkeypatch):
    def dying(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(runs, "_rows", dying)
        finish(run, job, state)
    assert run.history() == {}
    finish(run, job, state)
    assert run.history()["job"] == job.fingerprint


def logits_of(row: Mapping[str, Any]) -> np.ndarray:
    return tensor_from_columns(row["logits"], row["shape"], row["dtype"])


def test_the_temperature_is_fitted_on_val_alone_and_enters_probabilities_alone(run, job, state):
    val = FeatureArrays(job.val.folder)
    wrong = (job.val.clips[0].label + 1) % len(CEXPR_7)
    val.clips[:] = [dataclasses.replace(job.val.clips[0], label=wrong), *job.val.clips[1:]]
    job = dataclasses.replace(job, val=val)
    finish(run, job, state)
    _, description = load_model(run.model)
    rows = run.predictions.read().to_pylist()
    val = [row for row in rows if row["split"] == "val" and row["label"]]
    mean_NC = np.array([logits_of(row).mean(0) for row in val])
    label_N = np.array([CEXPR_7.index(row["label"]) for row in val])

    def loss(log_t: float) -> float:
        log_NC = scipy.special.log_softmax(mean_NC / np.exp(log_t), axis=-1)
        return -log_NC[np.arange(len(label_N)), label_N].mean()

    grid = np.linspace(np.log(0.05), np.log(20), 5000)
    expected = np.exp(min(grid, key=loss))
    assert description.temperature == pytest.approx(expected, rel=3e-3) != 1
    for row in rows:
        probabilities_C = scipy.special.softmax(logits_of(row).mean(0) / description.temperature)
        np.testing.assert_allclose(row["probabilities"], probabilities_C, rtol=1e-5)
        assert row["predicted"] == CEXPR_7.names[logits_of(row).mean(0).argmax()]
    without_train = TrainingRun(run.folder.with_name("again"))
    finish_run(
        without_train,
        job,
        state,
        labels=CEXPR_7,
        features=FEATURES,
        clock_hz=25.0,
        splits={"val": job.val},
    )
    assert load_model(without_train.model)[1].temperature == description.temperature


def test_every_other_clip_rule_has_the_model_that_it_chose(run, job, state):
    """As if two rules had preferred another epoch."""
    weights = {
        k: x + 0.01 if x.is_floating_point() else x for k, x in state["best_weights"].items()
    }
    chosen = {
        "mean_logits": {"epoch": state["best_epoch"], "metric": 0.5, "weights": {}},
        "mean_probabilities": {"epoch": 7, "metric": 0.4, "weights": weights},
        "majority": {"epoch": 7, "metric": 0.3, "weights": weights},
    }
    (run.folder / "by_rule" / "mean_logits").mkdir(parents=True)  # an earlier job's
    finish(run, job, {**state, "best_by_rule": chosen})
    assert sorted(path.name for path in (run.folder / "by_rule").iterdir()) == [
        "majority",
        "mean_probabilities",
    ]
    for rule in ("majority", "mean_probabilities"):
        part = TrainingRun(run.folder / "by_rule" / rule)
        model, description = load_model(part.model)
        assert description.clip_rule == rule
        torch.testing.assert_close(dict(model.state_dict()), weights, rtol=0, atol=0)
        history = part.history()
        assert (history["best_epoch"], history["best_metric"]) == (7, chosen[rule]["metric"])
        assert history["metric"] == f"val_{rule}_weighted_f1"
        for row in part.predictions.read().to_pylist():
            best, probabilities_C = clip_prediction(
                logits_of(row), rule, temperature=description.temperature
            )
            assert (row["clip_rule"], row["predicted"]) == (rule, CEXPR_7.names[best])
            assert row["model_name"] == f"fusion/by_rule/{rule}"
            np.testing.assert_allclose(row["probabilities"], probabilities_C)
    votes = load_model(run.folder / "by_rule" / "majority" / "model")[1]
    assert votes.temperature == 1, "shares of votes have no temperature"
    assert load_model(run.model)[1].clip_rule == "mean_logits"


def test_rules_that_agree_with_the_run_have_no_model_of_their_own(run, job, state):
    finish(run, job, state)
    epochs = {rule: state["best_by_rule"][rule]["epoch"] for rule in CLIP_RULES}
    assert epochs["mean_logits"] == state["best_epoch"]
    assert not (run.folder / "by_rule" / "mean_logits").exists()


def test_clips_that_the_model_has_no_finite_logits_for_are_rejected(run, job, state):
    """A value far too large, not NaN: features are finite, what the model makes of them is not."""
    finish(run, job, state)
    before = {(row["split"], row["clip_id"]): row for row in run.predictions.read().to_pylist()}
    assert run.rejected() == {}
    arrays = FeatureArrays(Path(shutil.copytree(job.val.folder, run.folder / "val")))
    place = arrays.clips[2]
    values = np.load(arrays.folder / "hog.values.npy", mmap_mode="r+")
    values[place.offset : place.offset + place.num_ticks] = 3e38
    values.flush()
    spoilt = dataclasses.replace(job, val=arrays)
    splits = {"train": job.train, "val": arrays}
    finish_run(run, spoilt, state, labels=CEXPR_7, features=FEATURES, clock_hz=25.0, splits=splits)
    (reject,) = run.rejects.read().to_pylist()
    assert (reject["clip_id"], reject["stage"], reject["state"]) == (
        place.clip_id,
        "predict",
        "rejected",
    )
    assert reject["reason"].startswith("not_finite: logits of ")
    assert f" of {place.num_ticks} ticks" in reject["reason"] and "fusion" in reject["reason"]
    found = {(row["split"], row["clip_id"]): row for row in run.predictions.read().to_pylist()}
    assert before.keys() - found.keys() == {("val", place.clip_id)}
    for clip, row in found.items():
        assert row["logits"] == before[clip]["logits"], "batch mates stay as they were"
