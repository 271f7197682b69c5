"""The predictor in a plain shell: a saved model over stored features."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.special import softmax

from erray import predictions
from erray.checkpoint import ModelDescription, load_model, save_model
from erray.errors import UserError
from erray.labels import BASIC_7, CEXPR_7, CEXPR_8, LabelSet
from erray.plan import TRACKS, Plan
from erray.predictions import pair_rule, predict_clips
from erray.predictor import Predictor
from erray.records import PREDICTION_SCHEMA, Clip, tensor_columns, tensor_from_columns
from erray.store import RunFolder, Table
from erray.windows import WindowSample, collate
from tests.unit.made_up_features import (
    Features,
    clock_s,
    tiny_clips,
    tiny_recipe,
    write_features,
)

PLAN = Plan(tiny_recipe())
CLIPS = [*tiny_clips(2), *tiny_clips(3, split="challenge", labelled=False)]
LENGTHS = {clip.clip_id: 2 + 9 * i for i, clip in enumerate(CLIPS)}
WINDOW, HOP = 12, 8


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(str(tmp_path / "run"))


@pytest.fixture
def features(run: RunFolder) -> Features:
    return write_features(run, PLAN, LENGTHS, CLIPS, shard_clips=2)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(tmp_path / "model", {name: PLAN.fingerprints[name] for name in PLAN.modalities})


def save(
    folder: Path,
    fingerprints: dict[str, str],
    *,
    temperature: float = 1.0,
    labels: LabelSet = CEXPR_7,
) -> Path:
    description = ModelDescription(
        model="lfan",
        options={"channels": {name: [5] for name in fingerprints}},
        streams={name: PLAN.widths[name] for name in fingerprints},
        labels=labels.name,
        class_names=labels.names,
        features=fingerprints,
        window=WINDOW,
        hop=HOP,
        clip_rule="mean_logits",
        temperature=temperature,
    )
    torch.manual_seed(0)
    save_model(folder, description.build(), description)
    return folder


def predictor(model: Path, run: RunFolder, *, pair_rule: str | None = None) -> Predictor:
    return Predictor(
        pair_rule=pair_rule,
        model=str(model),
        run=run,
        table=run.predictions.path,
        rejects=run.prediction_rejects.path,
        model_name="tiny",
        model_version="3",
    )


def rows(run: RunFolder, clips: list[Clip]) -> pa.Table:
    shards = {
        name: run.features(name, PLAN.fingerprints[name]).shard_of_key() for name in PLAN.modalities
    }
    return pa.Table.from_pylist(
        [
            asdict(clip)
            | {"frame_times_s": clock_s(LENGTHS[clip.clip_id])}
            | {f"key_{name}": PLAN.key(name, clip) for name in PLAN.modalities}
            | {f"shard_{name}": shards[name][PLAN.key(name, clip)] for name in PLAN.modalities}
            for clip in clips
        ]
    )


def logits_of(row: dict) -> np.ndarray:
    return tensor_from_columns(row["logits"], row["shape"], row["dtype"])


def test_every_clip_of_a_batch_is_predicted_and_written(run, features, model):
    returned = predictor(model, run)(rows(run, CLIPS))
    assert returned["clip_id"].to_pylist() == [clip.clip_id for clip in CLIPS]
    written = run.predictions.read().to_pylist()
    for clip, row in zip(CLIPS, written, strict=True):
        expected = {"clip_id": clip.clip_id, "split": clip.split, "group": clip.group}
        expected |= {"label": clip.label, "model_name": "tiny", "model_version": "3"}
        expected |= {"clip_rule": "mean_logits", "classes": list(CEXPR_7.names)}
        assert {name: row[name] for name in expected} == expected
        assert row["times_s"] == clock_s(LENGTHS[clip.clip_id])
        assert row["shape"] == [LENGTHS[clip.clip_id], 7]
        assert row["predicted"] == CEXPR_7.names[logits_of(row).mean(axis=0).argmax()]


def test_a_temperature_is_in_the_probabilities_and_not_in_the_logits(run, features, tmp_path):
    fingerprints = {name: PLAN.fingerprints[name] for name in PLAN.modalities}
    found = {}
    for temperature in (1.0, 2.5):
        model = save(tmp_path / str(temperature), fingerprints, temperature=temperature)
        run.predictions.clear()
        predictor(model, run)(rows(run, CLIPS))
        found[temperature] = run.predictions.read().to_pylist()
    for plain, scaled in zip(found[1.0], found[2.5], strict=True):
        assert (scaled["logits"], scaled["predicted"]) == (plain["logits"], plain["predicted"])
        np.testing.assert_allclose(
            scaled["probabilities"], softmax(logits_of(plain).mean(0) / 2.5), rtol=1e-6
        )


@pytest.mark.parametrize("rule", ["sum", "product"])
def test_a_model_of_basic_emotions_predicts_pairs(run, features, tmp_path, rule):
    fingerprints = {name: PLAN.fingerprints[name] for name in PLAN.modalities}
    model = save(tmp_path / "basic", fingerprints, temperature=2.5, labels=BASIC_7)
    predictor(model, run)(rows(run, CLIPS))
    basic = run.predictions.read().to_pylist()
    run.predictions.clear()
    predictor(model, run, pair_rule=rule)(rows(run, CLIPS))
    combine = {"sum": np.add, "product": np.multiply}[rule]
    for own, paired in zip(basic, run.predictions.read().to_pylist(), strict=True):
        assert (own["classes"], paired["classes"]) == (list(BASIC_7.names), list(CEXPR_7.names))
        x_TC = softmax(logits_of(own).astype(float), axis=1)  # the temperature is of clips
        fear_surprise_T = combine(x_TC[:, 3], x_TC[:, 2])
        anger_sadness_T = combine(x_TC[:, 4], x_TC[:, 6])
        paired_TC = softmax(logits_of(paired).astype(float), axis=1)
        np.testing.assert_allclose(
            paired_TC[:, 0] / paired_TC[:, 6], fear_surprise_T / anger_sadness_T, rtol=1e-4
        )
        np.testing.assert_allclose(
            paired["probabilities"], softmax(logits_of(paired).mean(0)), rtol=1e-5
        )
        assert paired["predicted"] == CEXPR_7.names[int(np.argmax(paired["probabilities"]))]


@pytest.mark.parametrize(
    ("model_labels", "corpus_labels", "expected"),
    [
        (BASIC_7, CEXPR_7, "product"),
        (BASIC_7, CEXPR_8, "product"),
        (BASIC_7, BASIC_7, None),
        (CEXPR_7, CEXPR_7, None),
        (CEXPR_8, BASIC_7, None),
    ],
)
def test_pairs_are_made_where_a_basic_model_meets_a_compound_corpus(
    tmp_path, model_labels, corpus_labels, expected
):
    recipe = tiny_recipe(corpus={"labels": corpus_labels.name}, predict={"pair_rule": "product"})
    model = save(tmp_path / "model", {"hog": "0" * 16}, labels=model_labels)
    assert pair_rule(recipe, load_model(model)[1]) == expected


def test_a_short_clip_is_the_model_on_its_features(run, features, model):
    worker = predictor(model, run)
    worker(rows(run, CLIPS))
    streams = features[CLIPS[0].clip_id]
    window = WindowSample(
        streams={name: stream.values_TD for name, stream in streams.items()},
        present={name: stream.present_T for name, stream in streams.items()},
        label=-1,
        clip=0,
        start=0,
    )
    batch = collate([window]).to(worker.device)
    with torch.no_grad():
        expected_TC = worker.model(batch.streams, batch.present, batch.valid_BT)[0].cpu().numpy()
    np.testing.assert_allclose(
        logits_of(run.predictions.read().to_pylist()[0]), expected_TC, atol=2e-6
    )


def test_batches_change_no_prediction(run, features, model):
    worker = predictor(model, run)
    worker(rows(run, CLIPS))
    together = {row["clip_id"]: logits_of(row) for row in run.predictions.read().to_pylist()}
    alone = Table(run.path("alone"), PREDICTION_SCHEMA)
    worker.table = alone
    for clip in CLIPS:
        worker(rows(run, [clip]))
    found = alone.read().to_pylist()
    assert len(found) == len(CLIPS) == len(alone.shards())
    for row in found:
        np.testing.assert_allclose(logits_of(row), together[row["clip_id"]], atol=2e-6)


def without_ray(monkeypatch) -> None:
    def run_here(plan, made_rows, settings):
        Predictor(**settings)(pa.Table.from_pylist(list(made_rows)))

    monkeypatch.setattr(predictions, "_run", run_here)


def spoil(run: RunFolder, clips: list[Clip]) -> None:
    """Make the features of clips so large that the model's sums are infinite."""
    table = run.features("hog", PLAN.fingerprints["hog"])
    keys = {PLAN.key("hog", clip) for clip in clips}
    for shard in table.shards():
        found = table.read(shards=[shard]).to_pylist()
        for row in found:
            if row["key"] in keys:
                huge_TD = np.full(row["shape"], 3e38, np.float32)
                row.update(tensor_columns(huge_TD), present=[True] * len(huge_TD))
        changed = [pa.Table.from_pylist(found, schema=table.schema)]
        table.write(shard.rsplit("/", 1)[-1], changed.copy)


