from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from erray.records import Clip
from erray.report.scores import Scores, metrics_json, score_run
from erray.report.sources import ClipPrediction

CLASSES = ("a", "b", "c")


def predictions(seed: int, skill: float, num: int = 60) -> list[ClipPrediction]:
    labels = np.random.default_rng(0).integers(0, 3, size=num)
    rng = np.random.default_rng(seed)
    rows = []
    for i, label in enumerate(labels):
        logits_TC = rng.normal(size=(4, 3)) + rng.normal(size=3)
        logits_TC[:, label] += skill
        rows.append(
            ClipPrediction(
                clip_id=f"{i:03d}",
                group=f"g{i // 3}",
                label=CLASSES[label],
                classes=CLASSES,
                times_s_T=np.arange(4) / 25,
                logits_TC=logits_TC.astype(np.float32),
                probabilities_C=np.full(3, 1 / 3),
                predicted="a",
            )
        )
    return rows


@pytest.fixture(scope="module")
def test_runs() -> dict[str, list[ClipPrediction]]:
    fusion = predictions(1, 2.0)
    return {
        "fusion": fusion,
        "tuned": predictions(3, 5.0),
        "same": fusion,
        "weak": predictions(2, 0.0),
    }


@pytest.fixture(scope="module")
def scores(test_runs: dict[str, list[ClipPrediction]]) -> Scores:
    clips = [Clip("t1", "m", "train", "g", label="b"), Clip("t2", "m", "test", "g", label="a")]
    return score_run(
        test_runs,
        clips,
        main="fusion",
        clip_rule="mean_logits",
        temperatures={"tuned": 2.0},
        num_bootstrap=300,
        seed=0,
    )


def test_scores_equal_scikit_learn(
    scores: Scores, test_runs: dict[str, list[ClipPrediction]]
) -> None:
    labels = [CLASSES.index(p.label or "") for p in test_runs["fusion"]]
    answers = [int(p.logits_TC.mean(0).argmax()) for p in test_runs["fusion"]]
    level = scores.shown.clips["mean_logits"]
    found = level.metrics
    assert found["weighted_f1"].value == pytest.approx(
        f1_score(labels, answers, average="weighted")
    )
    assert found["macro_f1"].value == pytest.approx(f1_score(labels, answers, average="macro"))
    assert found["accuracy"].value == pytest.approx(accuracy_score(labels, answers))
    per_class = [row.f1.value for row in level.per_class]
    np.testing.assert_allclose(per_class, f1_score(labels, answers, average=None))
    assert np.trace(level.confusion) == round(found["accuracy"].value * 60)


def test_intervals_hold_their_value_and_groups_are_counted(scores: Scores) -> None:
    rules = [level.metrics for level in scores.shown.clips.values()]
    for intervals in [*rules, *scores.streams.values()]:
        assert all(i.low <= i.value <= i.high for i in intervals.values())
    assert (scores.shown.num_clips, scores.shown.num_groups) == (60, 20)


def test_a_run_does_not_differ_from_itself_and_beats_chance(scores: Scores) -> None:
    same, weak = scores.differences["same"], scores.differences["weak"]
    assert (same.difference, same.low, same.high) == (0.0, 0.0, 0.0)
    assert scores.tuned_gain is not None and scores.tuned_gain.low > 0
    assert 0 < weak.low <= weak.difference <= weak.high


def test_the_baseline_answers_the_most_frequent_training_class(
    scores: Scores, test_runs: dict[str, list[ClipPrediction]]
) -> None:
    share = np.mean([p.label == "b" for p in test_runs["fusion"]])
    assert scores.baseline_class == "b"
    assert scores.baseline is not None
    assert scores.baseline["accuracy"] == pytest.approx(share)


def test_metrics_json_is_plain_numbers(scores: Scores) -> None:
    plain = metrics_json(scores)
    assert set(plain["fusion"]) == {"majority", "mean_probabilities", "mean_logits"}
    assert set(plain["tuned"]) == set(plain["fusion"])
    assert set(plain["streams"]) == {"same", "weak"}
    for numbers in [*plain["fusion"].values(), *plain["streams"].values()]:
        assert set(numbers) == {"weighted_f1", "macro_f1", "accuracy"}
        assert all(type(value) is float for value in numbers.values())
    for run, temperature in (("fusion", 1.0), ("tuned", 2.0)):
        full = plain["scores"][run]
        value = full["clips"]["majority"]["metrics"]["accuracy"]["value"]
        assert value == plain[run]["majority"]["accuracy"]
        assert full["calibration"]["temperature"] == temperature
        assert full["frames"]["confusion"] and full["without_other"] is None
    assert json.loads(json.dumps(plain, allow_nan=False)) == json.loads(json.dumps(plain))


def test_a_temperature_changes_the_calibration_and_no_score(
    scores: Scores, test_runs: dict[str, list[ClipPrediction]]
) -> None:
    found = scores.fused["tuned"].calibration
    assert found.error_before != found.error_after
    assert scores.fused["fusion"].calibration.error_before == (
        scores.fused["fusion"].calibration.error_after
    )
    answers = [int(p.logits_TC.mean(0).argmax()) for p in test_runs["tuned"]]
    labels = [CLASSES.index(p.label or "") for p in test_runs["tuned"]]
    value = scores.fused["tuned"].clips["mean_logits"].metrics["accuracy"].value
    assert value == pytest.approx(accuracy_score(labels, answers))
