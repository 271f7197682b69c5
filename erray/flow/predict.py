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
    settings, tracking = flow.recipe.predict, flow.recipe.tracking
    uri = settings.model or f"models:/{tracking.model_name}@{tracking.alias}"
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
