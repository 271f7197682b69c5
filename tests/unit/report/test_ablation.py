"""The table of an ablation, from the predictions of its runs to the page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sklearn.metrics import f1_score

from erray.config import parse_recipe
from erray.finite import NotFiniteError
from erray.flow.context import Flow
from erray.flow.report import ablation
from erray.report.ablation import make_ablation
from erray.scoring import rejected_row
from erray.training.runs import TrainingRun
from tests.unit.evaluation.made_up import made_up_rows

SKILLS = {"hog": 0.3, "hash": 0.6, "hog+hash": 3.0}


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What `erray ablate` leaves of three finished runs."""
    out = tmp_path_factory.mktemp("ablated")
    runs = {}
    for seed, (name, skill) in enumerate(SKILLS.items()):
        run = runs[name] = TrainingRun(out / "training" / "ablation" / name)
        run.predictions.replace(made_up_rows(seed, skill=skill))
        history = {"metric": "val_accuracy", "best_metric": skill / 4, "best_epoch": 0}
        (run.folder / "history.json").write_text(json.dumps(history))
    recipe = {"streams": {"hog": {}, "hash": {}}, "report": {"num_bootstrap": 200}}
    returned = ablation(Flow(parse_recipe(recipe), Path(out), Path(out)), runs)
    written = json.loads((out / "ablation.json").read_text("utf-8"))
    assert written == json.loads(json.dumps(returned))
    return written


def test_subsets_are_shown_by_the_metric_of_the_recipe_best_first(left) -> None:
    found = make_ablation(left, streams=["hog", "hash"], metric="macro_f1")
    assert found is not None and found.num_clips == 60 and found.val_metric == "val_accuracy"
    assert found.subsets[0].streams == ["hog", "hash"] and found.subsets[0].minus_all is None
    values = [subset.score.value for subset in found.subsets]
    assert values == sorted(values, reverse=True)
    for subset in found.subsets:
        name = "+".join(subset.streams)
        rows = made_up_rows(list(SKILLS).index(name), skill=SKILLS[name])
        truth, said = [r["label"] for r in rows], [r["predicted"] for r in rows]
        assert subset.score.value == pytest.approx(f1_score(truth, said, average="macro"))
        assert subset.val == SKILLS[name] / 4
        if subset.minus_all is not None:
            gap = subset.score.value - values[0]
            assert subset.minus_all.difference == pytest.approx(gap)
            assert subset.minus_all.high < 0


def test_a_table_of_other_streams_is_none_of_this_recipe(left) -> None:
    assert make_ablation(left, streams=["hash", "hog"], metric="accuracy") is not None
    assert make_ablation(left, streams=["hog"], metric="accuracy") is None
    assert make_ablation(left, streams=["hog", "hash", "logmel"], metric="accuracy") is None
    assert make_ablation(None, streams=["hog"], metric="accuracy") is None


def test_a_clip_that_one_subset_rejected_is_in_no_score(tmp_path) -> None:
    runs = {}
    for seed, name in enumerate(SKILLS):
        run = runs[name] = TrainingRun(tmp_path / name)
        rows = made_up_rows(seed, skill=SKILLS[name])
        if name == "hog":
            why = NotFiniteError("not_finite: logits of 1 of 1 ticks")
            ids = {"clip_id": rows[7]["clip_id"], "model_name": name, "model_version": "0"}
            run.rejects.replace([rejected_row(why, **ids)])
            del rows[7]
        run.predictions.replace(rows)
        history = {"metric": "val_accuracy", "best_metric": 0.5, "best_epoch": 0}
        (run.folder / "history.json").write_text(json.dumps(history))
    recipe = {"streams": {"hog": {}, "hash": {}}, "report": {"num_bootstrap": 200}}
    found = ablation(Flow(parse_recipe(recipe), tmp_path, tmp_path), runs)
    assert [row["clips"] for row in found["subsets"]] == [59, 59, 59]
    assert list(found["rejected"]) == ["clip007"]
