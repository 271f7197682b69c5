"""What a model says at every tick of a clip: probabilities and class, in memory and as CSV.

The predictions table keeps the model's own logits. Here they become the probabilities of ticks,
with the recipe's smoothing: what the page shows, what is drawn into videos, and what is handed in.
A model's temperature is of its clips' probabilities and has no part in them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from erray.config import Smoothing
from erray.errors import UserError
from erray.finite import require_finite
from erray.records import tensor_from_columns
from erray.smoothing import smoothed
from erray.store import write_csv

TIMES_DECIMALS, PROBABILITY_DECIMALS = 4, 5


@dataclass(frozen=True)
class Timeline:
    """One clip over time.

    Attributes:
        times_s_T: times of the ticks.
        probabilities_TC: a row per tick, each sums to 1.
        classes: names in the order of the columns.

    Raises:
        NotFiniteError: a probability that is not finite.
    """

    clip_id: str
    times_s_T: NDArray[np.float64]
    probabilities_TC: NDArray[np.float64]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        require_finite(self.probabilities_TC, "probabilities")

    @classmethod
    def of(cls, row: Mapping[str, Any], *, smoothing: Smoothing) -> Timeline:
        """Make the timeline of a row of a predictions table, smoothed as the recipe says.

        Raises:
            NotFiniteError: a logit that is not finite.
        """
        logits_TC = tensor_from_columns(row["logits"], row["shape"], row["dtype"])
        times_s_T = np.asarray(row["times_s"], np.float64)
        x_TC = tick_probabilities(logits_TC, times_s_T, smoothing)
        return cls(row["clip_id"], times_s_T, x_TC, tuple(row["classes"]))

    @property
    def class_T(self) -> NDArray[np.int64]:
        """Class id of every tick: the likeliest, of equals the lower."""
        return np.asarray(self.probabilities_TC.argmax(axis=1), np.int64)


def tick_probabilities(
    logits_TC: NDArray[np.floating], times_s_T: NDArray[np.float64], smoothing: Smoothing
) -> NDArray[np.float64]:
    """Return the classes' probabilities at every tick: the softmax of its logits, smoothed.

    Raises:
        NotFiniteError: a logit that is not finite.
    """
    require_finite(logits_TC, "logits")
    x_TC = np.asarray(softmax(logits_TC.astype(np.float64), axis=-1))
    if smoothing.kind is None:
        return x_TC
    clock_T = times_s_T if smoothing.unit == "s" else np.arange(len(x_TC), dtype=float)
    return smoothed(x_TC, clock_T, kind=smoothing.kind, width=smoothing.width)


def write_timelines(folder: Path, timelines: Iterable[Timeline]) -> int:
    """Make ``folder`` anew with a CSV file per clip, named after it; return their number.

    Columns: ``time_s``, a probability per class, ``label``.

    Raises:
        UserError: the storage fails, or two clips have one name; a folder that is there stays.
    """
    temporary = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    count = 0
    try:
        for timeline in timelines:
            _write(temporary, timeline)
            count += 1
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return count


def timeline_name(clip_id: str, suffix: str = ".csv") -> str:
    """Return the path of a clip's file below its folder; no id leads out of it."""
    parts = [part for part in PurePosixPath(clip_id).parts if part not in ("/", "..")]
    return "/".join(parts or ["_"]) + suffix


def _write(folder: Path, timeline: Timeline) -> None:
    name = timeline_name(timeline.clip_id)
    if (folder / name).exists():
        raise UserError(f"two clips have the timeline {name}: give one of them another clip_id")
    rows = (
        [
            f"{time_s:.{TIMES_DECIMALS}f}",
            *(f"{value:.{PROBABILITY_DECIMALS}f}" for value in row_C),
            timeline.classes[winner],
        ]
        for time_s, row_C, winner in zip(
            timeline.times_s_T, timeline.probabilities_TC, timeline.class_T, strict=True
        )
    )
    write_csv(folder / name, ["time_s", *timeline.classes, "label"], rows)
