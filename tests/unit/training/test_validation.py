"""Val scores by every rule and by frames, the selection, and the best weights of each rule."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import accuracy_score, f1_score

from erray.errors import UserError
from erray.metrics import CLIP_RULES
from erray.training import validation
from erray.training.loop import TrainingLoop
from erray.training.validation import score_split, val_scores
from erray.training.workers import Workers
from erray.windows import UNLABELLED


def by_scikit_learn(labels, predicted):
    options = {"labels": [0, 1, 2], "zero_division": 0}
    return {
        "weighted_f1": f1_score(labels, predicted, average="weighted", **options),
        "macro_f1": f1_score(
            labels, predicted, labels=np.unique(labels), average="macro", zero_division=0
        ),
        "accuracy": accuracy_score(labels, predicted),
    }


def test_every_score_against_scikit_learn(make_job):
    job = make_job(epochs=1, clip_rule="majority", window=12, hop=4)
    job.val.clips[-1] = dataclasses.replace(job.val.clips[-1], label=UNLABELLED)
    try:
        model = job.make_model()
        found = val_scores(model, job, device="cpu", workers=Workers())
        logits = dict(score_split(model, job.val, job))
    finally:
        del job.val.__dict__["clips"]  # the arrays are shared by the tests of this room
    labelled = range(len(logits) - 1)
    labels = [job.val.clips[i].label for i in labelled]
    clips = {
        "majority": [np.bincount(logits[i].argmax(-1), minlength=3).argmax() for i in labelled],
        "mean_probabilities": [softmax(logits[i], -1).mean(0).argmax() for i in labelled],
        "mean_logits": [logits[i].mean(0).argmax() for i in labelled],
    }
    expected = {
        f"{rule}_{name}": value
        for rule in CLIP_RULES
        for name, value in by_scikit_learn(labels, clips[rule]).items()
    }
    expected |= by_scikit_learn(labels, clips["majority"])
    frames = np.concatenate([logits[i].argmax(-1) for i in labelled])
    frame_labels = np.repeat(labels, [len(logits[i]) for i in labelled])
    expected |= {f"frame_{k}": v for k, v in by_scikit_learn(frame_labels, frames).items()}
    assert found.pop("bad_val_clips") == 0
    assert found == pytest.approx({f"val_{k}": v for k, v in expected.items()})


@pytest.fixture
def planted(monkeypatch):
    """Val scores as a test wants them: a list of rows, a row per epoch."""

    def plant(rows):
        left = iter(rows)
        monkeypatch.setattr(
            "erray.training.loop.val_scores", lambda model, job, *, device, workers: next(left)
        )

    return plant


def row(*, default=0.5, **scores):
    names = [f"{kind}{name}" for kind in ("", "frame_", *(f"{r}_" for r in CLIP_RULES))
             for name in ("weighted_f1", "macro_f1", "accuracy")]  # fmt: skip
    return {f"val_{name}": scores.get(name, default) for name in names}


@pytest.mark.parametrize(
    ("select", "key"),
    [
        ({}, "weighted_f1"),
        ({"metric": "macro_f1"}, "macro_f1"),
        ({"level": "frame"}, "frame_weighted_f1"),
        ({"metric": "accuracy", "level": "frame"}, "frame_accuracy"),
    ],
)
def test_the_recipe_names_the_score_that_chooses(make_job, planted, select, key):
    planted([row(), row(**{key: 0.6}), row(default=0.55)])
    loop = TrainingLoop(make_job(epochs=3, select=select))
    epochs = [{k: v.clone() for k, v in loop.model.state_dict().items()} for _ in loop.run()]
    assert (loop.best.epoch, loop.best.metric) == (1, 0.6)
    assert all((x == epochs[1][name]).all() for name, x in loop.best.weights.items())
    assert not (loop.best.weights["head.weight"] == epochs[2]["head.weight"]).all()


def test_every_rule_keeps_weights_of_its_own(make_job, planted):
    planted(
        [
            row(majority_macro_f1=0.9),
            row(mean_probabilities_macro_f1=0.8, mean_logits_weighted_f1=0.99),
            row(mean_logits_macro_f1=0.7, majority_macro_f1=0.9),
        ]
    )
    loop = TrainingLoop(make_job(epochs=3, select={"metric": "macro_f1", "level": "frame"}))
    epochs = [{k: v.clone() for k, v in loop.model.state_dict().items()} for _ in loop.run()]
    state = loop.state_dict()["best_by_rule"]
    expected = {"majority": (0, 0.9), "mean_probabilities": (1, 0.8), "mean_logits": (2, 0.7)}
    assert {k: (best["epoch"], best["metric"]) for k, best in state.items()} == expected
    for best in state.values():
        for name, x in best["weights"].items():
            assert (x == epochs[best["epoch"]][name]).all()
    assert loop.best.epoch == 0, "a tie keeps the earlier epoch"


@pytest.fixture
def spoilt(monkeypatch):
    """Makes the logits of some val clips not finite."""
    real = validation.score_split

    def spoil(bad):
        def scored(*arguments, **options):
            for clip, logits_TC in real(*arguments, **options):
                yield clip, logits_TC * (np.nan if clip in bad else 1)

        monkeypatch.setattr(validation, "score_split", scored)

    return spoil


def test_a_val_clip_without_finite_logits_is_counted_and_wrong(make_job, spoilt):
    job = make_job(max_bad_windows=2)
    model = job.make_model()
    said = {clip: x.mean(0).argmax() for clip, x in score_split(model, job.val, job)}
    labels = [place.label for place in job.val.clips]
    spoilt({4, 7})
    found = val_scores(model, job, device="cpu", workers=Workers())
    assert found["bad_val_clips"] == 2
    right = [said[i] == labels[i] and i not in (4, 7) for i in said]
    assert found["val_accuracy"] == pytest.approx(np.mean(right))
    # class 3 is no answer: no label has it, so that it is nobody's false alarm
    answers = [3 if i in (4, 7) else said[i] for i in said]
    weighted = f1_score(labels, answers, labels=[0, 1, 2], average="weighted", zero_division=0)
    assert found["val_weighted_f1"] == pytest.approx(weighted)
    ticks = [
        (x.argmax(-1) == labels[clip]) & (clip not in (4, 7))
        for clip, x in score_split(model, job.val, job)
    ]
    assert found["val_frame_accuracy"] == pytest.approx(np.concatenate(ticks).mean())


@pytest.mark.parametrize(
    ("limit", "bad", "message"),
    [
        (0, {4}, r"^1 of 9 val clips .*=0 may have \(clip4\)"),
        (99, set(range(9)), "^9 of 9 val clips"),
    ],
)
def test_too_many_val_clips_without_finite_logits_are_named(make_job, spoilt, limit, bad, message):
    job = make_job(max_bad_windows=limit)
    spoilt(bad)
    with pytest.raises(UserError, match=message) as caught:
        val_scores(job.make_model(), job, device="cpu", workers=Workers())
    assert "\n" not in str(caught.value)
