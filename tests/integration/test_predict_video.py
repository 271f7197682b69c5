"""``erray predict`` over media: no corpus, no recipe, only a registered model."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from scipy.special import softmax

from erray.checkpoint import ModelDescription, save_model
from erray.config import load_recipe
from erray.labels import BASIC_7, CEXPR_7
from erray.media import VideoReader, read_waveform
from erray.plan import Plan
from erray.registry import Registry
from tests.tiny_run import write_faceless

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

TEMPERATURE = 1.5


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a model of basic emotions, its weights as they are drawn, and its recipe."""
    root = tmp_path_factory.mktemp("store")
    recipe = load_recipe("demo", ["streams={hog: {}}", "model.options.channels={}"])
    plan = Plan(recipe)
    description = ModelDescription(
        model="lfan",
        options={"leader": "hog", "channels": {"hog": [4]}},
        streams=plan.widths,
        labels=BASIC_7.name,
        class_names=BASIC_7.names,
        features={name: plan.fingerprints[name] for name in plan.modalities},
        window=75,
        hop=50,
        clip_rule="mean_logits",
        temperature=TEMPERATURE,
    )
    torch.manual_seed(0)
    save_model(root / "model", description.build(), description)
    registry = Registry(root / "home", experiment="t")
    run = registry.start_run("trained")
    registry.log_dict(run, recipe.model_dump(mode="json"), "recipe.json")
    registry.register(run, root / "model", model_name="basic")
    return root / "home"


@pytest.fixture(scope="module")
def films(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film with a face, one without, and a text that only has the name of one."""
    folder = tmp_path_factory.mktemp("films")
    shutil.copy(next((tiny_corpus / "videos").rglob("*.mp4")), folder / "face.mp4")
    write_faceless(folder / "none.mp4")
    (folder / "text.mp4").write_text("Not a film.\n")
    return folder


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("media") / "out"


@pytest.fixture(scope="module")
def printed(home: Path, films: Path, out: Path, ray_dir: Path) -> Any:
    options = ["--model", "models:/basic/1", "--out", str(out), "--annotate", "--json"]
    options += ["-o", "corpus.labels=cexpr7"]
    options += ["-o", "predict.smoothing.kind=gaussian", "-o", "predict.smoothing.width=0.2"]
    outer = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [str(Path(sys.executable).with_name("erray")), "predict", str(films), *options],
        env=outer | {"ERRAY_HOME": str(home), "RAY_TMPDIR": str(ray_dir)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def predictions(out: Path) -> dict[str, dict[str, Any]]:
    shards = (out / "predictions").glob("*.parquet")
    rows = [row for shard in shards for row in pq.ParquetFile(shard).read().to_pylist()]
    return {row["clip_id"]: row for row in rows}


def test_every_film_has_its_emotion_and_what_is_none_its_reason(printed, films, out):
    assert [Path(video["video"]) for video in printed["videos"]] == [
        films / "face.mp4",
        films / "none.mp4",
    ]
    assert set(printed["rejected"]) == {"text"}
    assert printed["rejected"]["text"].startswith("not_media")
    assert printed["pair_rule"] == "sum"
    rows = predictions(out)
    for name, video in zip(("face", "none"), printed["videos"], strict=True):
        assert video["predicted"] == rows[name]["predicted"]
        assert set(video["probabilities"]) == set(CEXPR_7.names)
        assert video["confidence"] == max(video["probabilities"].values())
        assert sum(video["probabilities"].values()) == pytest.approx(1)
    assert printed["videos"][0]["face_share"] > 0.9 and printed["videos"][1]["face_share"] == 0


def test_timelines_are_the_smoothed_probabilities_of_the_table(printed, out):
    row = predictions(out)["face"]
    x_TC = softmax(np.frombuffer(row["logits"], "<f4").reshape(row["shape"]).astype(float), axis=1)
    distance_TT = np.subtract.outer(row["times_s"], row["times_s"])
    weight_TT = np.exp(-0.5 * (distance_TT / 0.2) ** 2) * (np.abs(distance_TT) <= 0.8)
    expected_TC = weight_TT @ x_TC / weight_TT.sum(1, keepdims=True)
    with Path(printed["videos"][0]["timeline"]).open(newline="") as file:
        header, *lines = csv.reader(file)
    assert header == ["time_s", *CEXPR_7.names, "label"]
    found_TC = np.array([line[1:-1] for line in lines], float)
    np.testing.assert_allclose(found_TC, expected_TC, atol=1e-5)
    assert [line[-1] for line in lines] == [CEXPR_7.names[i] for i in expected_TC.argmax(1)]


def test_the_annotated_video_keeps_frames_times_and_sound(printed, films):
    source = list(VideoReader(films / "face.mp4"))
    drawn = list(VideoReader(printed["videos"][0]["annotated"]))
    first_s = source[0][0]
    assert [t for t, _ in drawn] == pytest.approx([t - first_s for t, _ in source], abs=1e-3)
    (height_px, width_px, _), (source_height_px, source_width_px, _) = (
        drawn[0][1].shape,
        source[0][1].shape,
    )
    assert width_px > 1.3 * height_px * source_width_px / source_height_px, "a panel beside"
    sounds = [read_waveform(p) for p in (films / "face.mp4", printed["videos"][0]["annotated"])]
    assert sounds[0] is not None and sounds[1] is not None
    lengths = [len(sound.samples_N) / sound.rate_hz for sound in sounds if sound is not None]
    assert lengths[1] == pytest.approx(lengths[0], abs=0.1)


def test_what_was_predicted_stands_in_a_manifest(printed, out, films):
    lines = (out / "manifest.csv").read_text().splitlines()
    assert lines[1:] == [f"{name},{name}.mp4,media" for name in ("face", "none", "text")]