def test_a_clip_without_finite_logits_is_rejected_and_its_mates_are_not(
    run, features, model, monkeypatch
):
    without_ray(monkeypatch)
    options = {"model": model, "model_name": "tiny", "model_version": "3"}
    before = {r["clip_id"]: r for r in predict_clips(PLAN.recipe, CLIPS, run.out, **options).rows()}
    spoil(run, [CLIPS[1]])
    found = predict_clips(PLAN.recipe, CLIPS, run.out, **options)
    after = {row["clip_id"]: row for row in found.rows()}
    assert set(found.rejected) == {CLIPS[1].clip_id} == before.keys() - after.keys()
    assert len(after) + len(found.rejected) == len(CLIPS)
    reason = found.rejected[CLIPS[1].clip_id]
    assert reason.startswith(f"not_finite: logits of {LENGTHS[CLIPS[1].clip_id]} of ")
    assert reason.endswith("(model tiny version 3)")
    (row,) = run.prediction_rejects.read().to_pylist()
    assert (row["clip_id"], row["stage"], row["state"]) == (CLIPS[1].clip_id, "predict", "rejected")
    for clip_id, row in after.items():
        np.testing.assert_allclose(logits_of(row), logits_of(before[clip_id]), atol=2e-6)
    assert {t.clip_id for t in found.timelines(PLAN.recipe.predict.smoothing)} == after.keys()


