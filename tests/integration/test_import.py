"""``erray import``: a published checkpoint, from its file to predictions on real media."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from torch import Tensor

from erray.checkpoint import load_model
from erray.cli.main import main
from erray.config import load_recipe
from erray.encoders.weights import sha256_of
from erray.importing import read_checkpoint
from erray.plan import Plan
from erray.records import tensor_from_columns
from erray.store import RunFolder
from tests.tiny_run import REPOSITORY
from tests.unit.importing.published_files import (
    all_tensors,
    cases,
    made_by_rule,
    write_checkpoint,
    write_config,
)

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

IR50 = json.loads((REPOSITORY / "tests/assets/reference/ir50.json").read_text("utf-8"))["ir50"]
CLIPS = {"train": 2, "test": 2}


def face_only() -> dict[str, Tensor]:
    """A published LFAN with the visual stream alone, its backbone inside."""
    kept = {n: s for n, s in cases()["lfan_vt"]["parameters"].items() if "bert" not in n}
    width = {64: 32, 192: 160}  # of two streams' attention, of what the head reads
    shapes = {
        name: [width.get(size, size) for size in shape]
        if name.startswith(("fus", "reg"))
        else shape
        for name, shape in kept.items()
    }
    backbone = {f"spatial.visual.{name}": shape for name, shape in IR50["parameters"].items()}
    return {
        name: made_by_rule(name.removeprefix("spatial.visual."), shape)
        for name, shape in (shapes | backbone).items()
    }


@dataclass(frozen=True)
class Command:
    """The real command in a process of its own."""

    folder: Path
    environment: Mapping[str, str]

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(Path(sys.executable).with_name("erray")), *arguments],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )


@dataclass(frozen=True)
class Imported:
    """What was said and printed on the way to predictions, and where it lies."""

    folder: Path
    refused: str
    said: str
    result: dict[str, Any]
    predicted: dict[str, Any]

    @property
    def run(self) -> Path:
        return self.folder / "run"


@pytest.fixture(scope="module")
def few_clips(tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Path) -> Path:
    root = shutil.copytree(tiny_corpus, tmp_path_factory.mktemp("few") / "corpus")
    with (root / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    chosen = [row for s, n in CLIPS.items() for row in [r for r in rows if r["split"] == s][:n]]
    with (root / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(chosen)
    return root


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory, few_clips: Path, ray_dir: Path) -> Imported:
    folder = tmp_path_factory.mktemp("import")
    write_checkpoint(folder / "model.pt", face_only())
    write_config(
        folder / "config.yml",
        dataset_name="C-EXPR-DB",
        modality="video+EXPR_continuous_label",
        window_length=10,
        hop_length=6,
    )
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    environment |= {"ERRAY_HOME": str(folder / "home"), "RAY_TMPDIR": str(ray_dir)}
    command = Command(folder, environment | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"})
    overrides = [f"corpus.root={few_clips}", "corpus.kind=manifest", "corpus.protocol=strict"]
    options = [part for o in (*overrides, "corpus.clock_hz=5") for part in ("-o", o)]
    arguments = ["import", "model.pt", "--config", "config.yml", "--out", "run", *options]
    refused = command(*arguments)
    assert refused.returncode == 2, refused.stderr
    advised = re.search(r"`erray (extract [^`]+)`", refused.stderr)
    assert advised is not None, refused.stderr
    assert command(*shlex.split(advised[1])).returncode == 0
    done = command(*arguments, "--name", "old lfan", "--alias", "published", "--json")
    assert done.returncode == 0, done.stderr
    following = re.search(r"Next: +erray (.+)", done.stderr)
    assert following is not None, done.stderr
    predicted = command(*shlex.split(following[1]), "--json")
    assert predicted.returncode == 0, predicted.stderr
    results = json.loads(done.stdout), json.loads(predicted.stdout)
    return Imported(folder, refused.stderr, done.stderr, *results)


def test_without_features_to_normalise_by_both_ways_out_are_said(imported):
    assert len(imported.refused.strip().splitlines()) == 1
    assert "does not hold the mean and std" in imported.refused
    assert "or pass --normaliser none" in imported.refused


def test_what_had_no_effect_is_said_in_one_line(imported):
    (line,) = [x for x in imported.said.splitlines() if x.startswith("Options without effect")]
    assert "opt__lr (never reached the optimiser, which ran at 0.001)" in line
    assert "emotion (belongs to another task)" in line
    assert imported.result["not_taken"]["dataset_path"] == "a folder of the machine it ran on"


def test_the_model_is_registered_with_where_it_came_from(imported):
    assert (imported.result["name"], imported.result["version"]) == ("old lfan", "1")
    uri = f"sqlite:///{imported.folder / 'home' / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    version = client.get_model_version_by_alias("old lfan", "published")
    assert version.tags["erray.run"] == "imported"
    assert version.tags["erray.imported.sha256"] == sha256_of(imported.folder / "model.pt")
    assert version.tags["erray.imported.normaliser"] == "train"
    logged = {file.path for file in client.list_artifacts(version.run_id)}
    assert {"config.yml", "recipe.json", "model"} <= logged


def features_by_split(imported: Imported, recipe_file: Path) -> dict[str, dict[str, Any]]:
    """Split to clip id to (values [T, D], present [T]), read with nothing but the store."""
    recipe = load_recipe(str(recipe_file))
    run, plan = RunFolder.of(recipe, str(imported.run)), Plan(recipe)
    split_of = {row["clip_id"]: row["split"] for row in run.clips.read().to_pylist()}
    found: dict[str, dict[str, Any]] = {}
    for row in run.features("ir50", plan.fingerprints["ir50"]).read().to_pylist():
        values_TD = tensor_from_columns(row["values"], row["shape"], row["dtype"])
        clips = found.setdefault(split_of[row["clip_id"]], {})
        clips[row["clip_id"]] = values_TD, np.array(row["present"])
    return found


def test_predictions_are_the_published_models_on_normalised_features(imported):
    recipe_file = Path(imported.result["recipe"])
    features = features_by_split(imported, recipe_file)
    assert {split: len(clips) for split, clips in features.items()} == CLIPS
    train = np.concatenate([x_TD[present_T] for x_TD, present_T in features["train"].values()])
    checkpoint = read_checkpoint(imported.folder / "model.pt")
    model = checkpoint.build({**checkpoint.options, "num_heads": 2})
    assert imported.predicted["clips"] == CLIPS["test"]
    rows = RunFolder(str(imported.run)).predictions.read().to_pylist()
    for row in rows:
        assert (row["model_name"], row["model_version"]) == ("old lfan", "1")
        x_TD, present_T = features["test"][row["clip_id"]]
        x_TD = (x_TD - train.mean(axis=0, dtype=np.float64)) / train.std(axis=0, dtype=np.float64)
        sums_TC, counts_T = np.zeros((len(x_TD), 7)), np.zeros((len(x_TD), 1))
        for start in sorted({*range(0, len(x_TD) - 10, 6), max(len(x_TD) - 10, 0)}):
            ticks = slice(start, start + 10)
            x_1TD = torch.from_numpy(x_TD[ticks].astype(np.float32))[None]
            present_1T = torch.from_numpy(present_T[ticks])[None]
            with torch.no_grad():
                everywhere_1T = torch.ones_like(present_1T)
                logits = model({"ir50": x_1TD}, {"ir50": present_1T}, everywhere_1T)
            sums_TC[ticks] += logits[0].numpy()
            counts_T[ticks] += 1
        found_TC = tensor_from_columns(row["logits"], row["shape"], row["dtype"])
        np.testing.assert_allclose(found_TC, sums_TC / counts_T, atol=1e-5)


def test_the_recipe_and_the_model_say_the_same(imported):
    recipe = load_recipe(imported.result["recipe"])
    model, description = load_model(Path(imported.result["folder"]))
    assert description.features == {"ir50": Plan(recipe).fingerprints["ir50"]}
    assert description.options == recipe.model.options
    assert (description.window, description.hop) == (10, 6)
    assert recipe.streams["ir50"]["weights"] == str(imported.folder / "model.pt")
    assert torch.equal(model.head.weight, made_by_rule("regressor.weight", [7, 160]))


@pytest.mark.parametrize("calc_mean_std", [True, False])
def test_features_may_enter_as_they_are(tmp_path, monkeypatch, capsys, calc_mean_std):
    monkeypatch.setenv("ERRAY_HOME", str(tmp_path / "home"))
    write_checkpoint(tmp_path / "model.pt", all_tensors(cases()["jmt_av_published_axis"]))
    config = write_config(
        tmp_path / "config.yml",
        model_name="JMT",
        modality="video+vggish+EXPR_continuous_label",
        calc_mean_std=calc_mean_std,
    )
    (tmp_path / "weights").write_bytes(b"only their hash is asked for")
    weights = [f"streams.{name}.weights={tmp_path / 'weights'}" for name in ("ir50", "vggish")]
    options = [part for override in weights for part in ("-o", override)]
    more = ["--normaliser", "none"] if calc_mean_std else ["-o", "streams.vggish.align=centre"]
    arguments = ["import", str(tmp_path / "model.pt"), "--config", str(config), *options, *more]
    with pytest.raises(SystemExit) as caught:
        main([*arguments, "--json"])
    printed = capsys.readouterr()
    assert caught.value.code == 0, printed.err
    result = json.loads(printed.out)
    assert result["normaliser"] == "none" and result["name"] == "imported-meld-jmt"
    assert ("predictions will be wrong" in printed.err) == calc_mean_std
    assert ("vggish.align is centre" in printed.err) != calc_mean_std
    assert "windows are scored one at a time" in printed.err
    model, description = load_model(Path(result["folder"]))
    assert (description.model, description.labels) == ("jmt", "basic7")
    assert description.options["fusion_axis"] == "published"
    mean_D = model.encoders["ir50"].normaliser.mean
    assert torch.equal(mean_D, torch.zeros(512))
