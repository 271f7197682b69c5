"""Timelines of single clips: class probabilities over time above the faces they were read from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from erray.config import Smoothing
from erray.report.charts import Scale, Tick, area
from erray.report.sources import ClipPrediction
from erray.report.thumbnails import Faces, Slot, fill_slots
from erray.timelines import tick_probabilities

# Wider than any screen shows pixels for, and it keeps a page of long clips small.
_MOST_TICKS = 360


@dataclass(frozen=True)
class Band:
    """The share of one class in the stack; ``role`` is label, predicted or other.

    ``peak`` is where the band is thickest, per cent of the time axis: the place for its name.
    """

    class_id: int
    name: str
    role: str
    path: str
    peak: float


@dataclass(frozen=True)
class Run:
    """A stretch of the time axis, per cent, in which something holds."""

    start: float
    width: float
    class_id: int | None = None


@dataclass(frozen=True)
class Timeline:
    """Everything the template draws of one clip; ``data`` is what the cursor reads."""

    clip_id: str
    dom_id: str
    label: str | None
    predicted: str
    confidence: float
    transcript: str | None
    bands: list[Band]
    leads: list[Run]
    presence: list[tuple[str, list[Run]]]
    slots: list[Slot]
    x_ticks: list[Tick]
    duration_s: float
    num_ticks: int
    data: dict[str, Any]

    @property
    def correct(self) -> bool | None:
        """Whether the prediction is right; None where nobody knows."""
        return None if self.label is None else self.label == self.predicted

    @property
    def portrait(self) -> str | None:
        """The face in the middle of the clip, or the one nearest to it."""
        middle = len(self.slots) / 2
        order = sorted(range(len(self.slots)), key=lambda i: abs(i + 0.5 - middle))
        return next((self.slots[i].jpeg for i in order if self.slots[i].jpeg), None)


def choose_clips(predictions: Sequence[ClipPrediction], num: int) -> list[ClipPrediction]:
    """Choose ``num`` clips by a rule that nobody can steer: every class in turn, right and wrong.

    Within a class (the label, or the prediction where there is none) clips are ordered by the hash
    of their id; a class gives a right clip and a wrong one by turns while it has both, and the
    classes start differently, so that a short choice holds both kinds. Shown by class.
    """
    queues: dict[str, tuple[list[ClipPrediction], list[ClipPrediction]]] = {}
    for p in sorted(predictions, key=lambda p: hashlib.sha256(p.clip_id.encode()).digest()):
        wrong = p.label is not None and p.label != p.predicted
        queues.setdefault(p.label or p.predicted, ([], []))[wrong].append(p)
    names = [name for name in (predictions[0].classes if predictions else ()) if name in queues]
    chosen: list[ClipPrediction] = []
    turn = 0
    while len(chosen) < num and any(any(queues[name]) for name in names):
        for i, name in enumerate(names):
            first, second = queues[name] if (i + turn) % 2 == 0 else reversed(queues[name])
            if (queue := first or second) and len(chosen) < num:
                chosen.append(queue.pop(0))
        turn += 1
    rank = {name: i for i, name in enumerate(names)}
    return sorted(chosen, key=lambda p: (rank[p.label or p.predicted], p.label != p.predicted))


def dom_id(prediction: ClipPrediction) -> str:
    """Id of the clip's timeline on the page."""
    return "clip-" + hashlib.sha256(prediction.clip_id.encode()).hexdigest()[:10]


def make_timeline(
    prediction: ClipPrediction,
    *,
    transcript: str | None,
    faces: Faces,
    presence: dict[str, NDArray[np.bool_]],
    smoothing: Smoothing,
) -> Timeline:
    """Lay out one clip.

    Args:
        prediction: of T ticks.
        transcript: what is said, None where unknown.
        faces: crops of the main track.
        presence: stream name to ``present`` [T]; streams with another clock are left out.
        smoothing: of the recipe, so that the page shows what the clip's CSV file holds.
    """
    times_s_T = prediction.times_s_T - prediction.times_s_T[0]
    num_ticks, duration_s = len(times_s_T), float(times_s_T[-1])
    kept = np.unique(np.linspace(0, num_ticks - 1, min(num_ticks, _MOST_TICKS)).round().astype(int))
    shares_TC = tick_probabilities(prediction.logits_TC, prediction.times_s_T, smoothing)
    scale = Scale(0.0, duration_s or 1.0)
    xs = [scale.at(t) for t in times_s_T[kept]]
    edges = _edges(times_s_T, scale)
    leaders = shares_TC.argmax(axis=1).tolist()
    slots = fill_slots(faces, times_s_T)
    shown = {name: present for name, present in presence.items() if len(present) == num_ticks}
    return Timeline(
        clip_id=prediction.clip_id,
        dom_id=dom_id(prediction),
        label=prediction.label,
        predicted=prediction.predicted,
        confidence=prediction.confidence,
        transcript=transcript,
        bands=_bands(prediction, shares_TC[kept], xs),
        leads=_runs(leaders, edges),
        presence=[
            (n, [r for r in _runs(p.tolist(), edges) if r.class_id]) for n, p in shown.items()
        ],
        slots=slots,
        x_ticks=scale.ticks(5),
        duration_s=duration_s,
        num_ticks=num_ticks,
        data=_data(prediction, times_s_T[kept], shares_TC[kept], xs, len(slots)),
    )


def _bands(prediction: ClipPrediction, shares_TC: NDArray[Any], xs: list[float]) -> list[Band]:
    """Stack the classes: the label stands on the floor, a wrong prediction hangs from the top.

    Both can then be read against a straight edge; the others lie between in their usual order.
    """
    classes, floor = prediction.classes, prediction.label or prediction.predicted
    others = [name for name in classes if name not in (floor, prediction.predicted)]
    order = [floor, *others, *([prediction.predicted] if prediction.predicted != floor else [])]
    bands, lower = [], np.zeros(len(shares_TC))
    for name in order:
        upper = lower + 100 * shares_TC[:, classes.index(name)]
        role = "label" if name == floor else "other"
        role = "predicted" if name == prediction.predicted and name != floor else role
        shape = area(xs, lower.round(1).tolist(), upper.round(1).tolist())
        peak = xs[int((upper - lower).argmax())]
        bands.append(Band(classes.index(name), name, role, shape, peak))
        lower = upper
    return bands


def _edges(times_s_T: NDArray[np.float64], scale: Scale) -> list[float]:
    """Return the T + 1 borders of the ticks, per cent: half-way between neighbours."""
    middles = (times_s_T[:-1] + times_s_T[1:]) / 2
    return [0.0, *(scale.at(t) for t in middles), 100.0]


def _runs(values: Sequence[int], edges: Sequence[float]) -> list[Run]:
    """Merge equal neighbours to stretches."""
    runs = []
    for value, members in groupby(range(len(values)), key=values.__getitem__):
        ticks = list(members)
        start, end = edges[ticks[0]], edges[ticks[-1] + 1]
        runs.append(Run(start, round(end - start, 2), int(value)))
    return runs


def _data(
    prediction: ClipPrediction,
    times_s: NDArray[np.float64],
    shares_TC: NDArray[Any],
    xs: list[float],
    num_slots: int,
) -> dict[str, Any]:
    """Per tick: time, position, and the classes' shares in thousandths."""
    return {
        "classes": prediction.classes,
        "times_s": times_s.round(3).tolist(),
        "at": xs,
        "shares": (1000 * shares_TC).round().astype(int).tolist(),
        "num_slots": num_slots,
    }
