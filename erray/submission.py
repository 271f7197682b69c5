"""Predictions to the ABAW-7 compound expression challenge's file.

It is compared with the organisers' frame list before it is written: every frame once, known
classes, nothing else. Where the two differ, a table says how, video by video.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from erray.errors import UserError
from erray.labels import CEXPR_7
from erray.store import write_csv

SUBMISSION_HEADER = ("image_location", *(name.replace(" ", "_") for name in CEXPR_7.names))
REFUSE, HOLD = "refuse", "hold"
_NAMED_VIDEOS = 3


@dataclass(frozen=True)
class VideoDifference:
    """How the frames of one video differ from those listed.

    Attributes:
        listed: different frames of the list.
        predicted: frames that have a class.
        missing: listed frames without a class; ``first_missing`` is the first of them.
        unknown: predicted frames that are not listed; ``first_unknown`` is the first of them.
        twice: lines that repeat a frame.
    """

    video: str
    listed: int
    predicted: int
    missing: int
    first_missing: str
    unknown: int
    first_unknown: str
    twice: int

    @property
    def can_be_held(self) -> bool:
        """Whether frames are missing and nothing else is wrong."""
        return self.predicted > 0 and self.unknown == self.twice == 0

    def line(self) -> str:
        """The video in a few words."""
        parts = [
            f"{count} {what}"
            for count, what in (
                (self.missing, "missing"),
                (self.unknown, "unknown"),
                (self.twice, "twice in the list"),
            )
            if count
        ]
        return (
            f"{self.video} ({self.listed} listed, {self.predicted} predicted: {', '.join(parts)})"
        )


@dataclass(frozen=True)
class Submitted:
    """What was written: rows, and those whose class is another frame's."""

    rows: int
    held: int


def write_submission(
    path: Path,
    classes: Mapping[str, NDArray[np.int64]],
    frame_list: Path,
    *,
    class_names: Sequence[str],
    rejected: Mapping[str, str],
    fill: str = REFUSE,
) -> Submitted:
    """Write the ABAW-7 CE file: a row ``<frame>,<class id>`` for every frame of the list.

    Args:
        path: of the file; a table of differences, where there are any, lies beside it.
        classes: class ids of a video's frames in presentation order; number n is the n-th frame.
        frame_list: a line ``<video>/<frame number, 5 digits, from 1>.jpg`` per frame.
        class_names: of the ids.
        rejected: video to the reason why it has no class; where the list has one of them, nothing
            is written, whatever ``fill`` says.
        fill: what becomes of a listed frame without a prediction. ``refuse``: nothing is written.
            ``hold``: it has the class of the last frame before it that has one; before a video's
            first prediction, of that one. A video without any prediction is refused all the same.

    Raises:
        UserError: classes other than the seven, a listed video that was rejected, or predictions
            and frame list that differ; nothing is written but the differences.
    """
    if tuple(class_names) != CEXPR_7.names:
        raise UserError(
            f"a submission needs the classes {', '.join(CEXPR_7.names)}; "
            f"the model predicts {', '.join(class_names)}"
        )
    expected = [line.strip() for line in frame_list.read_text("utf-8").splitlines()]
    expected = [line for line in expected if line]
    found = frame_classes(classes)
    wrong = differences(found, expected)
    beside = path.with_name(f"{path.stem}_differences.csv")
    beside.unlink(missing_ok=True)
    if wrong:
        write_csv(beside, [field.name for field in fields(VideoDifference)], map(astuple, wrong))
    lost = sorted({video.video for video in wrong if video.listed} & rejected.keys())
    if lost:
        raise UserError(_rejection(lost, rejected, frame_list, beside))
    refused = wrong if fill == REFUSE else [video for video in wrong if not video.can_be_held]
    if refused:
        raise UserError(_refusal(refused, frame_list, beside, fill))
    held = _held(found, expected)
    rows = ((frame, held[frame] if frame in held else found[frame]) for frame in expected)
    write_csv(path, SUBMISSION_HEADER, rows)
    return Submitted(len(expected), len(held))


