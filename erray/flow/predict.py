"""Step 4: a registered model over the clips of a split; the challenge's file where asked for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from erray.errors import UserError
from erray.flow.context import Flow
from erray.flow.extract import checked_extraction
from erray.predictions import predict_clips
from erray.submission import write_submission


def predict_step(flow: Flow) -> dict[str, Any]:
    """Fetch the model, extract what is missing, write ``predictions/`` and ``submission.csv``."""
    settings = flow.recipe.predict
    uri = settings.model or _own_model(flow)
    clips = [clip for clip in flow.clips if clip.split == settings.split]
    if not clips:
        found = ", ".join(sorted({clip.split for clip in flow.clips}))
        raise UserError(f"predict.split {settings.split!r} has no clips; the corpus has {found}")
    with flow.step("predict") as parent:
        model = flow.registry.fetch(uri, flow.out / "model")
        checked_extraction(flow)
        predictions = predict_clips(
            flow.recipe,
            clips,
            str(flow.out),
            model=model.folder,
            model_name=model.name,
            model_version=model.version,
        )
        result: dict[str, Any] = {
            "model": {"name": model.name, "version": model.version},
            "clips": predictions.num_rows,
            "predicted": dict(Counter(predictions["predicted"].to_pylist())),
        }
        if settings.frame_list is not None:
            path = flow.out / "submission.csv"
            frame_list = Path(flow.recipe.corpus.root) / settings.frame_list
            if not frame_list.is_file():
                raise UserError(f"no frame list at {frame_list}: set predict.frame_list")
            rows = write_submission(path, predictions, frame_list)
            result["submission"] = {"path": str(path), "rows": rows}
            flow.registry.log_file(parent, path)
    return result


def _own_model(flow: Flow) -> str:
    """The version that this run registered; else the one that the recipe's alias names.

    Its own reads this recipe's features; the alias may name a version that reads others.
    """
    tracking, known = flow.recipe.tracking, flow.record.model
    if known is not None and known["name"] == tracking.model_name:
        return f"models:/{known['name']}/{known['version']}"
    return f"models:/{tracking.model_name}@{tracking.alias}"
