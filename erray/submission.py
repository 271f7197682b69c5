"""Predictions to the ABAW-7 compound expression challenge's file.

It is checked against the organisers' frame list before it is written: every frame once, known
classes, nothing else.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from erray.errors import UserError
from erray.labels import CEXPR_7
from erray.records import tensor_from_columns

SUBMISSION_HEADER = ("image_location", *(name.replace(" ", "_") for name in CEXPR_7.names))


def write_submission(path: Path, predictions: pa.Table, frame_list: Path) -> int:
    """Write the ABAW-7 CE file: a row ``<frame>,<class id>`` for every frame of the list.

    Row n of a video is its n-th frame in presentation order.

    Returns:
        The number of rows.

    Raises:
        UserError: classes other than the seven, or predictions and frame list that differ; nothing
            is written.
    """
    expected = [line.strip() for line in frame_list.read_text("utf-8").splitlines()]
    expected = [line for line in expected if line]
    found = _frame_classes(predictions)
    check_frames(found, expected, frame_list=frame_list)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(SUBMISSION_HEADER)
        writer.writerows((frame, found[frame]) for frame in expected)
    temporary.replace(path)
    return len(expected)


def check_frames(found: Mapping[str, int], expected: Sequence[str], *, frame_list: Path) -> None:
    """Compare predicted frames with the organisers' list.

    Raises:
        UserError: a frame twice in the list, without a prediction, or not in the list.
    """
    repeated = len(expected) - len(set(expected))
    missing = [frame for frame in expected if frame not in found]
    extra = sorted(set(found) - set(expected))
    problems = [
        f"{count} {what}{f' (first: {first})' if first else ''}"
        for count, what, first in (
            (repeated, "frames twice in the list", ""),
            (len(missing), "frames without a prediction", next(iter(missing), "")),
            (len(extra), "predicted frames that are not in the list", next(iter(extra), "")),
        )
        if count
    ]
    if problems:
        raise UserError(f"no submission written, {frame_list} differs: {'; '.join(problems)}")


def _frame_classes(predictions: pa.Table) -> dict[str, int]:
    classes: dict[str, int] = {}
    for row in predictions.to_pylist():
        if tuple(row["classes"]) != CEXPR_7.names:
            raise UserError(
                f"a submission needs the classes {', '.join(CEXPR_7.names)}; "
                f"the model predicts {', '.join(row['classes'])}"
            )
        logits_TC = tensor_from_columns(row["logits"], row["shape"], row["dtype"])
        for number, predicted in enumerate(logits_TC.argmax(axis=1).tolist(), start=1):
            frame = f"{row['clip_id']}/{number:05d}.jpg"
            assert frame not in classes, f"two predictions of {frame}"
            classes[frame] = predicted
    return classes
