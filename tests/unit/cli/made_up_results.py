"""A result of every step, with long names and intervals, for tests of how they are shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from erray.cli import compare, import_model, predict, repeat, results

METRICS = ("weighted_f1", "macro_f1", "accuracy")
RULE = {"macro_f1_rule": "macro F1 over the 3 of 7 classes that have labelled clips"}
LONG_STREAMS = "hog+logmel+hash+wav2vec2+ir50+facenet+sentence"
REJECTED = {"rejected": {"clip007": "not_finite: logits of 1 of 9 ticks"}}
_NAMED = {"name": "demo", "version": "1", "run": "fusion"}
_TRAINED = {"val_weighted_f1": 0.7, "best_epoch": 3, "epochs": 10}


def score(value: float = 0.713) -> dict[str, Any]:
    ends = {"low": value - 0.071, "high": value + 0.064}
    return {"value": value, **ends, "num_groups": 20, "metric": "val_f1"}


def gap(value: float = 0.052) -> dict[str, Any]:
    ends = {"low": value - 0.11, "high": value + 0.09}
    return {"difference": value, **ends, "num_groups": 20, "p_value": 0.0004, "p_holm": 0.0008}


def _sides(*names: str) -> dict[str, Any]:
    return {m: {**{name: score() for name in names}, "difference": gap()} for m in METRICS}


def _comparison() -> dict[str, Any]:
    classes = [
        {"name": name, "support": 7, "f1": {"a": score(), "b": score(), "difference": gap()}}
        for name in ("Happily Surprised", "Sadly Fearful")
    ]
    both = {"clips": _sides("a", "b"), "frames": _sides("a", "b")}
    return {
        **{"a": "/runs/first", "b": "/runs/second", "rules": ["majority", "mean_logits"]},
        **{"split": "test", "left_out": [10, 0], "num_clips": 60, "num_groups": 20},
        **{"both_right": 30, "only_a": 10, "only_b": 5, "both_wrong": 15, "agreement": 0.75},
        "mcnemar": {"method": "exact", "p_value": 0.03, "only_a": 10, "only_b": 5},
        "classes": classes,
        "without_other": both | RULE | {"num_clips": 50, "num_groups": 19},
        **both,
        **RULE,
    }


def _study() -> dict[str, Any]:
    best = {"number": 3, "train.optimiser.lr": 0.003, "model.dropout": 0.1, "train.window": 150}
    contest = RULE | REJECTED | {"seeds": [0, 1, 2], "test_was_searched": True}
    return {
        "trials": {"complete": 4, "pruned": 2},
        "best": best,
        "tuned": _TRAINED,
        "against_recipe": contest | {"scores": {"clip": _sides("tuned", "recipe")}},
        "model": _NAMED,
    }


def _ablation() -> dict[str, Any]:
    rows = [
        {
            **{"streams": streams, "clips": 60, "macro_f1": score(), "val": score()},
            "weighted_f1": score(),
            "minus_all": None if streams == LONG_STREAMS else {"weighted_f1": gap(-0.05)},
        }
        for streams in (LONG_STREAMS, "hog+logmel", "hog")
    ]
    return RULE | REJECTED | {"subsets": rows}


def _repeat() -> dict[str, Any]:
    levels = ("clip", "frame", "clip_without_other", "frame_without_other")
    scores = {s: {lv: dict.fromkeys(METRICS, 0.7) for lv in levels} for s in ("val", "test")}
    spread = dict.fromkeys(("mean", "std", "std_seeds", "std_folds"), 0.02)
    runs = [
        {"run": f"repeat/fusion-seed{seed}-fold{fold}", "seed": seed, "fold": fold}
        for seed in range(2)
        for fold in range(2)
    ]
    return {
        **REJECTED,
        "runs": [run | {"scores": scores} for run in runs],
        "spread": {
            split: {level: dict.fromkeys(METRICS, spread) for level in levels} for split in scores
        },
        "pooled": RULE | {"predictions": 40} | {lv: {m: score() for m in METRICS} for lv in levels},
    }


def _extraction() -> dict[str, Any]:
    return {
        **{"computed": {"tracks": 20}, "wanted": 21, "done": 19, "rejected": 2},
        "reasons": {"not_media": 2},
        "examples": {"not_media": "odd_text: [a].mp4"},
    }


def _report() -> dict[str, Any]:
    scores = dict.fromkeys(METRICS, 0.7)
    against = {"b": "/runs/" + "long/" * 20, "clips": {"weighted_f1": {"difference": gap()}}}
    return {
        **RULE,
        **REJECTED,
        "fusion": {"majority": scores, "mean_logits": scores},
        "tuned": {"majority": scores, "mean_logits": dict.fromkeys(METRICS, 0.823)},
        **{"registered_run": "tuned", "model": _NAMED},
        "streams": {"hog": scores},
        "comparison": against,
    }


def _videos() -> dict[str, Any]:
    video = {
        **{"video": "/films/a film with a long name, of 2024-01-01.mp4", "seconds": 12.0},
        **{"predicted": "Happily Surprised", "confidence": 0.6, "face_share": 0.5},
        "probabilities": {"Happily Surprised": 0.6, "Sadly Fearful": 0.2},
    }
    rejected = {"b": "not_media: text"}
    return {
        **{"model": _NAMED, "pair_rule": "product", "videos": [video], "rejected": rejected},
        "out": "/out",
    }


def _import() -> dict[str, Any]:
    return {
        **_NAMED,
        **{"alias": "champion", "model": "can", "streams": {"ir50": 512}, "classes": ["a"]},
        **{"normaliser": "none", "not_taken": {"resume": "had no effect"}},
    }


SHOWN: dict[str, Callable[[], None]] = {
    "extract": lambda: results.show_extraction(_extraction()),
    "transcribe": lambda: results.show_transcription({"wanted": 9, "written": 3, "unreadable": 1}),
    "train": lambda: results.show_training(
        {"runs": {"fusion": _TRAINED, "wav2vec2-large-robust": _TRAINED}, "model": _NAMED}
    ),
    "tune": lambda: results.show_study(_study()),
    "ablate": lambda: results.show_ablation(_ablation()),
    "repeat": lambda: repeat.show_repeat(_repeat()),
    "predict": lambda: results.show_prediction(
        {"model": _NAMED, "pair_rule": None, "clips": 3, "timelines": "/runs/timelines"} | REJECTED
    ),
    "predict videos": lambda: predict.show_videos(_videos()),
    "report": lambda: results.show_report(_report()),
    "compare": lambda: compare.show_comparison(_comparison()),
    "import": lambda: import_model.show_import(_import(), "erray predict -r imported.yaml"),
}
