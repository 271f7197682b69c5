"""A made-up run folder: everything that the report reads, without training anything.

The logits rise towards the label over a clip, more so for the fused model than for single streams;
the faces are crops of a public-domain portrait that ships with scikit-image.
"""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter1d
from skimage import data

from erray.config import Recipe, load_recipe
from erray.labels import LABEL_SETS
from erray.metrics import clip_prediction
from erray.plan import TRACKS, Plan
from erray.records import DONE, PREDICTION_SCHEMA, REJECTED, Clip, tensor_columns
from erray.run_record import RunRecord
from erray.store import RunFolder, Table

HOSTILE = 'He said </script><script>window.broken = 1</script> & "left" <b>quietly</b>'
HOSTILE_GROUP = "</td></p><script>window.broken = 2</script>"
RATE_HZ = 25.0
SKILL = {"fusion": 2.7, "tuned": 2.9, "hog": 2.1, "logmel": 1.2, "hash": 0.8}
TEMPERATURES = {"fusion": 1.3, "tuned": 1.7}
CLASSES = LABEL_SETS["cexpr7"].names


@dataclass
class MadeUpRun:
    """The folder, and what it was made from."""

    out: str
    recipe: Recipe
    clips: list[Clip]
    predictions: dict[str, list[dict[str, Any]]]


def make_run(
    out: Path,
    *,
    clips_per_split: dict[str, int],
    overrides: list[str],
    classes: tuple[str, ...] = CLASSES,
) -> MadeUpRun:
    """Write a whole run folder.

    Test clips say hostile things, the first two are of a hostile group, the first has one tick.
    """
    rng = np.random.default_rng(7)
    recipe = load_recipe("demo", ["corpus.root=/nowhere", *overrides])
    clips = _clips(clips_per_split, classes)
    folder, plan = RunFolder(str(out)).create(), Plan(recipe)
    folder.clips.replace([asdict(clip) for clip in clips])
    num_ticks = {clip.clip_id: int(rng.integers(40, 110)) for clip in clips}
    num_ticks[next(c.clip_id for c in clips if c.split == "test")] = 1
    rejected = {clips[3].clip_id, clips[9].clip_id}
    kept = [clip for clip in clips if clip.clip_id not in rejected]
    _write_extraction(folder, plan, clips, rejected, num_ticks, rng)
    predictions = {}
    for run, skill in SKILL.items():
        scored = [clip for clip in kept if clip.split in ("val", "holdout", "test")]
        rows = [_prediction(clip, num_ticks[clip.clip_id], skill, rng, classes) for clip in scored]
        Table(folder.path("training", run, "predictions"), PREDICTION_SCHEMA).replace(rows)
        _write_json(out / "training" / run / "history.json", _history(run, skill, rng))
        if run in TEMPERATURES:
            _write_json(
                out / "training" / run / "model" / "model.json", {"temperature": TEMPERATURES[run]}
            )
        predictions[run] = rows
    unlabelled = [clip for clip in kept if clip.split == "challenge"]
    rows = [_prediction(clip, num_ticks[clip.clip_id], 3.0, rng, classes) for clip in unlabelled]
    folder.predictions.replace(rows)
    _write_json(out / "tune" / "study.json", _study(rng))
    _write_json(out / "ablation.json", _ablation(list(recipe.streams), rng))
    (out / "submission.csv").write_text("image_location\n")
    _write_record(str(out), num_clips=len(clips), num_rejected=len(rejected))
    return MadeUpRun(str(out), recipe, clips, predictions)


