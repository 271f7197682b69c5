"""A registered model over media files: the emotion of each, its timeline, an annotated video."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from erray.checkpoint import load_model
from erray.errors import UserError
from erray.extraction import Extractor
from erray.flow.annotate import annotate
from erray.flow.context import Flow
from erray.flow.predict import TIMELINES, write_all_timelines
from erray.flow.transcribe import transcribe_step
from erray.plan import TRACKS
from erray.predictions import Predictions, predict_clips
from erray.ray_session import ray_session
from erray.records import Clip
from erray.timelines import timeline_name

ANNOTATED = "annotated"


def predict_video_step(flow: Flow, model_uri: str, *, with_video: bool) -> dict[str, Any]:
    """Extract and predict every clip of the flow's corpus, one Ray for all of it.

    Args:
        flow: of a recipe that :mod:`erray.flow.media_corpus` made.
        model_uri: ``models:/name@alias`` or ``models:/name/version``.
        with_video: write an annotated video of every clip that has pictures.

    Returns:
        ``model``, ``videos`` (a dict each), ``rejected`` (path to reason), ``pair_rule``, ``out``.

    Raises:
        UserError: a model of other features, or not one medium that can be read.
    """
    model = flow.registry.fetch(model_uri, flow.out / "model")
    with flow.record.time("predict"), ray_session():
        if flow.recipe.transcribe.model is not None:
            transcribe_step(flow)
        _say_what_is_missing(flow, model.folder)
        # who asks again for a video has a reason to: what was rejected is tried again
        Extractor(
            flow.recipe, flow.clips, str(flow.out), retry=True, progress=flow.progress
        ).extract()
        rejects = flow.tables.rejects.read(columns=["clip_id", "reason"]).to_pylist()
        rejected = {row["clip_id"]: row["reason"] for row in rejects}
        clips = [clip for clip in flow.clips if clip.clip_id not in rejected]
        if not clips:
            listed = "; ".join(f"{name}: {reason}" for name, reason in rejected.items())
            raise UserError(f"nothing to predict: {listed}")
        predictions = predict_clips(
            flow.recipe,
            clips,
            str(flow.out),
            model=model.folder,
            model_name=model.name,
            model_version=model.version,
        )
    if flow.recipe.predict.timelines:
        write_all_timelines(flow, predictions)
    return {
        "model": {"name": model.name, "version": model.version},
        "pair_rule": predictions.pair_rule,
        "videos": _videos(flow, clips, predictions, with_video=with_video),
        "rejected": rejected | predictions.rejected,
        "out": str(flow.out),
    }


def _say_what_is_missing(flow: Flow, model: Path) -> None:
    """Tell of streams that the model was trained on and that these media cannot have."""
    _, description = load_model(model)
    words = [name for name in description.streams if flow.plan.modalities.get(name) == "text"]
    unheard = sum(clip.transcript is None for clip in flow.clips)
    if words and unheard:
        flow.say(
            f"no words are known of {unheard} of {len(flow.clips)} media: the model does without "
            f"{', '.join(words)}; -o transcribe.model=NAME recognises them"
        )


def _videos(
    flow: Flow, clips: list[Clip], predictions: Predictions, *, with_video: bool
) -> list[dict[str, Any]]:
    """What is said of each medium, in the order of the clips."""
    by_id = {clip.clip_id: clip for clip in clips}
    found = {}
    for row in predictions.rows():
        timeline = predictions.timeline(row, flow.recipe.predict.smoothing)
        clip, times_s_T = by_id[row["clip_id"]], timeline.times_s_T
        named = dict(zip(row["classes"], row["probabilities"], strict=True))
        said: dict[str, Any] = {
            "video": str(Path(flow.recipe.corpus.root) / clip.media),
            "predicted": row["predicted"],
            "confidence": named[row["predicted"]],
            "probabilities": named,
            "seconds": round(float(times_s_T[-1] - times_s_T[0]), 3),
            "ticks": len(times_s_T),
            "face_share": _face_share(flow, clip),
        }
        if flow.recipe.predict.timelines:
            said["timeline"] = str(flow.out / TIMELINES / timeline_name(clip.clip_id))
        if with_video:
            heading = f"{said['predicted']} {said['confidence']:.0%}"
            target = flow.out / ANNOTATED / timeline_name(clip.clip_id, ".mp4")
            drawn = annotate(flow, clip, timeline, target, heading=heading)
            said["annotated"] = str(target) if drawn else None
        found[clip.clip_id] = said
    return [found[clip.clip_id] for clip in clips if clip.clip_id in found]


def _face_share(flow: Flow, clip: Clip) -> float | None:
    """Share of the ticks with the main face; None where no stream asks for faces."""
    if flow.plan.detector is None:
        return None
    tracks = flow.tables.tracks.read(
        columns=["is_main", "present"], keys=[flow.plan.key(TRACKS, clip)]
    )
    shares = [np.mean(row["present"]) for row in tracks.to_pylist() if row["is_main"]]
    return round(float(shares[0]), 3) if shares else 0.0
