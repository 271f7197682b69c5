"""Whose search a folder holds, what may be registered of it, and how its trials are tracked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from erray.config import Recipe
from erray.corpora import CorpusClips
from erray.flow import tune
from erray.flow.context import FUSION, TUNED, Flow
from erray.flow.registry import register_step
from erray.records import Clip
from erray.registry import Registry
from erray.training.job import TrainJob
from erray.tuning import Study
from tests.unit.training.conftest import make_job

__all__ = ["make_job"]


class Recorder(Registry):
    """The tracking store's side of a step: remembers the runs that it is told."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.told: list[dict[str, Any]] = []

    @contextmanager
    def run(self, name: str, **facts: Any) -> Iterator[str]:
        self.told.append({"name": name, **facts})
        yield name

    def log_metrics(self, run_id: str, rows: Any, *, times_s: Any = None) -> None:
        (run,) = (run for run in self.told if run["name"] == run_id)
        run.setdefault("logged", []).append((rows, times_s))

    def log_file(self, run_id: str, path: Path, artifact_path: str | None = None) -> None:
        assert path.is_file()


@pytest.fixture
def job(make_job: Callable[..., TrainJob]) -> TrainJob:
    return make_job()


@pytest.fixture
def flow(job: TrainJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Flow:
    """A run whose recipe trains ``job``."""
    streams = {"hog": {}, "logmel": {}}
    recipe = Recipe(streams=streams, model=job.model, train=job.settings, seed=job.seed)
    recipe = recipe.model_copy(update={"tune": recipe.tune.model_copy(update={"seeds": [0]})})
    flow = Flow(recipe, tmp_path / "run", tmp_path)
    monkeypatch.setattr(Flow, "job", lambda self, streams=None: job)
    return flow


def finish(flow: Flow, name: str, job: str, metric: float) -> None:
    run = flow.run(name)
    run.folder.mkdir(parents=True, exist_ok=True)
    history = {"job": job, "best_metric": metric, "best_epoch": 0}
    (run.folder / "history.json").write_text(
        json.dumps(history | {"metric": "m", "epochs": [{"epoch": 0, "val_weighted_f1": metric}]})
    )
    run.tracking.write_text("{}")


def searched(flow: Flow, **content: Any) -> None:
    flow.study_file.parent.mkdir(parents=True, exist_ok=True)
    flow.study_file.write_text(json.dumps({"against_recipe": None} | content))


def registered(flow: Flow, run: str, job: str) -> dict[str, str]:
    """Note in the record that the run is a version already: it is not registered again."""
    model = {"name": flow.recipe.tracking.model_name, "version": "1", "run": run, "job": job}
    flow.out.mkdir(exist_ok=True)
    flow.record.update(model=model)
    return model


def test_the_tuned_run_of_this_recipe_is_registered_where_it_is_better(flow, job):
    finish(flow, FUSION, job.fingerprint, 0.4)
    finish(flow, TUNED, "best", 0.6)
    searched(flow, recipe_job=job.fingerprint, tuned_job="best")
    model = registered(flow, TUNED, "best")
    assert register_step(flow) == model


@pytest.mark.parametrize(
    "study",
    [
        None,
        {},
        {"recipe_job": "of another recipe", "tuned_job": "best"},
        {"recipe_job": "the same", "tuned_job": "not the one in training/tuned"},
    ],
    ids=["no search", "it does not say", "another recipe", "another tuned run"],
)
def test_a_tuned_run_that_another_recipe_left_is_no_candidate(flow, job, study):
    finish(flow, FUSION, job.fingerprint, 0.4)
    finish(flow, TUNED, "best", 0.6)
    if study is not None:
        same = study.get("recipe_job") == "the same"
        searched(flow, **study | ({"recipe_job": job.fingerprint} if same else {}))
    model = registered(flow, FUSION, job.fingerprint)
    assert register_step(flow) == model


def test_a_fusion_that_another_recipe_left_is_no_candidate(flow, job):
    finish(flow, FUSION, "of another recipe", 0.9)
    finish(flow, TUNED, "best", 0.6)
    searched(flow, recipe_job=job.fingerprint, tuned_job="best")
    model = registered(flow, TUNED, "best")
    assert register_step(flow) == model


@pytest.mark.parametrize("was_searched", [True, False])
def test_only_the_tuned_run_was_chosen_by_clips_of_test(flow, job, was_searched):
    searched(
        flow,
        recipe_job=job.fingerprint,
        tuned_job="best",
        against_recipe={"test_was_searched": was_searched},
    )
    assert flow.test_was_searched(flow.run(TUNED)) == was_searched
    assert not flow.test_was_searched(flow.run(FUSION))


def test_a_search_says_whether_it_saw_what_is_set_apart(tuned_flow, job):
    tune.tune_step(tuned_flow)
    assert tuned_flow.study()["holdout_was_searched"] is False
    seen = job.val.clips[0]  # as folds let it: val of another fold
    tuned_flow.__dict__["corpus"] = CorpusClips(
        [Clip(clip_id=seen.clip_id, media="m", split="holdout", group=seen.group)]
    )
    tune.tune_step(tuned_flow)
    assert tuned_flow.study()["holdout_was_searched"] is True
    assert tuned_flow.holdout_was_searched(tuned_flow.run(TUNED))
    assert not tuned_flow.holdout_was_searched(tuned_flow.run(FUSION))


def trial(number: int, state: str, reason: str | None = None) -> dict[str, Any]:
    curve = [0.3, 0.4]
    times_s = None if state == "interrupted" else [10.0, 12.5]
    about = {"number": number, "state": state, "value": 0.4, "curve": curve, "reason": reason}
    about["times_s"] = times_s
    return about | {"params": {}, "settings": {"train.optimiser.lr": 0.02}}


@pytest.fixture
def tuned_flow(flow: Flow, job: TrainJob, monkeypatch: pytest.MonkeyPatch) -> Flow:
    """A search whose trials and trainings are over before they begin."""
    study = Study(
        name="study",
        metric="val_weighted_f1",
        trials=[
            trial(0, "complete"),
            trial(1, "pruned"),
            trial(2, "failed", "no room at postgresql://me:secret@host/name"),
            trial(3, "interrupted", "the driver ended first"),
        ],
        best=0,
        importance={},
    )
    best = tune.trial_job(flow.recipe, job, study.best_settings)

    def train(flow: Flow, contenders: Any, parent: str) -> None:
        finish(flow, FUSION, job.fingerprint, 0.4)
        finish(flow, TUNED, replace(best, seed=0).fingerprint, 0.6)

    monkeypatch.setattr(tune, "search", lambda *_, **__: study)
    monkeypatch.setattr(tune, "ray_session", nullcontext)
    monkeypatch.setattr(tune, "fold_flows", lambda flow, folds: {None: flow})
    monkeypatch.setattr(tune, "_train", train)
    monkeypatch.setattr(tune, "contest", lambda *_, **__: None)
    monkeypatch.setattr(Flow, "step", lambda self, name: nullcontext("parent"))
    flow.__dict__["registry"] = Recorder(flow.home)
    flow.__dict__["data_fingerprint"] = "data"
    flow.__dict__["corpus"] = CorpusClips([])
    return flow


def test_a_search_says_of_which_recipe_it_is(tuned_flow, job, monkeypatch):
    tune.tune_step(tuned_flow)
    study = json.loads(tuned_flow.study_file.read_text("utf-8"))
    assert study["recipe_job"] == job.fingerprint != study["tuned_job"]
    assert tuned_flow.run(TUNED).holds(study["tuned_job"])
    assert tuned_flow.study() == study
    other = replace(job, seed=job.seed + 1)
    monkeypatch.setattr(Flow, "job", lambda self, streams=None: other)
    assert tuned_flow.study() == {}


def test_trials_are_tracked_with_how_they_ended(tuned_flow):
    tune.tune_step(tuned_flow)
    told = tuned_flow.registry.told
    assert [run["failed"] for run in told] == [False, False, True, True]
    states = [run["tags"]["erray.trial.state"] for run in told]
    assert states == ["complete", "pruned", "failed", "interrupted"]
    reasons = [run["tags"].get("erray.trial.reason") for run in told]
    assert reasons[:2] == [None, None] and reasons[3] == "the driver ended first"
    assert "no room" in reasons[2] and "secret" not in reasons[2]
    assert all(run["tags"]["erray.job"] for run in told), "the facts of a training are there too"
    rows = [{"epoch": 0, "val_weighted_f1": 0.3}, {"epoch": 1, "val_weighted_f1": 0.4}]
    best = ([{"best_val_weighted_f1": 0.4}], None)
    assert told[0]["logged"] == [(rows, [10.0, 12.5]), best]
    assert told[3]["logged"] == [(rows, None), best], "its driver kept no times"