def _clips(clips_per_split: dict[str, int], classes: tuple[str, ...]) -> list[Clip]:
    said = ["No way, you actually did it!", "I can't believe they left without me.", "", None]
    clips = [
        Clip(
            clip_id=f"{split}/{i:03d}",
            media=f"{split}/{i:03d}.mp4",
            split=split,
            group=HOSTILE_GROUP if (split, i // 2) == ("test", 0) else f"{split}-{i // 2}",
            label=None if split == "challenge" else classes[i % len(classes)],
            transcript=said[i % len(said)],
            file_sha256=f"{split}{i}",
        )
        for split, num in clips_per_split.items()
        for i in range(num)
    ]
    return [
        replace(clip, transcript=HOSTILE) if clip.split == "test" and clip.transcript else clip
        for clip in clips
    ]


def _prediction(
    clip: Clip, num_ticks: int, skill: float, rng: Any, classes: tuple[str, ...]
) -> dict[str, Any]:
    noise_TC = gaussian_filter1d(rng.normal(size=(num_ticks, len(classes))), 6, axis=0) * 5
    rise_T = np.sin(np.pi * (np.arange(num_ticks) + 0.5) / num_ticks) ** 0.7
    noise_TC += rng.normal(size=len(classes)) * 1.1 * rise_T[:, None]
    acted = classes.index(clip.label) if clip.label else int(rng.integers(len(classes)))
    noise_TC[:, acted] += skill * rise_T
    logits_TC = noise_TC.astype(np.float32)
    predicted, probabilities_C = clip_prediction(logits_TC, "mean_logits")
    columns = tensor_columns(logits_TC)
    return {
        "clip_id": clip.clip_id,
        "split": clip.split,
        "group": clip.group,
        "label": clip.label,
        "times_s": (np.arange(num_ticks) / RATE_HZ).tolist(),
        "logits": columns["values"],
        "shape": columns["shape"],
        "dtype": columns["dtype"],
        "classes": list(classes),
        "probabilities": probabilities_C.tolist(),
        "predicted": classes[predicted],
        "clip_rule": "mean_logits",
        "model_name": "erray-demo",
        "model_version": "3",
    }


def _write_extraction(
    folder: RunFolder,
    plan: Plan,
    clips: list[Clip],
    rejected: set[str],
    num_ticks: dict[str, int],
    rng: Any,
) -> None:
    jpegs, status, tracks, crops = _faces(), [], [], []
    features: dict[str, list[dict[str, Any]]] = {stream: [] for stream in plan.modalities}
    for number, clip in enumerate(clips):
        num = num_ticks[clip.clip_id]
        times_s = (np.arange(num) / RATE_HZ).tolist()
        row = _row(plan, TRACKS, clip)
        if clip.clip_id in rejected:
            reason = "no_video: the file has no video stream"
            status.append(row | {"stage": TRACKS, "state": REJECTED, "reason": reason})
            continue
        note = "truncated 28/50" if number % 17 == 5 else None
        done = {"stage": TRACKS, "state": DONE, "note": note, "frame_times_s": times_s}
        status.append(row | done)
        present_T = _present(num, number, rng)
        ticks = np.flatnonzero(present_T)
        if len(ticks):
            tracks.append(
                row | {"is_main": True, "present": present_T.tolist(), "times_s": times_s}
            )
            faces = [jpegs[int(t) % len(jpegs)] for t in ticks]
            crops.append(row | {"ticks": ticks.tolist(), "size_px": 112, "jpegs": faces})
        for stream, modality in plan.modalities.items():
            has = present_T if modality == "face" else np.full(num, bool(clip.transcript))
            values = {"present": has.tolist(), "stream": stream, "modality": modality}
            row = _row(plan, stream, clip)
            features[stream].append(row | values)
            status.append(row | {"stage": stream, "state": DONE})
    folder.status.replace(status)
    folder.rejects.replace([row for row in status if row["state"] == REJECTED])
    folder.tracks.replace(tracks)
    folder.crops.replace(crops)
    for stream, rows in features.items():
        folder.features(stream, plan.fingerprints[stream]).replace(rows)


def _row(plan: Plan, stage: str, clip: Clip) -> dict[str, Any]:
    key, fingerprint = plan.key(stage, clip), plan.fingerprints[stage]
    return {"clip_id": clip.clip_id, "fingerprint": fingerprint, "key": key}


def _present(num_ticks: int, number: int, rng: Any) -> NDArray[np.bool_]:
    present_T = np.full(num_ticks, number % 11 != 4)
    if number % 3 == 1 and num_ticks > 30:
        start = int(rng.integers(0, num_ticks - 20))
        present_T[start : start + int(rng.integers(8, 20))] = False
    return present_T


def _faces() -> list[bytes]:
    portrait, jpegs = data.astronaut(), []
    for i in range(24):
        x, y = 165 + round(6 * np.sin(i / 3.8)), 48 + round(5 * np.cos(i / 3.8))
        crop = Image.fromarray(portrait[y : y + 124, x : x + 124]).resize((112, 112))
        buffer = io.BytesIO()
        crop.save(buffer, "JPEG", quality=92)
        jpegs.append(buffer.getvalue())
    return jpegs


def _history(run: str, skill: float, rng: Any) -> dict[str, Any]:
    best = round(0.2 + skill / 7, 3)
    epochs = []
    for epoch in range(24):
        reached = best * (1 - np.exp(-(epoch + 1) / 5)) + rng.normal() * 0.012
        row = {"epoch": epoch, "train_loss": 0.4 + 1.6 * float(np.exp(-epoch * skill / 18))}
        row |= {"lr": 1e-3 * 0.9 ** (epoch // 5), "seconds": 1.3}
        names = ("val_weighted_f1", "val_macro_f1", "val_accuracy")
        epochs.append(row | {name: float(reached - 0.01 * i) for i, name in enumerate(names)})
    values = [row["val_weighted_f1"] for row in epochs]
    return {"job": f"job-of-{run}", "epochs": epochs, "best_epoch": int(np.argmax(values))}


def _study(rng: Any) -> dict[str, Any]:
    trials = []
    for number in range(10):
        lr, pruned = float(10 ** rng.uniform(-4, -2)), number in (2, 5, 8)
        top = 0.75 - 0.12 * abs(np.log10(lr) + 2.8) + rng.normal() * 0.02
        num_epochs = 3 if pruned else 10
        curve = [float(top * (1 - np.exp(-(e + 1) / 3))) for e in range(num_epochs)]
        params = {
            "train.optimiser.lr": lr,
            "model.options.dropout": round(float(rng.uniform(0, 0.5)), 3),
            "model.options.num_heads": int(rng.choice([1, 2, 4])),
            "train.optimiser.name": str(rng.choice(["sgd", "adam"])),
            "model.options.leader": str(rng.choice(["hog", "logmel"])),
        }
        if params["train.optimiser.name"] == "sgd":
            params["train.optimiser.momentum"] = round(float(rng.uniform(0.8, 0.98)), 3)
        state = "pruned" if pruned else "complete"
        trial = {"number": number, "state": state, "value": curve[-1], "epochs": num_epochs}
        trials.append(trial | {"params": params, "curve": curve, "reason": None})
    for number, state, reason in (
        (10, "failed", "the trial's process ended: <b>signal 9</b>"),
        (11, "interrupted", "the search's driver ended before the trial"),
    ):
        lost = {"number": number, "state": state, "value": None, "epochs": 0, "curve": []}
        trials.append(lost | {"params": trials[0]["params"], "reason": reason})
    best = max((t for t in trials if t["state"] == "complete"), key=lambda t: t["value"])
    return {
        "metric": "val_weighted_f1",
        "recipe_job": "job-of-fusion",
        "tuned_job": "job-of-tuned",
        "trials": trials,
        "best": best["number"],
        "importance": {
            "trials": 7,
            "params": {
                "train.optimiser.lr": 0.52,
                "model.options.dropout": 0.17,
                "train.optimiser.name": 0.08,
            },
            "branches": {"train.optimiser.momentum": {"share": 0.21, "trials": 6}},
            "left_out": {
                "model.options.leader": "all 7 complete trials that have it have one value"
            },
        },
        "against_recipe": _against_recipe(),
    }


def _against_recipe() -> dict[str, Any]:
    row = {
        "tuned": {"value": 0.71, "low": 0.62, "high": 0.79, "num_groups": 15},
        "recipe": {"value": 0.66, "low": 0.57, "high": 0.75, "num_groups": 15},
        "difference": {
            "difference": 0.05,
            "low": -0.01,
            "high": 0.11,
            "p_value": 0.12,
            "num_groups": 15,
            "p_holm": None,
        },
        "spread": {"tuned": {"std": 0.012}, "recipe": {"std": 0.02}},
    }
    metrics = ("weighted_f1", "macro_f1", "accuracy")
    return {
        "split": "test",
        "seeds": [0, 1, 2],
        "macro_f1_rule": "macro F1 over all 7 classes",
        "scores": {"clip": dict.fromkeys(metrics, row)},
        "test_was_searched": False,
    }


def _ablation(streams: list[str], rng: Any) -> dict[str, Any]:
    metrics, rows = ("weighted_f1", "macro_f1", "accuracy"), []
    subsets = [s for size in (1, 2, 3) for s in combinations(streams, size)]
    for subset in subsets:
        value = 0.2 + 0.15 * len(subset) + float(rng.uniform(-0.05, 0.05))
        interval = {"value": value, "low": value - 0.1, "high": value + 0.1, "num_groups": 15}
        gap = {"difference": value - 0.65, "low": value - 0.8, "high": value - 0.5}
        # single streams are worse than all, pairs of them are not
        gap |= {"p_value": 0.005 * len(subset) ** 2, "num_groups": 15}
        gap |= {"p_holm": 0.01 * len(subset) ** 3}
        rows.append(
            {
                "streams": "+".join(subset),
                "clips": 30,
                "val": {"metric": "val_weighted_f1", "value": value + 0.02},
                **dict.fromkeys(metrics, interval),
                "minus_all": None if subset == subsets[-1] else dict.fromkeys(metrics, gap),
            }
        )
    rule = "macro F1 over all 7 classes"
    return {"streams": streams, "macro_f1_rule": rule, "subsets": rows}


def _write_record(out: str, *, num_clips: int, num_rejected: int) -> None:
    stages = ("demo corpus", "extract", "train", "tune", "predict")
    RunRecord.load(out).update(
        seconds=dict(zip(stages, (31.2, 48.9, 66.0, 41.7, 3.1), strict=True)),
        model={"name": "erray-demo", "version": "3", "run": "tuned", "job": "0af1"},
        git_commit="8b12774c0ffee8b12774c0ffee8b12774c0ffee0",
        data_fingerprint="3f9ab2c417de08a1",
        tracking_uri="sqlite:///runs/mlflow.db",
        clips={"wanted": num_clips, "done": num_clips - num_rejected, "rejected": num_rejected},
    )


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
