"""``erray repeat`` on a small corpus with folds: every clip tested once, features computed once."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from mlflow import MlflowClient
from sklearn.metrics import f1_score

from erray.config import load_recipe
from erray.corpora import read_corpus
from erray.labels import CEXPR_7
from erray.metrics import weighted_f1
from erray.statistics import bootstrap_interval
from tests.tiny_run import TinyRun

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

NUM_FOLDS, SEEDS, VIDEOS_PER_CLASS = 3, [0, 5], 5
RECIPE: dict[str, Any] = {
    "name": "folds",
    "streams": {"hash": {"width": 32}},
    "model": {"name": "lfan", "options": {"channels": {"hash": [16]}}},
    "train": {
        "epochs": 4,
        "window": 75,
        "hop": 50,
        "optimiser": {"name": "adamw", "lr": 3e-3},
    },
    "repeat": {"seeds": SEEDS, "folds": "all"},
    "tracking": {"experiment": "folds"},
    "report": {"num_bootstrap": 200},
}


def write_corpus(root: Path) -> None:
    """C-EXPR-DB's split files for a few clips of every class, whose words alone are used."""
    folder = root / "split-0"
    folder.mkdir(parents=True)
    numbers = {name.replace(" ", "-"): i for i, name in enumerate(CEXPR_7.names)}
    (root / "class_id.yaml").write_text(yaml.safe_dump(numbers))
    lines = [
        f"{name}/{video * len(numbers) + number}_{name}_0,{number},{name.lower()} number {video}"
        for name, number in numbers.items()
        for video in range(VIDEOS_PER_CLASS)
    ]
    (folder / "train.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for split in ("val", "test"):
        (folder / f"{split}.txt").write_text(lines[0] + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, ray_dir: Path) -> TinyRun:
    root = tmp_path_factory.mktemp("folds")
    write_corpus(root / "corpus")
    corpus = {
        "kind": "cexpr",
        "root": str(root / "corpus"),
        "num_folds": NUM_FOLDS,
        "clock_hz": 5,
    }
    recipe = root / "folds.yaml"
    recipe.write_text(yaml.safe_dump(RECIPE | {"corpus": corpus}), encoding="utf-8")
    return TinyRun(root / "corpus", recipe, root / "run", root / "home", ray_dir)


@pytest.fixture(scope="module")
def printed(run: TinyRun) -> Any:
    run.json("extract")
    return run.json("repeat", timeout_s=500)


def rows(folder: Path) -> list[dict[str, Any]]:
    return [
        row
        for shard in sorted(folder.glob("*.parquet"))
        for row in pq.read_table(shard).to_pylist()
    ]


def features(run: TinyRun) -> dict[str, bytes]:
    found = (run.out / "tables" / "features").rglob("*.parquet")
    return {str(path): path.read_bytes() for path in found}


def test_every_fold_and_seed_is_a_run_of_its_own(run, printed):
    names = [f"fold{fold}-seed{seed}" for fold in range(NUM_FOLDS) for seed in SEEDS]
    assert [r["run"] for r in printed["runs"]] == [f"repeat/{name}" for name in names]
    assert printed == json.loads((run.out / "repeat.json").read_text("utf-8"))
    for name in names:
        folder = run.out / "training" / "repeat" / name
        assert (folder / "model" / "model.safetensors").is_file()
        assert json.loads((folder / "history.json").read_text("utf-8"))["epochs"]


def test_over_the_folds_every_clip_is_tested_once_by_a_model_that_had_not_seen_its_video(
    run, printed
):
    recipe = load_recipe(str(run.recipe))
    for seed in SEEDS:
        tested: list[str] = []
        for fold in range(NUM_FOLDS):
            corpus = recipe.corpus.model_copy(update={"fold": fold})
            clips = {clip.clip_id: clip for clip in read_corpus(corpus, needs_media=False).clips}
            predictions = rows(
                run.out / "training" / "repeat" / f"fold{fold}-seed{seed}" / "predictions"
            )
            assert {r["clip_id"]: r["split"] for r in predictions} == {
                clip.clip_id: clip.split for clip in clips.values() if clip.split != "train"
            }
            tested += [r["clip_id"] for r in predictions if r["split"] == "test"]
        assert len(tested) == len(set(tested)) == len(CEXPR_7) * VIDEOS_PER_CLASS


def test_mean_spread_and_pooled_scores_are_those_of_the_stored_predictions(run, printed):
    tests = {}
    for r in printed["runs"]:
        predictions = rows(run.out / "training" / r["run"] / "predictions")
        tests[r["fold"], r["seed"]] = [p for p in predictions if p["split"] == "test"]
    scores = {
        key: f1_score(
            [p["label"] for p in t],
            [p["predicted"] for p in t],
            average="weighted",
            zero_division=0,
        )
        for key, t in tests.items()
    }
    for r in printed["runs"]:
        found = r["scores"]["test"]["clip"]["weighted_f1"]
        assert found == pytest.approx(scores[r["fold"], r["seed"]])
    spread = printed["spread"]["test"]["clip"]["weighted_f1"]
    assert spread["mean"] == pytest.approx(np.mean(list(scores.values())))
    assert spread["std"] == pytest.approx(np.std(list(scores.values()), ddof=1))

    together = [p for t in tests.values() for p in t]
    assert printed["pooled"]["predictions"] == len(together)
    interval = bootstrap_interval(
        weighted_f1,
        [CEXPR_7.index(p["label"]) for p in together],
        [CEXPR_7.index(p["predicted"]) for p in together],
        len(CEXPR_7),
        groups=[p["group"] for p in together],
        num_samples=RECIPE["report"]["num_bootstrap"],
    )
    found = printed["pooled"]["clip"]["weighted_f1"]
    assert found == pytest.approx(asdict(interval))


def test_words_that_name_the_class_are_learnt(printed):
    assert printed["pooled"]["clip"]["accuracy"]["low"] > 1 / len(CEXPR_7)


def test_runs_are_tracked_below_one_parent(run, printed):
    uri = f"sqlite:///{run.home / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    experiment = client.get_experiment_by_name("folds")
    tracked = client.search_runs([experiment.experiment_id])
    (parent,) = [r for r in tracked if "mlflow.parentRunId" not in r.data.tags]
    children = {r.info.run_name: r for r in tracked if r is not parent}
    assert children.keys() == {r["run"].removeprefix("repeat/") for r in printed["runs"]}
    assert {r.data.tags["mlflow.parentRunId"] for r in children.values()} == {parent.info.run_id}
    assert {r.data.params["seed"] for r in children.values()} == {str(seed) for seed in SEEDS}
    data = {r.data.tags["erray.data_fingerprint"] for r in children.values()}
    assert len(data) == NUM_FOLDS, "other splits are other data"
    mean = printed["spread"]["test"]["clip"]["weighted_f1"]["mean"]
    assert parent.data.metrics["repeat.test.clip.weighted_f1.mean"] == pytest.approx(mean)
    assert "repeat.json" in [f.path for f in client.list_artifacts(parent.info.run_id)]


def test_a_second_run_and_one_more_seed_train_only_what_is_missing(run, printed):
    before, folder = features(run), run.out / "training" / "repeat"
    states = {path: path.stat().st_mtime_ns for path in folder.glob("*/state.pt")}
    assert before and len(states) == NUM_FOLDS * len(SEEDS)
    again = run.json("repeat", "-o", f"repeat.seeds={[*SEEDS, 6]}", "-o", "repeat.folds=[1]")
    kept = {r["run"]: r for r in printed["runs"]}
    assert [r["run"] for r in again["runs"]] == [f"repeat/fold1-seed{s}" for s in (*SEEDS, 6)]
    assert [kept.get(r["run"], r) for r in again["runs"]] == again["runs"]
    assert {path: path.stat().st_mtime_ns for path in states} == states
    assert len(list(folder.glob("*/state.pt"))) == len(states) + 1
    assert features(run) == before, "no feature was computed again"
