"""Scores of repeated runs, their spread, and all their predictions together."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from erray.finite import NotFiniteError
from erray.flow.contest import Contender, contest
from erray.flow.spread import Answers, answers, pooled, scores, spread
from erray.labels import BASIC_7, CEXPR_8, LabelSet
from erray.metrics import clip_prediction
from erray.scoring import prediction_row, rejected_row
from erray.training.runs import TrainingRun
from tests.unit.evaluation.made_up import made_up_rows

NUM_CLIPS = 40


def made_up(seed: int, *, labels: LabelSet = BASIC_7) -> tuple[list[dict], list[np.ndarray]]:
    """Rows of a predictions table that are right more often than by chance, and their logits."""
    rng = np.random.default_rng(seed)
    rows, all_logits = [], []
    for i in range(NUM_CLIPS):
        label = i % len(labels)
        logits_TC = rng.normal(size=(int(rng.integers(1, 9)), len(labels))).astype(np.float32)
        logits_TC[:, label] += 1.0
        rows.append(
            prediction_row(
                logits_TC,
                clip_id=f"clip{i}",
                split="test" if i % 3 else "val",
                group=f"group{i // 4}",
                label=None if i % 10 == 9 else labels.names[label],
                times_s_T=np.arange(len(logits_TC)) / 25,
                classes=labels.names,
                clip_rule="mean_logits",
                model_name="fusion",
                model_version="0",
            )
        )
        all_logits.append(logits_TC)
    return rows, all_logits


def of_run(folder: Path, seed: int, *, labels: LabelSet = BASIC_7) -> dict[str, dict[str, Answers]]:
    run = TrainingRun(folder)
    run.predictions.replace(made_up(seed, labels=labels)[0])
    return answers(run)


@pytest.mark.parametrize("labels", [BASIC_7, CEXPR_8])
def test_scores_of_clips_and_of_frames_are_those_of_scikit_learn(labels, tmp_path):
    found = of_run(tmp_path / "run", seed=3, labels=labels)
    assert set(found) == {"val", "test"}
    rows, all_logits = made_up(3, labels=labels)
    for split, said in found.items():
        for suffix, num_classes in (("", len(labels)), ("_without_other", 7)):
            if suffix and labels is BASIC_7:
                assert set(said) == {"clip", "frame"}
                continue
            # of CEXPR_8 Other is the last
            chosen = [
                (labels.index(row["label"]), logits_TC[:, :num_classes])
                for row, logits_TC in zip(rows, all_logits, strict=True)
                if row["split"] == split
                and row["label"] is not None
                and labels.index(row["label"]) < num_classes
            ]
            truth = [label for label, _ in chosen]
            clips = [clip_prediction(logits_TC, "mean_logits")[0] for _, logits_TC in chosen]
            frame_truth = [label for label, logits_TC in chosen for _ in logits_TC]
            frames = [c for _, logits_TC in chosen for c in logits_TC.argmax(-1)]
            for level, (y, x) in {"clip": (truth, clips), "frame": (frame_truth, frames)}.items():
                assert scores(said)[level + suffix] == pytest.approx(
                    {
                        "accuracy": accuracy_score(y, x),
                        "weighted_f1": f1_score(y, x, average="weighted", zero_division=0),
                        "macro_f1": f1_score(
                            y, x, average="macro", labels=np.unique(y), zero_division=0
                        ),
                    }
                )


def numbers(clip: float) -> dict[str, dict[str, float]]:
    metrics = dict.fromkeys(("accuracy", "weighted_f1", "macro_f1"), clip)
    return {"clip": metrics, "frame": dict.fromkeys(metrics, clip / 2)}


def test_the_spread_of_folds_is_told_from_that_of_seeds():
    value_FS = np.array([[0.50, 0.52, 0.48], [0.70, 0.74, 0.66]])
    of_runs = {(f, s): numbers(value_FS[f, s]) for f in range(2) for s in range(3)}
    found = spread(of_runs)["clip"]["macro_f1"]
    assert found == pytest.approx(
        {
            "mean": 0.6,
            "std": np.std(value_FS, ddof=1),
            "std_seeds": np.std([0.60, 0.63, 0.57], ddof=1),
            "std_folds": np.std([0.5, 0.7], ddof=1),
        }
    )
    assert spread(of_runs)["frame"]["accuracy"]["mean"] == pytest.approx(0.3)


def test_one_run_has_no_spread():
    found = spread({(None, 7): numbers(0.5)})["clip"]["accuracy"]
    assert found == {"mean": 0.5, "std": None, "std_seeds": None, "std_folds": None}


def test_pooled_scores_are_of_all_predictions(tmp_path):
    parts = [of_run(tmp_path / str(seed), seed)["test"] for seed in range(2)]
    found = pooled(parts, num_bootstrap=300)
    right_N = np.concatenate([p["clip"].label_N == p["clip"].predicted_N for p in parts])
    assert found["predictions"] == len(right_N)
    accuracy = found["clip"]["accuracy"]
    assert accuracy["value"] == pytest.approx(right_N.mean())
    assert accuracy["low"] < accuracy["value"] < accuracy["high"]
    assert set(found["frame"]) == {"accuracy", "weighted_f1", "macro_f1"}


def test_seeds_that_agree_leave_the_interval_as_wide_as_one_of_them(tmp_path):
    part = of_run(tmp_path / "run", seed=1)["test"]
    once, thrice = (
        pooled([part] * count, num_bootstrap=500)["clip"]["accuracy"] for count in (1, 3)
    )
    assert thrice == pytest.approx(once)


def contenders(folder: Path, sides: dict[str, list[dict]]) -> list[Contender]:
    """A run of one seed per side that has these rows."""
    found = []
    for name, rows in sides.items():
        run = TrainingRun(folder / name)
        run.predictions.replace(rows)
        (folder / name / "history.json").write_text(json.dumps({"best_epoch": 0}))
        found.append(Contender(name, 0, None, run))
    return found


def test_two_groups_of_test_clips_decide_no_contest(tmp_path):
    """Two trainings that differ by chance alone, as two seeds of a recipe do."""
    sides = {
        name: [row | {"group": f"g{i % 2}"} for i, row in enumerate(made_up_rows(seed))]
        for seed, name in enumerate(("tuned", "recipe"))
    }
    found = contest(contenders(tmp_path, sides), num_bootstrap=200, seed=0)
    assert found["macro_f1_rule"] == "macro F1 over all 8 classes"
    for metrics in found["scores"].values():
        for row in metrics.values():
            gap = row["difference"]
            assert gap["low"] is gap["high"] is gap["p_value"] is None and gap["num_groups"] == 2
            assert row["tuned"]["low"] is row["recipe"]["low"] is None


def test_a_clip_that_one_run_rejected_is_in_no_score_of_a_contest(tmp_path):
    sides = {name: made_up_rows(seed) for seed, name in enumerate(("tuned", "recipe"))}
    both = contenders(tmp_path, sides)
    runs = {contender.side: contender.run for contender in both}
    rows = runs["tuned"].predictions.read().to_pylist()
    lost = next(row for row in rows if row["split"] == "test" and row["label"])
    runs["tuned"].predictions.replace([row for row in rows if row is not lost])
    why = NotFiniteError("not_finite: logits of 1 of 1 ticks")
    ids = {"clip_id": lost["clip_id"], "model_name": "tuned", "model_version": "0"}
    runs["tuned"].rejects.replace([rejected_row(why, **ids)])
    found = contest(both, num_bootstrap=200, seed=0)
    assert list(found["rejected"]) == [lost["clip_id"]]
    for name, run in runs.items():
        left = [
            row
            for row in run.predictions.read().to_pylist()
            if row["split"] == "test" and row["label"] and row["clip_id"] != lost["clip_id"]
        ]
        right = np.mean([row["label"] == row["predicted"] for row in left])
        assert found["scores"]["clip"]["accuracy"][name]["value"] == pytest.approx(right)
