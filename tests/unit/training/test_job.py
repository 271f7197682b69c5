"""A job's name covers every setting that shapes the result, and no other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from erray.config import Model, Train, fingerprint

OTHERS = {
    "epochs": 4,
    "min_epochs": 2,
    "patience": 3,
    "window": 20,
    "hop": 4,
    "batch_size": 7,
    "accumulate": 2,
    "percent": {"train": 50.0},
    "modality_dropout": 0.1,
    "clip_rule": "majority",
    "select": {"level": "frame"},
    "loss": {"label_smoothing": 0.1},
    "optimiser": {"dampening": 0.1, "nesterov": False},
    "schedule": {"name": "cosine"},
    "warmup_epochs": 1,
    "max_grad_norm": 1.0,
    "average_decay": 0.9,
    "precision": "bf16",
    "compile": True,
}
PLACES = {
    "num_workers": 3,
    "num_gpus": 0.5,
    "max_failures": 7,
    "checkpoint_epochs": 2,
    "max_bad_windows": 0,
}


def test_the_two_lists_have_every_setting():
    assert OTHERS.keys() | PLACES.keys() == Train.model_fields.keys()


@pytest.mark.parametrize("name", OTHERS)
def test_what_shapes_the_result_is_in_the_name(make_job, name):
    assert make_job(**{name: OTHERS[name]}).fingerprint != make_job().fingerprint


@pytest.mark.parametrize("name", PLACES)
def test_where_it_runs_is_not(make_job, name):
    assert make_job(**{name: PLACES[name]}).fingerprint == make_job().fingerprint


def test_the_seed_is(make_job):
    assert make_job(seed=1).fingerprint != make_job().fingerprint


@pytest.mark.parametrize(("axis", "is_new"), [("published", True), ("slots", False)])
def test_only_what_was_scored_in_batches_that_mattered_is_trained_anew(make_job, axis, is_new):
    job = replace(make_job(), model=Model(name="jmt", options={"fusion_axis": axis}))
    places = dict.fromkeys(PLACES)
    before = {
        "train": job.train.folder.name,
        "val": job.val.folder.name,
        "streams": dict(job.streams),
        "num_classes": job.num_classes,
        "model": job.model.model_dump(),
        "settings": job.settings.model_dump() | places,
        "seed": job.seed,
    }
    assert (job.fingerprint != fingerprint(before)) == is_new