def test_where_no_clip_can_be_predicted_there_is_one_line(run, features, model, monkeypatch):
    without_ray(monkeypatch)
    spoil(run, CLIPS)
    with pytest.raises(UserError, match=r"not one of 5 clips could be predicted, .*not_finite"):
        predict_clips(PLAN.recipe, CLIPS, run.out, model=model, model_name="m", model_version="1")
    assert run.predictions.read().num_rows == 0
    assert run.prediction_rejects.read().num_rows == len(CLIPS)


@pytest.mark.parametrize("rule", ["sum", "product"])
def test_pairs_of_what_is_not_finite_are_rejected_too(run, features, tmp_path, rule):
    fingerprints = {name: PLAN.fingerprints[name] for name in PLAN.modalities}
    model = save(tmp_path / "basic", fingerprints, labels=BASIC_7)
    spoil(run, [CLIPS[0]])
    predictor(model, run, pair_rule=rule)(rows(run, CLIPS))
    assert run.prediction_rejects.read()["clip_id"].to_pylist() == [CLIPS[0].clip_id]
    assert CLIPS[0].clip_id not in run.predictions.read()["clip_id"].to_pylist()


def test_features_of_other_settings_are_refused(run, features, tmp_path):
    stale = save(tmp_path / "stale", {"hog": "0" * 16})
    found = PLAN.fingerprints["hog"]
    message = f"needs stream 'hog' with fingerprint {'0' * 16}, the recipe extracts {found}"
    options = {"model": stale, "model_name": "m", "model_version": "1"}
    with pytest.raises(UserError, match=message):
        predict_clips(PLAN.recipe, CLIPS, run.out, **options)
    blind = tiny_recipe(streams={"hash": {"width": 5}})
    with pytest.raises(UserError, match="the recipe extracts no such stream"):
        predict_clips(blind, CLIPS, run.out, **options)


def test_clips_without_features_are_refused_before_anything_starts(run, model):
    strangers = tiny_clips(2, split="stranger")
    assert PLAN.key(TRACKS, strangers[0]) != PLAN.key(TRACKS, CLIPS[0])
    with pytest.raises(UserError, match="run `erray extract`"):
        predict_clips(
            PLAN.recipe, strangers, run.out, model=model, model_name="m", model_version="1"
        )
    assert run.predictions.shards() == []
