"""Model and one clip's streams to logits: the one path of val, test and inference.

A clip is cut in the model's windows, windows go through the model in batches, and the logits of
overlapping frames are averaged. Neither batch size nor batch mates change a clip's values: a model
whose logits depend on batch mates gets one window at a time.
What comes out is a row of a predictions table, or of a table of rejects for a clip whose logits are
not finite.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from erray.config import fingerprint
from erray.finite import NotFiniteError
from erray.metrics import clip_prediction
from erray.models.fusion import FusionModel
from erray.records import REJECTED, tensor_columns
from erray.store import row_key
from erray.windows import WindowSample, collate, stitch

BATCH_WINDOWS = 32
PREDICT = "predict"
"""Stage of the status rows of clips without a prediction."""


def score_clips(
    model: FusionModel,
    windows: Iterable[WindowSample],
    *,
    device: torch.device | str = "cpu",
    batch_windows: int = BATCH_WINDOWS,
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield ``(clip, logits [T, C])`` for windows that come clip after clip.

    The logits are as the model gives them, also where they are not finite: what makes classes of
    them refuses those (:mod:`erray.finite`).

    Args:
        model: in any mode; it is evaluated in eval mode and left in the mode it was in.
        windows: all windows of a clip follow each other.
        batch_windows: windows per forward pass; 1 for a model that depends on batch mates.
    """
    size = 1 if model.depends_on_batch_mates else batch_windows
    was_training = model.training
    model.eval()
    try:
        clip = -1
        pieces: list[tuple[int, NDArray[np.float32]]] = []
        for window, logits_LC in _logits(model, windows, device, size):
            if window.clip != clip and pieces:
                yield clip, _stitched(pieces)
                pieces = []
            clip = window.clip
            pieces.append((window.start, logits_LC))
        if pieces:
            yield clip, _stitched(pieces)
    finally:
        model.train(was_training)


def prediction_row(
    logits_TC: NDArray[np.float32],
    *,
    clip_id: str,
    split: str,
    group: str,
    label: str | None,
    times_s_T: NDArray[np.float64],
    classes: Sequence[str],
    clip_rule: str,
    model_name: str,
    model_version: str,
    temperature: float = 1.0,
) -> dict[str, Any]:
    """One row of a predictions table: the frames' logits and what the clip rule makes of them.

    The logits are the model's own; ``temperature`` enters the clip's probabilities alone.

    Raises:
        NotFiniteError: a logit that is not finite; see :func:`rejected_row`.
    """
    assert logits_TC.shape == (len(times_s_T), len(classes)), logits_TC.shape
    predicted, probabilities_C = clip_prediction(logits_TC, clip_rule, temperature=temperature)
    columns = tensor_columns(logits_TC)
    return {
        "clip_id": clip_id,
        "split": split,
        "group": group,
        "label": label,
        "times_s": times_s_T.tolist(),
        "logits": columns.pop("values"),
        **columns,
        "classes": list(classes),
        "probabilities": probabilities_C.tolist(),
        "predicted": classes[predicted],
        "clip_rule": clip_rule,
        "model_name": model_name,
        "model_version": model_version,
    }


def rejected_row(
    why: NotFiniteError, *, clip_id: str, model_name: str, model_version: str
) -> dict[str, Any]:
    """The status row of a clip that a model has no prediction for."""
    stage = fingerprint({"stage": PREDICT, "model": model_name, "version": model_version})
    return {
        "clip_id": clip_id,
        "stage": PREDICT,
        "fingerprint": stage,
        "key": row_key(stage, clip_id),
        "state": REJECTED,
        "reason": f"{why} (model {model_name} version {model_version})",
    }


def _logits(
    model: FusionModel, windows: Iterable[WindowSample], device: torch.device | str, size: int
) -> Iterator[tuple[WindowSample, NDArray[np.float32]]]:
    pending: list[WindowSample] = []
    for window in windows:
        pending.append(window)
        if len(pending) == size:
            yield from _forward(model, pending, device)
            pending = []
    if pending:
        yield from _forward(model, pending, device)


def _forward(
    model: FusionModel, windows: list[WindowSample], device: torch.device | str
) -> Iterator[tuple[WindowSample, NDArray[np.float32]]]:
    batch = collate(windows).to(device)
    with torch.inference_mode():
        logits_BTC = model(batch.streams, batch.present, batch.valid_BT).float().cpu().numpy()
    for window, logits_TC in zip(windows, logits_BTC, strict=True):
        yield window, logits_TC[: len(window)]


def _stitched(pieces: list[tuple[int, NDArray[np.float32]]]) -> NDArray[np.float32]:
    return stitch(pieces, max(start + len(logits) for start, logits in pieces))
