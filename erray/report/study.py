"""The hyper-parameter study: trials in order, their curves, and the settings they tried."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from erray.report.charts import Chart, Dot, Line, Scale, Tick, line, number, path

_STATES = ("complete", "pruned", "failed", "interrupted")
_SAMPLERS = {
    "random": "drawn at random",
    "tpe": "drawn by TPE",
    "again": "tried again after an interruption",
}


@dataclass(frozen=True)
class Axis:
    """One vertical axis of the parallel coordinates, at ``x`` per cent."""

    name: str
    x: float
    ticks: list[Tick]


@dataclass(frozen=True)
class Factor:
    """What a parameter explains of the value; ``trials`` None: all complete ones have it."""

    name: str
    share: float
    trials: int | None


@dataclass(frozen=True)
class StudyView:
    """The study as charts and as the table of its trials, best first.

    ``factors``: the parameter that explains most first; ``num_left_out``: parameters whose share
    cannot be told. ``drawn``: who drew how many trials, in words; empty where an older
    ``study.json`` does not say. ``against``: the best settings against the recipe's own on test, as
    ``study.json`` keeps it.
    """

    metric: str
    counts: dict[str, int]
    drawn: str
    best: dict[str, Any]
    history: Chart
    curves: Chart | None
    axes: list[Axis]
    threads: list[Line]
    rows: list[dict[str, Any]]
    factors: list[Factor]
    num_left_out: int
    against: dict[str, Any] | None


def make_study(study: dict[str, Any] | None) -> StudyView | None:
    """Draw the study; None where there is none or none of its trials is the best."""
    if study is None:
        return None
    short, metric = _short_names(study["trials"]), _title(study["metric"])
    trials = [
        t | {"params": {short[k]: v for k, v in t["params"].items()}} for t in study["trials"]
    ]
    valued = [trial for trial in trials if _finite(trial["value"])]
    best = next((trial for trial in valued if trial["number"] == study["best"]), None)
    if best is None:
        return None
    counts = Counter(trial["state"] for trial in trials)
    axes, threads = _parallel(valued, best, metric)
    ranked = sorted(trials, key=lambda t: -t["value"] if _finite(t["value"]) else math.inf)
    return StudyView(
        metric=metric,
        counts={state: counts[state] for state in _STATES if counts[state]},
        drawn=_drawn(trials),
        best=best,
        history=_history(trials, best, metric),
        curves=_curves(valued, best, metric),
        axes=axes,
        threads=threads,
        rows=[
            trial | {"params": {k: _text(v) for k, v in trial["params"].items()}}
            for trial in ranked
        ],
        factors=_factors(study["importance"], short),
        num_left_out=len(study["importance"]["left_out"]),
        against=study["against_recipe"],
    )


def _drawn(trials: list[dict[str, Any]]) -> str:
    """``2 drawn at random, 4 drawn by TPE``."""
    counts = Counter(trial.get("sampler") for trial in trials)
    found = [f"{counts[name]} {text}" for name, text in _SAMPLERS.items() if counts[name]]
    return ", ".join(found)


def _factors(importance: dict[str, Any], short: dict[str, str]) -> list[Factor]:
    found = [Factor(short[name], share, None) for name, share in importance["params"].items()]
    for name, branch in importance["branches"].items():
        found.append(Factor(short[name], branch["share"], branch["trials"]))
    return sorted(found, key=lambda factor: (-factor.share, factor.name))


def _history(trials: list[dict[str, Any]], best: dict[str, Any], metric: str) -> Chart:
    """Every trial's value in order of its number, and the best so far as a line."""
    valued = [trial for trial in trials if _finite(trial["value"])]
    values = [trial["value"] for trial in valued]
    x_scale = Scale.over([trial["number"] for trial in trials])
    y_scale = Scale.rounded(values)
    dots = [_dot(trial, best, x_scale, y_scale) for trial in trials]
    numbers = [trial["number"] for trial in valued]
    points = list(zip(numbers, accumulate(values, max), strict=True))
    so_far = line("best so far", "best", points, x=x_scale, y=y_scale)
    x_ticks = [tick for tick in x_scale.ticks() if "." not in tick.text]
    return Chart(f"{metric} by trial", "trial", x_ticks, y_scale.ticks(), [so_far], dots)


