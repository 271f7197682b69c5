"""Step 4: a registered model over the clips of a split; the challenge's file where asked for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from erray import interrupt
from erray.errors import UserError
from erray.flow.context import Flow
from erray.flow.extract import checked_extraction
from erray.flow.preflight import submission_list
from erray.predictions import Predictions, predict_clips
from erray.submission import write_submission
from erray.timelines import write_timelines

TIMELINES = "timelines"


def predict_step(flow: Flow) -> dict[str, Any]:
    """Fetch the model, extract what is missing, predict.

    Writes ``predictions/``, ``timelines/`` and, with a frame list, ``submission.csv``. Every clip
    of the split is predicted or rejected.

    Raises:
        UserError: no clips in the split, a model of other features, a frame list that differs or
            names a clip that is rejected.
    """
    settings = flow.recipe.predict
    uri = settings.model or _own_model(flow)
    clips = [clip for clip in flow.clips if clip.split == settings.split]
    if not clips:
        found = ", ".join(sorted({clip.split for clip in flow.clips}))
        raise UserError(f"predict.split {settings.split!r} has no clips; the corpus has {found}")
    with flow.step("predict") as parent:
        model = flow.registry.fetch(uri, flow.out / "model")
        checked_extraction(flow)
        predicted: dict[str, str] = {}
        interrupt.account(lambda: f"{len(predicted)} of {len(clips)} predictions")
        predictions = predict_clips(
            flow.recipe,
            clips,
            str(flow.out),
            model=model.folder,
            model_name=model.name,
            model_version=model.version,
        )
        predicted, rejected = predictions.predicted, _rejected(flow, predictions)
        result: dict[str, Any] = {
            "model": {"name": model.name, "version": model.version},
            "clips": len(predicted),
            "predicted": dict(Counter(predicted.values())),
            "rejected": {c.clip_id: rejected[c.clip_id] for c in clips if c.clip_id in rejected},
            "pair_rule": predictions.pair_rule,
        }
        if settings.timelines:
            result["timelines"] = write_all_timelines(flow, predictions)
        if settings.frame_list is not None:
            result["submission"] = _submit(flow, predictions, rejected)
            flow.registry.log_file(parent, Path(result["submission"]["path"]))
    return result


def write_all_timelines(flow: Flow, predictions: Predictions) -> str:
    """Write a CSV file per clip, smoothed as the recipe says; return their folder."""
    folder = flow.out / TIMELINES
    write_timelines(folder, predictions.timelines(flow.recipe.predict.smoothing))
    return str(folder)


def _rejected(flow: Flow, predictions: Predictions) -> dict[str, str]:
    """Clip id to reason of the clips without features, and of those without a prediction."""
    rows = flow.tables.rejects.read(columns=["clip_id", "reason"]).to_pylist()
    return {row["clip_id"]: row["reason"] for row in rows} | predictions.rejected


def _submit(flow: Flow, predictions: Predictions, rejected: dict[str, str]) -> dict[str, Any]:
    settings = flow.recipe.predict
    path, frame_list = flow.out / "submission.csv", submission_list(flow.recipe)
    timelines = predictions.timelines(settings.smoothing)
    submitted = write_submission(
        path,
        {timeline.clip_id: timeline.class_T for timeline in timelines},
        frame_list,
        rejected=rejected,
        class_names=predictions.classes,
        fill=settings.submission.fill,
    )
    return {"path": str(path), "rows": submitted.rows, "held": submitted.held}


def _own_model(flow: Flow) -> str:
    """The version that this run registered; else the one that the recipe's alias names.

    Its own reads this recipe's features; the alias may name a version that reads others.
    """
    tracking, known = flow.recipe.tracking, flow.record.model
    if known is not None and known["name"] == tracking.model_name:
        return f"models:/{known['name']}/{known['version']}"
    return f"models:/{tracking.model_name}@{tracking.alias}"
