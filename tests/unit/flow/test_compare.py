"""Runs in folders compared, and the table of an ablation, from predictions on disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from erray.errors import UserError
from erray.flow.compare import compare_runs, find_run, labelled_clips
from erray.flow.report import ablation_table
from erray.labels import CEXPR_7
from erray.metrics import METRICS
from erray.records import tensor_columns
from erray.training.runs import TrainingRun
from tests.unit.evaluation.made_up import made_up_rows


def finished(folder: Path, seed: int, *, splits: Sequence[str] = ("val", "test"), **options):
    """A run with these predictions and as much of a history as is read."""
    run = TrainingRun(folder)
    rows = [row for split in splits for row in made_up_rows(seed, split=split, **options)]
    run.predictions.replace([row | {"clip_id": f"{row['split']}/{row['clip_id']}"} for row in rows])
    history = {"metric": "val_weighted_f1", "best_metric": 0.5, "best_epoch": 0, "job": "0"}
    (folder / "history.json").write_text(json.dumps(history))
    return run


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two whole runs; the first has predictions of a challenge beside."""
    folder = tmp_path_factory.mktemp("runs")
    finished(folder / "one" / "training" / "fusion", 1, skill=3.0)
    finished(folder / "one", 9, splits=["challenge"])
    finished(folder / "two" / "training" / "fusion", 2, skill=0.5)
    return folder / "one", folder / "two"


def compared(a: Path, b: Path, **options):
    options = {"split": "test", "metrics": list(METRICS), "num_bootstrap": 300} | options
    return compare_runs((a, b), **options)


def test_a_whole_run_stands_for_its_fusion(two):
    found = compared(*two)
    again = compared(*(folder / "training" / "fusion" for folder in two))
    assert found == again and found["a"] == str(two[0] / "training" / "fusion")
    assert json.loads(json.dumps(found, allow_nan=False))["num_clips"] == 60
    assert found["clips"]["weighted_f1"]["difference"]["low"] > 0
    assert found["left_out"] == [0, 0] and found["split"] == "test"


def test_scores_are_those_of_the_stored_classes(two):
    found = compared(*two, split="val", metrics=["accuracy"])
    assert set(found["clips"]) == set(found["frames"]) == {"accuracy"}
    for side, folder in zip("ab", two, strict=True):
        rows = TrainingRun(folder / "training" / "fusion").predictions.read().to_pylist()
        val = [row for row in rows if row["split"] == "val"]
        expected = accuracy_score([r["label"] for r in val], [r["predicted"] for r in val])
        assert found["clips"]["accuracy"][side]["value"] == pytest.approx(expected)


def test_other_clips_are_refused_unless_the_common_ones_are_asked_for(two, tmp_path):
    fewer = finished(tmp_path / "fewer", 2, num_clips=50)
    with pytest.raises(UserError, match=r"10 only in .*fusion \(test/clip050, .*pass --common"):
        compared(two[0], fewer.folder)
    found = compared(two[0], fewer.folder, common=True)
    assert (found["num_clips"], found["left_out"]) == (50, [10, 0])
    apart = finished(tmp_path / "apart", 2)
    rows = apart.predictions.read().to_pylist()
    apart.predictions.replace([row | {"clip_id": f"x{row['clip_id']}"} for row in rows])
    with pytest.raises(UserError, match="no labelled clip in common"):
        compared(two[0], apart.folder, common=True)


def test_what_is_no_pair_of_runs_is_refused(two, tmp_path):
    with pytest.raises(UserError, match=r"no folder .*nowhere: .*`erray train -r RECIPE`"):
        compared(two[0], tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"no finished training run in .*training/fusion below it"):
        find_run(tmp_path)
    with pytest.raises(UserError, match="are one run: give two"):
        compared(two[0], two[0] / "training" / "fusion")
    seven = finished(tmp_path / "seven", 1, labels=CEXPR_7)
    for common in (False, True):
        with pytest.raises(UserError, match=r"different label sets: Fearfully Surprised, .* Other"):
            compared(two[0], seven.folder, common=common)
    with pytest.raises(UserError, match=r"no labelled clip of split 'train'; .*labels: test, val"):
        labelled_clips(find_run(two[0]), "train")


@pytest.fixture
def subsets(tmp_path: Path) -> dict[str, TrainingRun]:
    skills = {"hog": 0.5, "logmel": 0.3, "hog+logmel": 3.0}
    return {
        name: finished(tmp_path / name, seed, skill=skill, clip_rule=rule)
        for seed, ((name, skill), rule) in enumerate(
            zip(skills.items(), ["mean_logits", "majority", "mean_logits"], strict=True)
        )
    }


def test_an_ablation_scores_every_subset_and_its_difference_to_all(subsets):
    rows = ablation_table(subsets, num_bootstrap=300, seed=0)
    assert rows[0]["streams"] == "hog+logmel" and rows[0]["minus_all"] is None
    values = [row["weighted_f1"]["value"] for row in rows]
    assert values == sorted(values, reverse=True) and len(rows) == 3
    found = {row["streams"]: row for row in rows}
    for name, run in subsets.items():
        test = [row for row in run.predictions.read().to_pylist() if row["split"] == "test"]
        truth, predicted = ([row[key] for row in test] for key in ("label", "predicted"))
        for average in ("weighted", "macro"):
            row = found[name][f"{average}_f1"]
            expected = f1_score(truth, predicted, average=average, zero_division=0)
            assert row["value"] == pytest.approx(expected)
            assert row["low"] < row["value"] < row["high"]
    for name in ("hog", "logmel"):
        for metric, gap in found[name]["minus_all"].items():
            expected = found[name][metric]["value"] - rows[0][metric]["value"]
            assert gap["difference"] == pytest.approx(expected) and gap["high"] < 0


def test_an_ablation_draws_groups(subsets, tmp_path):
    """Groups whose clips are all right or all wrong: their number decides, not that of clips."""
    run = subsets["hog"]
    rows = [row for row in run.predictions.read().to_pylist() if row["split"] == "test"]
    alike = []
    for row in rows:
        hit = int(row["group"].removeprefix("group")) % 2 == 0  # 20 groups of three clips
        label = row["classes"].index(row["label"])
        logits_TC = np.full(row["shape"], 0.0, np.float32)
        logits_TC[:, label if hit else (label + 1) % 8] = 5
        alike.append(row | {"logits": tensor_columns(logits_TC)["values"]})
    widths = []
    for grouped in (True, False):
        named = [r | {"group": r["group"] if grouped else r["clip_id"]} for r in alike]
        run.predictions.replace(named)
        (row,) = ablation_table({"hog": run}, num_bootstrap=2000, seed=0)
        widths.append(row["accuracy"]["high"] - row["accuracy"]["low"])
    assert widths[0] / widths[1] == pytest.approx(np.sqrt(3), rel=0.2)  # 1 if clips were drawn


def test_an_ablation_of_other_clips_is_refused(subsets, tmp_path):
    shutil.rmtree(subsets["hog"].folder)
    finished(subsets["hog"].folder, 0, num_clips=50)
    with pytest.raises(UserError, match=r"10 only in .*remove both and run `erray ablate` again"):
        ablation_table(subsets, num_bootstrap=100, seed=0)
