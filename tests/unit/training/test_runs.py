"""A finished run on disk: the weights that val chose, every clip scored, the history last."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from erray.checkpoint import load_model
from erray.labels import CEXPR_7
from erray.metrics import score
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
        patch.setattr(runs, "_predictions", dying)
        finish(run, job, state)
    assert run.history() == {}
    finish(run, job, state)
    assert run.history()["job"] == job.fingerprint