def _dot(trial: dict[str, Any], best: dict[str, Any], x_scale: Scale, y_scale: Scale) -> Dot:
    name, state = f"trial {trial['number']}", trial["state"]
    if not _finite(trial["value"]):  # failed before its first epoch: a mark on the floor
        return Dot(x_scale.at(trial["number"]), 0.0, state, f"{name}: {state}")
    text = f"{name}: {trial['value']:.3f}, {state} after {trial['epochs']} epochs"
    tone = "best" if trial is best else state
    return Dot(x_scale.at(trial["number"]), y_scale.at(trial["value"]), tone, text)


def _curves(trials: list[dict[str, Any]], best: dict[str, Any], metric: str) -> Chart | None:
    """Validation metric per epoch of every trial; None where no trial kept its curve."""
    curves = [(trial, trial["curve"]) for trial in trials if trial.get("curve")]
    values = [value for _, curve in curves for value in curve if _finite(value)]
    if not values:
        return None
    x_scale = Scale.over([0.0, max(len(curve) for _, curve in curves) - 1.0])
    y_scale = Scale.rounded(values)
    curves.sort(key=lambda item: item[0] is best)  # the best is drawn last, on top
    lines = []
    for trial, curve in curves:
        points = [(epoch, value) for epoch, value in enumerate(curve) if _finite(value)]
        tone = "best" if trial is best else "quiet"
        if points:
            lines.append(line(f"trial {trial['number']}", tone, points, x=x_scale, y=y_scale))
    x_ticks = [tick for tick in x_scale.ticks() if "." not in tick.text]
    return Chart(f"{metric} by epoch", "epoch", x_ticks, y_scale.ticks(), lines)


def _parallel(
    trials: list[dict[str, Any]], best: dict[str, Any], metric: str
) -> tuple[list[Axis], list[Line]]:
    """An axis per parameter that varies, then the value; one thread per trial across them.

    A parameter that only some trials have (define-by-run) is left to the table.
    """
    names = [name for name in best["params"] if all(name in t["params"] for t in trials)]
    columns = {name: [trial["params"][name] for trial in trials] for name in names}
    columns = {name: column for name, column in columns.items() if len(set(map(_text, column))) > 1}
    columns[metric] = [trial["value"] for trial in trials]
    axes: list[Axis] = []
    heights: list[list[float]] = []
    for i, (name, column) in enumerate(columns.items()):
        ticks, ys = _axis(column)
        axes.append(Axis(name, round(100 * i / max(len(columns) - 1, 1), 2), ticks))
        heights.append(ys)
    threads = []
    for trial, crossed in zip(trials, zip(*heights, strict=True), strict=True):
        tone = "best" if trial is best else "quiet"
        joints = list(zip((axis.x for axis in axes), crossed, strict=True))
        threads.append(Line(f"trial {trial['number']}", tone, path(joints), joints[-1]))
    return axes, sorted(threads, key=lambda thread: thread.tone == "best")


def _axis(column: Sequence[Any]) -> tuple[list[Tick], list[float]]:
    """Numbers on a scale (by the logarithm when they span a factor of 20), others as steps."""
    if all(_finite(value) for value in column):
        low, high = min(column), max(column)
        scale = Scale.over(column, log=low > 0 and high / low >= 20)
        ends = [low, high] if low < high else [low]
        return [Tick(scale.at(v), number(v)) for v in ends], [scale.at(v) for v in column]
    texts = [_text(value) for value in column]
    steps = sorted(set(texts))
    at = {text: 100 * (i + 0.5) / len(steps) for i, text in enumerate(steps)}
    return [Tick(at[text], text) for text in steps], [at[text] for text in texts]


def _finite(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value)


def _text(value: Any) -> str:
    return number(value) if _finite(value) else str(value)


def _title(metric: str) -> str:
    """``val_weighted_f1`` as people write it."""
    text = metric.replace("_", " ").replace(" f1", " F1")
    return text[:1].upper() + text[1:]


def _short_names(trials: list[dict[str, Any]]) -> dict[str, str]:
    """Recipe keys to their telling part, ``train.schedule.name`` to ``schedule``, if unique."""
    names = {name for trial in trials for name in trial["params"]}
    last = {name: name.removesuffix(".name").rsplit(".", 1)[-1] for name in names}
    counts = Counter(last.values())
    return {name: last[name] if counts[last[name]] == 1 else name for name in names}