def frame_classes(classes: Mapping[str, NDArray[np.int64]]) -> dict[str, int]:
    """Name of every predicted frame, as the list would have it, to its class."""
    return {
        f"{video}/{number:05d}.jpg": class_id
        for video, class_T in classes.items()
        for number, class_id in enumerate(class_T.tolist(), start=1)
    }


def differences(found: Mapping[str, int], expected: Sequence[str]) -> list[VideoDifference]:
    """Return the videos whose predicted frames are not those of the list, each of them once."""
    listed, predicted = _by_video(expected), _by_video(found)
    wrong = []
    for video in sorted(listed.keys() | predicted):
        names, there = listed.get(video, []), set(predicted.get(video, []))
        missing = sorted(set(names) - there, key=_place)
        unknown = sorted(there - set(names), key=_place)
        twice = len(names) - len(set(names))
        if missing or unknown or twice:
            difference = VideoDifference(
                video=video,
                listed=len(set(names)),
                predicted=len(there),
                missing=len(missing),
                first_missing=missing[0] if missing else "",
                unknown=len(unknown),
                first_unknown=unknown[0] if unknown else "",
                twice=twice,
            )
            wrong.append(difference)
    return wrong


def _held(found: Mapping[str, int], expected: Sequence[str]) -> dict[str, int]:
    """Class of every listed frame without a prediction, from a frame of its video that has one."""
    held = {}
    for names in _by_video(expected).values():
        ordered = sorted(names, key=_place)
        last = next((found[frame] for frame in ordered if frame in found), None)
        for frame in ordered:
            last = found.get(frame, last)
            if frame not in found:
                assert last is not None, f"{frame} cannot be held"
                held[frame] = last
    return held


def _by_video(frames: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for frame in frames:
        found.setdefault(frame.rpartition("/")[0], []).append(frame)
    return found


def _place(frame: str) -> tuple[int, str]:
    """Sort key of a video's frames: 100000 comes after 99999."""
    return len(frame), frame


def _refusal(wrong: list[VideoDifference], frame_list: Path, beside: Path, fill: str) -> str:
    """All that is wrong in one line, the worst videos by name."""
    counts = (
        (sum(video.missing for video in wrong), "listed frames without a prediction"),
        (sum(video.unknown for video in wrong), "predicted frames that are not listed"),
        (sum(video.twice for video in wrong), "frames twice in the list"),
    )
    totals = ", ".join(f"{count} {what}" for count, what in counts if count)
    worst = sorted(wrong, key=lambda video: -(video.missing + video.unknown + video.twice))
    named = "; ".join(video.line() for video in worst[:_NAMED_VIDEOS])
    more = f" and {len(wrong) - _NAMED_VIDEOS} more" if len(wrong) > _NAMED_VIDEOS else ""
    advice = ""
    if fill == REFUSE and all(video.can_be_held for video in wrong):
        advice = "; predict.submission.fill=hold gives them the class of the frame before"
    return (
        f"no submission written, {frame_list} differs: {totals}: {named}{more} "
        f"(every video: {beside}){advice}"
    )


def _rejection(
    lost: Sequence[str], rejected: Mapping[str, str], frame_list: Path, beside: Path
) -> str:
    """The rejected clips by name and reason in one line."""
    named = "; ".join(f"{video}: {rejected[video]}" for video in lost[:_NAMED_VIDEOS])
    more = f" and {len(lost) - _NAMED_VIDEOS} more" if len(lost) > _NAMED_VIDEOS else ""
    return (
        f"no submission written, {len(lost)} clips that {frame_list} lists were rejected: "
        f"{named}{more} (every video: {beside}); mend their media and run `erray extract --retry`, "
        f"or predict with another model"
    )
