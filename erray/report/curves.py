"""Training curves: what each epoch of every run cost and gained."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from erray.report.charts import Chart, Scale, Tick, line
from erray.report.sources import FUSION, TUNED

_PANELS = (
    ("train_loss", "Training loss"),
    ("val_weighted_f1", "Validation weighted F1"),
    ("lr", "Learning rate"),
)


@dataclass(frozen=True)
class Curves:
    """The panels, who is drawn in which tone, and the main run's epochs as rows."""

    charts: list[Chart]
    legend: list[tuple[str, str]]
    best_epoch: int | None
    rows: list[dict[str, Any]]


def make_curves(histories: dict[str, dict[str, Any]], *, main: str) -> Curves | None:
    """Draw the histories; None where no run has an epoch.

    The dashed rule marks the best epoch of the ``main`` run, the one whose weights are kept.
    """
    histories = {name: history for name, history in histories.items() if history["epochs"]}
    if not histories:
        return None
    tones, shown = run_tones(histories), histories.get(main)
    best = shown["best_epoch"] if shown else None
    charts = [_panel(histories, tones, best, column=c, title=t) for c, t in _PANELS]
    return Curves(charts, list(tones.items()), best, shown["epochs"] if shown else [])


def run_tones(names: Iterable[str]) -> dict[str, str]:
    """Return the style class of every run: fused runs stand out, streams follow in their order."""
    streams = (f"stream-{i % 6}" for i in count())
    return {name: name if name in (FUSION, TUNED) else next(streams) for name in names}


def _panel(
    histories: dict[str, dict[str, Any]],
    tones: dict[str, str],
    best_epoch: int | None,
    *,
    column: str,
    title: str,
) -> Chart:
    series = {name: _points(history["epochs"], column) for name, history in histories.items()}
    series = {name: points for name, points in series.items() if points}
    xs = [x for points in series.values() for x, _ in points] or [0.0]
    ys = [y for points in series.values() for _, y in points] or [0.0]
    x_scale, y_scale = Scale.over(xs), Scale.rounded(ys, floor=0.0)
    lines = [
        line(name, tones[name], points, x=x_scale, y=y_scale)
        for name, points in reversed(series.items())  # fusion is drawn last, on top
    ]
    rule = None if best_epoch is None else Tick(x_scale.at(best_epoch), f"best: {best_epoch}")
    x_ticks = [tick for tick in x_scale.ticks() if "." not in tick.text]
    return Chart(title, "epoch", x_ticks, y_scale.ticks(), lines, rule_x=rule)


def _points(epochs: Sequence[dict[str, Any]], column: str) -> list[tuple[float, float]]:
    """Epoch and value where the value is a finite number: a diverged epoch leaves a gap."""
    found = ((row["epoch"], row.get(column)) for row in epochs)
    return [(x, y) for x, y in found if y is not None and math.isfinite(y)]
