"""The whole command on a tiny corpus: once from raw files to a report, then again."""

from __future__ import annotations

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from erray.checkpoint import load_model
from erray.registry import Registry
from tests import tiny_run
from tests.tiny_run import NUM_CLIPS, RECIPE, TinyRun

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

EPOCHS, TRIALS = RECIPE["train"]["epochs"], RECIPE["tune"]["num_trials"]
RULES = {"mean_logits", "mean_probabilities", "majority"}
SCORES = {"weighted_f1", "macro_f1", "accuracy"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Path, ray_dir: Path) -> TinyRun:
    root = tmp_path_factory.mktemp("pipeline")
    recipe = tiny_run.write_recipe(root / "tiny.yaml", tiny_corpus)
    return TinyRun(tiny_corpus, recipe, root / "run", root / "home", ray_dir)


@pytest.fixture(scope="module")
def printed(run: TinyRun) -> Any:
    """What ``erray pipeline --json`` prints; every test below looks at what it left behind."""
    return run.json("pipeline", timeout_s=800)


@pytest.fixture(scope="module")
def out(run: TinyRun, printed: Any) -> Path:
    return run.out


@pytest.fixture(scope="module")
def record(out: Path) -> dict[str, Any]:
    return json.loads((out / "run.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def client(run: TinyRun, printed: Any) -> MlflowClient:
    """MLflow's own client as the oracle, told nothing but the address of the default store."""
    uri = f"sqlite:///{run.home / 'mlflow.db'}"
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@pytest.fixture(scope="module")
def tracked(client: MlflowClient) -> list[Run]:
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def rows(folder: Path) -> list[dict[str, Any]]:
    """Read a table with nothing but Arrow: its rows, those of all shards together."""
    return [row for shard in shards(folder) for row in pq.ParquetFile(shard).read().to_pylist()]


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.parquet"))


def children(tracked: list[Run]) -> dict[str, Run]:
    return {r.info.run_name: r for r in tracked if "mlflow.parentRunId" in r.data.tags}


def test_the_result_is_the_report_s_numbers(out, printed):
    assert printed == json.loads((out / "report" / "metrics.json").read_text("utf-8"))
    assert set(printed) == {
        *("fusion", "tuned", "streams", "intervals", "fusion_minus_stream", "tuned_minus_fusion"),
        *("baseline", "num_test_clips", "clip_rule", "scores", "model", "seconds", "clips"),
        *("by_group", "by_length", "comparison", "macro_f1_rule", "rejected", "registered_run"),
    }
    assert set(printed["fusion"]) == set(printed["tuned"]) == RULES
    assert set(printed["streams"]) == set(RECIPE["streams"])
    for scores in (*printed["fusion"].values(), *printed["streams"].values(), printed["baseline"]):
        assert set(scores) == SCORES
        assert all(0 <= value <= 1 for value in scores.values())
    assert printed["clips"] == {"wanted": NUM_CLIPS, "done": NUM_CLIPS - 2, "rejected": 2}
    # the clip without a face is scored, the empty file is not
    assert printed["num_test_clips"] == tiny_run.NUM_SOUND_CLIPS["test"] + 1
    assert set(printed["seconds"]) >= {"extract", "train", "tune", "register", "predict"}


def test_every_clip_is_done_or_rejected_with_a_reason(out):
    clips = {row["clip_id"] for row in rows(out / "tables" / "clips")}
    status = rows(out / "tables" / "status")
    assert len(clips) == NUM_CLIPS
    tracks = {row["clip_id"]: row for row in status if row["stage"] == "tracks"}
    assert set(tracks) == clips
    rejected = {name: row["reason"] for name, row in tracks.items() if row["state"] == "rejected"}
    assert set(rejected) == {tiny_run.EMPTY, tiny_run.TEXT}
    assert rejected[tiny_run.EMPTY].startswith("empty:")
    assert rejected[tiny_run.TEXT].startswith("not_media:")
    rejects = {row["clip_id"]: row["reason"] for row in rows(out / "tables" / "rejects")}
    assert rejects == rejected
    for stream in RECIPE["streams"]:
        states = {row["clip_id"]: row["state"] for row in status if row["stage"] == stream}
        assert states == dict.fromkeys(clips - set(rejected), "done")


def test_a_cut_file_is_done_with_a_note(out):
    tracks = {r["clip_id"]: r for r in rows(out / "tables" / "status") if r["stage"] == "tracks"}
    cut = tracks[tiny_run.CUT]
    noted = re.fullmatch(r"truncated (\d+)/(\d+)", cut["note"])
    assert noted is not None
    assert 0 < int(noted[1]) == len(cut["frame_times_s"]) < int(noted[2])
    others = [row["note"] for name, row in tracks.items() if name != tiny_run.CUT]
    assert others == [None] * (NUM_CLIPS - 1)


def test_a_clip_without_a_face_keeps_its_other_streams(out):
    tables = out / "tables"
    tracks = {r["clip_id"]: r for r in rows(tables / "status") if r["stage"] == "tracks"}
    assert tracks[tiny_run.FACELESS]["num_tracks"] == 0
    assert tiny_run.FACELESS not in {row["clip_id"] for row in rows(tables / "tracks")}
    for stream, is_there in (("hog", False), ("logmel", True), ("hash", True)):
        (folder,) = (tables / "features" / stream).iterdir()
        feature = {row["clip_id"]: row for row in rows(folder)}[tiny_run.FACELESS]
        assert len(feature["present"]) == len(tracks[tiny_run.FACELESS]["frame_times_s"])
        assert any(feature["present"]) == is_there


def test_every_stream_has_a_value_per_tick_of_the_clip_s_clock(out):
    tables = out / "tables"
    status = [row for row in rows(tables / "status") if row["stage"] == "tracks"]
    clocks = {r["clip_id"]: r["frame_times_s"] for r in status if r["state"] == "done"}
    for stream in RECIPE["streams"]:
        (folder,) = (tables / "features" / stream).iterdir()
        features = {row["clip_id"]: row for row in rows(folder)}
        assert set(features) == set(clocks)
        for clip, row in features.items():
            assert row["shape"][0] == len(row["present"]) == len(clocks[clip])
            assert row["fingerprint"] == folder.name
    for row in rows(tables / "tracks"):
        assert row["times_s"] == clocks[row["clip_id"]]
    for row in rows(tables / "crops"):
        assert len(row["jpegs"]) == len(row["ticks"])
        assert all(jpeg.startswith(b"\xff\xd8") for jpeg in row["jpegs"])


def test_the_layout_holds_and_every_table_is_plain_parquet(out):
    tables = out / "tables"
    for name in ("clips", "tracks", "crops", "status", "rejects"):
        assert (tables / name).is_dir(), name
    assert {folder.name for folder in (tables / "features").iterdir()} == set(RECIPE["streams"])
    runs = ("fusion", "tuned", *RECIPE["streams"])
    for file in (
        *(f"training/{name}/history.json" for name in runs),
        *(f"training/{name}/model/model.safetensors" for name in runs),
        *("run.json", "submission.csv", "tune/study.json", "report/index.html"),
    ):
        assert (out / file).stat().st_size > 0, file
    files = sorted(out.rglob("*.parquet"))
    assert len(files) >= 12
    for file in files:
        schema = pq.ParquetFile(file).schema_arrow
        assert not extension_types(schema), file
        assert pq.read_table(file, partitioning=None).num_rows > 0 or file.parent.name.endswith(
            "rejects"
        )
    assert [p for p in out.rglob("*.tmp") if "ray" not in p.relative_to(out).parts] == []


def extension_types(schema: pa.Schema) -> list[str]:
    """Names of fields, nested ones too, that need more than Arrow's own types to be read."""
    found = [str(key) for key in schema.metadata or {} if b"extension" in key.lower()]
    waiting = list(schema)
    while waiting:
        field = waiting.pop()
        if isinstance(field.type, pa.BaseExtensionType) or any(
            b"extension" in key.lower() for key in field.metadata or {}
        ):
            found.append(field.name)
        waiting += [field.type.field(i) for i in range(field.type.num_fields)]
    return found


def test_one_tracking_run_has_all_others_below_it(tracked, record):
    (parent,) = [r for r in tracked if "mlflow.parentRunId" not in r.data.tags]
    assert parent.info.run_id == record["parent_run_id"]
    below = children(tracked)
    trials = [name for name in below if name.startswith("trial ")]
    assert set(below) == {"fusion", "tuned", *RECIPE["streams"], *trials}
    assert len(trials) == TRIALS
    for child in below.values():
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert {r.info.status for r in tracked} == {"FINISHED"}


def test_tracking_runs_say_what_they_were_made_from(tracked, record, out, printed):
    (parent,) = [r for r in tracked if "mlflow.parentRunId" not in r.data.tags]
    tags, params = parent.data.tags, parent.data.params
    if record["git_commit"] is not None:
        assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", record["git_commit"])
    assert tags.get("mlflow.source.git.commit") == record["git_commit"]
    assert tags["erray.data_fingerprint"] == record["data_fingerprint"]
    for stream in RECIPE["streams"]:
        (folder,) = (out / "tables" / "features" / stream).iterdir()
        assert tags[f"erray.features.{stream}"] == folder.name
    assert params["train.epochs"] == str(EPOCHS)
    assert params["train.optimiser.lr"] == "0.003"
    registered = record["model"]["run"]
    assert tags["erray.registered_run"] == registered == printed["registered_run"]
    assert tags["erray.registered_model"] == f"models:/tiny/{record['model']['version']}"
    for rule, scores in printed[registered].items():
        for metric, value in scores.items():
            assert parent.data.metrics[f"test.{rule}.{metric}"] == pytest.approx(value)
    history = json.loads((out / "training" / registered / "history.json").read_text())
    assert parent.data.metrics["best_val_weighted_f1"] == history["best_metric"]


def test_metrics_are_tracked_per_epoch(client, tracked, out):
    for name, child in children(tracked).items():
        history = client.get_metric_history(child.info.run_id, "val_weighted_f1")
        assert [m.step for m in history] == list(range(EPOCHS)), name
        if not name.startswith("trial "):
            epochs = json.loads((out / "training" / name / "history.json").read_text())["epochs"]
            expected = [row["val_weighted_f1"] for row in epochs]
            assert [m.value for m in history] == pytest.approx(expected)
            best = child.data.metrics["best_val_weighted_f1"], child.data.metrics["best_epoch"]
            assert best == (pytest.approx(max(expected)), expected.index(max(expected)))
            times_ms = [m.timestamp for m in history]
            assert times_ms == sorted(set(times_ms)), f"{name}: every epoch has its own time"
            loss = client.get_metric_history(child.info.run_id, "train_loss")
            assert [m.value for m in loss] == pytest.approx([row["train_loss"] for row in epochs])


def test_the_report_is_an_artifact(client, record, out, tmp_path):
    client.download_artifacts(record["parent_run_id"], "report", str(tmp_path))
    for name in ("index.html", "metrics.json"):
        assert (tmp_path / "report" / name).read_bytes() == (out / "report" / name).read_bytes()


def test_the_registered_model_is_the_one_val_prefers(run, client, record, printed, tmp_path):
    scores = {
        name: json.loads((run.out / "training" / name / "history.json").read_text())["best_metric"]
        for name in ("fusion", "tuned")
    }
    best = "tuned" if scores["tuned"] > scores["fusion"] else "fusion"
    version = client.get_model_version_by_alias("tiny", "champion")
    assert printed["model"] == {"name": "tiny", "version": str(version.version)}
    assert version.tags["erray.run"] == best
    assert version.tags["erray.data_fingerprint"] == record["data_fingerprint"]
    assert float(version.tags["metric.val_weighted_f1"]) == scores[best]

    fetched = Registry(run.home, experiment="tiny").fetch("models:/tiny@champion", tmp_path)
    model, description = load_model(fetched.folder)
    assert description.window > 0
    assert list(description.streams) == list(RECIPE["streams"])
    trained, _ = load_model(run.out / "training" / best / "model")
    weights = trained.state_dict()
    assert set(model.state_dict()) == set(weights)
    assert all(bool((weights[name] == x).all()) for name, x in model.state_dict().items())


def test_a_version_says_what_it_reads_how_good_it_is_and_for_what(run, out, record, tmp_path):
    folder = Registry(run.home, experiment="tiny").fetch("models:/tiny@champion", tmp_path).folder
    schema = json.loads((folder / "input_schema.json").read_text("utf-8"))
    model = json.loads((folder / "model.json").read_text("utf-8"))
    for name, width in model["streams"].items():
        (features,) = (out / "tables" / "features" / name).iterdir()
        assert schema["streams"][name]["width"] == width
        assert schema["streams"][name]["fingerprint"] == features.name
    assert schema["clock_hz"] is None and schema["classes"] == model["class_names"]

    kept = {row["clip_id"]: row for row in rows(folder / "val_predictions")}
    trained = rows(out / "training" / record["model"]["run"] / "predictions")
    assert kept == {row["clip_id"]: row for row in trained if row["split"] == "val"}

    card = (folder / "MODEL_CARD.md").read_text("utf-8")
    assert record["data_fingerprint"] in card
    for section in ("Data", "Scores", "Intended use", "Not intended, and in part forbidden"):
        assert f"\n## {section}\n" in card
    history = json.loads(
        (out / "training" / record["model"]["run"] / "history.json").read_text("utf-8")
    )
    val = history["epochs"][history["best_epoch"]]["val_weighted_f1"]
    assert re.search(rf"### val\n(.*\n)*\| weighted F1 \| {val:.3f} undecided \(", card)


def test_the_submission_covers_the_frame_list(run, out):
    frames = (run.corpus / "challenge_frames.txt").read_text("utf-8").split()
    with (out / "submission.csv").open(newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    assert header[0] == "image_location" and len(header) == 8
    assert [frame for frame, _ in lines] == frames
    assert {int(number) for _, number in lines} <= set(range(7))
    predictions = rows(out / "predictions")
    assert {row["split"] for row in predictions} == {"challenge"}
    assert sum(len(row["times_s"]) for row in predictions) == len(frames)


def test_extracting_again_starts_no_ray_and_computes_nothing(run, out, ray_dir, tmp_path):
    assert any(ray_dir.glob("session_*")), "the first run left no trace of Ray"
    before = {path: path.read_bytes() for path in (out / "tables").rglob("*.parquet")}
    again = replace(run, ray_dir=tmp_path)
    result = again.json("extract")
    assert result["computed"] == dict.fromkeys(("tracks", *RECIPE["streams"]), 0)
    assert (result["wanted"], result["done"], result["rejected"]) == (NUM_CLIPS, NUM_CLIPS - 2, 2)
    assert result["reasons"] == {"empty": 1, "not_media": 1}
    assert list(tmp_path.iterdir()) == []
    assert {path: path.read_bytes() for path in (out / "tables").rglob("*.parquet")} == before


def test_only_what_a_change_touches_is_computed_again(run, out, tmp_path):
    corpus = Path(shutil.copytree(run.corpus, tmp_path / "corpus"))
    shutil.copytree(out / "tables", tmp_path / "run" / "tables")
    changed = corpus / "videos" / "train" / "train_000.mp4"
    with changed.open("ab") as file:
        file.write((8).to_bytes(4, "big") + b"free")  # an empty box: other bytes, same pictures
    streams = {"hog": {}, "hash": {"width": 64}}
    recipe = tiny_run.write_recipe(tmp_path / "tiny.yaml", corpus, streams=streams)
    copy = replace(run, corpus=corpus, recipe=recipe, out=tmp_path / "run")
    result = copy.json("extract")
    # the changed file in every stage, and every clip in the stream whose option changed
    assert result["computed"] == {"tracks": 1, "hog": 1, "hash": NUM_CLIPS - 2}
    assert (result["wanted"], result["done"], result["rejected"]) == (NUM_CLIPS, NUM_CLIPS - 2, 2)
    assert len(list((copy.out / "tables" / "features" / "hash").iterdir())) == 2
    assert len(list((copy.out / "tables" / "features" / "hog").iterdir())) == 1
