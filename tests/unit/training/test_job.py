"""A job's name covers every setting that shapes the result, and no other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
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
    "arrays": "/fast/disk",
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


def name_of_before(job):
    """The fingerprint of the same settings before their results changed."""
    return fingerprint(
        {
            "train": job.train.folder.name,
            "val": job.val.folder.name,
            "streams": dict(job.streams),
            "num_classes": job.num_classes,
            "model": job.model.model_dump(),
            "settings": job.settings.model_dump(exclude={"arrays"})
            | dict.fromkeys(PLACES.keys() - {"arrays"}),
            "seed": job.seed,
        }
    )


@pytest.mark.parametrize(("axis", "is_new"), [("published", True), ("slots", False)])
def test_only_what_was_scored_in_batches_that_mattered_is_trained_anew(make_job, axis, is_new):
    job = replace(make_job(), model=Model(name="jmt", options={"fusion_axis": axis}))
    assert (job.fingerprint != name_of_before(job)) == is_new


def test_only_a_job_whose_loss_counts_classes_is_trained_anew(make_job):
    assert make_job().fingerprint == name_of_before(make_job())
    for loss in ({"logit_adjustment": 1.0}, {"class_weights": "inverse"}):
        job = make_job(loss=loss)
        assert job.fingerprint != name_of_before(job)


def test_only_a_job_that_macro_f1_of_some_classes_chose_is_trained_anew(make_job):
    by_macro_f1 = make_job(select={"metric": "macro_f1"})
    assert by_macro_f1.fingerprint == name_of_before(by_macro_f1), "val has every class"
    wider = replace(by_macro_f1, num_classes=4)
    assert wider.fingerprint != name_of_before(wider)
    other = replace(make_job(), num_classes=4)
    assert other.fingerprint == name_of_before(other), "weighted F1 is what it was"


def test_classes_are_counted_in_clips_windows_and_ticks(make_job):
    job = make_job(window=16, hop=8)
    expected = np.zeros((3, 3), int)
    for place in job.train.clips:
        starts = list(range(0, max(1, place.num_ticks - 15), 8))
        if starts[-1] + 16 < place.num_ticks:
            starts.append(place.num_ticks - 16)
        ticks = len(starts) * min(16, place.num_ticks)
        expected[:, place.label] += [1, len(starts), ticks]
    found = job.loss_counts
    assert [list(x) for x in (found.clips, found.windows, found.frames)] == expected.tolist()
