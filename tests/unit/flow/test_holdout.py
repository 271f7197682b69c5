"""The holdout is scored, and chooses nothing: neither epoch nor weights nor temperature."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from erray.checkpoint import load_model
from erray.corpora.holdout import HOLDOUT
from erray.flow.context import FUSION, TUNED, Flow
from erray.flow.promotion import compare_kept, verdict
from erray.flow.train import scored_splits
from erray.flow.version_folder import KEPT, kept_rows, write_version
from erray.labels import CEXPR_7
from erray.training.runs import TrainingRun, finish_run, train_in_process
from tests.unit.made_up_features import tiny_recipe, write_features

SPLITS = ["train"] * 20 + ["val"] * 24 + ["test"] * 4


def make_flow(folder: Path, *, turned: frozenset[str] = frozenset(), share: float = 0.3) -> Flow:
    """A run with features: two clips to a group; the clips ``turned`` have another label."""
    folder.mkdir()
    rows = []
    for i, split in enumerate(SPLITS):
        label = CEXPR_7.names[(i + (f"c{i}" in turned)) % 3]
        rows.append(f"c{i},{i}.mp4,{split},{split}{i // 2},{label},word {i}")
    head = "clip_id,media,split,group,label,transcript"
    (folder / "manifest.csv").write_text("\n".join([head, *rows]) + "\n")
    recipe = tiny_recipe(
        streams={"hash": {"width": 5}},
        corpus={"root": str(folder), "clock_hz": 25, "holdout_share": share},
        model={"name": "lfan", "options": {"channels": {"hash": [4]}}},
        train={"epochs": 4, "window": 16, "hop": 8, "optimiser": {"lr": 0.05}},
        report={"num_bootstrap": 100},
    )
    flow = Flow(recipe, folder / "run", folder)
    lengths = {clip.clip_id: 5 for clip in flow.clips}
    write_features(flow.tables, flow.plan, lengths, flow.clips, shard_clips=50)
    return flow


def trained(flow: Flow) -> tuple[TrainingRun, dict[str, Any]]:
    job, run = flow.job(), flow.run(FUSION)
    state = train_in_process(job, run)
    finish_run(
        run,
        job,
        state,
        labels=flow.labels,
        features=flow.plan.fingerprints,
        clock_hz=25.0,
        splits=scored_splits(flow),
    )
    return run, dict(state)


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Flow:
    return make_flow(tmp_path_factory.mktemp("holdout") / "films")


@pytest.fixture(scope="module")
def run(flow: Flow) -> TrainingRun:
    return trained(flow)[0]


def held(flow: Flow) -> frozenset[str]:
    return frozenset(clip.clip_id for clip in flow.clips if clip.split == HOLDOUT)


def test_what_is_set_apart_is_in_no_array_that_a_job_sees(flow, run):
    job, apart = flow.job(), held(flow)
    assert len(apart) == 12
    for arrays in (job.train, job.val):
        assert not apart & {place.clip_id for place in arrays.clips}
        assert not {c.group for c in flow.clips if c.clip_id in apart} & {
            place.group for place in arrays.clips
        }
    rows = run.predictions.read().to_pylist()
    assert {row["clip_id"] for row in rows if row["split"] == HOLDOUT} == apart
    assert [len([r for r in rows if r["split"] == s]) for s in ("val", "test")] == [12, 4]


def test_nothing_that_is_chosen_depends_on_its_labels(flow, run, tmp_path):
    other = make_flow(tmp_path / "films", turned=held(flow))
    run_b, state_b = trained(other)
    assert held(other) == held(flow)
    history, history_b = run.history(), run_b.history()
    for row in (*history["epochs"], *history_b["epochs"]):
        del row["seconds"]
    assert history == history_b, "epochs, scores, the best one, and the fingerprint of the job"
    (model, about), (model_b, about_b) = load_model(run.model), load_model(run_b.model)
    assert about == about_b and about.temperature != 1
    weights_b = model_b.state_dict()
    assert all(torch.equal(x, weights_b[name]) for name, x in model.state_dict().items())
    assert state_b["best_epoch"] == history["best_epoch"]
    labels, labels_b = (
        {r["clip_id"]: r["label"] for r in found.predictions.read().to_pylist()}
        for found in (run, run_b)
    )
    assert {name for name in labels if labels[name] != labels_b[name]} == held(flow)


def test_the_share_changes_the_training_and_not_the_name_of_the_data(flow, tmp_path):
    without = make_flow(tmp_path / "films", share=0.0)
    assert held(without) == frozenset() and HOLDOUT not in scored_splits(without)
    assert without.job().fingerprint != flow.job().fingerprint, "val chose by other clips"
    assert without.data_fingerprint == flow.data_fingerprint
    assert without.val_fingerprint == flow.val_fingerprint


def test_a_version_keeps_the_predictions_of_both_parts_of_val(flow, run, tmp_path):
    write_version(flow, tmp_path / "version", run.model, run=run, origin="trained here")
    rows = kept_rows(tmp_path / "version")
    assert {row["clip_id"] for row in rows if row["split"] == HOLDOUT} == held(flow)
    assert len(rows) == 24
    card = (tmp_path / "version" / "MODEL_CARD.md").read_text("utf-8")
    assert "### holdout" in card and "Compared with other versions on the holdout alone" in card


def test_a_holdout_that_a_search_over_folds_has_seen_is_kept_as_val(
    flow, run, tmp_path, monkeypatch
):
    monkeypatch.setattr(Flow, "study", lambda self: {"holdout_was_searched": True})
    assert flow.holdout_was_searched(flow.run(TUNED)) and not flow.holdout_was_searched(run)
    monkeypatch.setattr(Flow, "holdout_was_searched", lambda self, run: True)
    write_version(flow, tmp_path / "version", run.model, run=run, origin="trained here")
    rows = kept_rows(tmp_path / "version")
    assert [row["split"] for row in rows] == ["val"] * 24, "all of them chose the settings"
    assert not (tmp_path / "version" / KEPT[HOLDOUT]).exists()
    card = (tmp_path / "version" / "MODEL_CARD.md").read_text("utf-8")
    assert "Has no holdout" in card and "### holdout" not in card
    monkeypatch.undo()
    write_version(flow, tmp_path / "unseen", run.model, run=run, origin="trained here")
    names, unseen = ("searched", "unseen"), kept_rows(tmp_path / "unseen")
    judged = compare_kept(rows, unseen, names=names, metrics=["accuracy"])
    assert judged.seen == (12, 0)
    assert verdict(judged, "accuracy", names=names)[1].startswith("optimistic")
    assert compare_kept(unseen, rows, names=names, metrics=["accuracy"]).seen == (0, 12)
