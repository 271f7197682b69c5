"""``erray repeat``: the fusion with several seeds and on several folds, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from erray.cli.display import print_line, table, with_limits
from erray.cli.results import LEFT_OUT, show_rejected

if TYPE_CHECKING:
    from erray.flow.context import Flow

REPEAT = "Train the fusion with every seed and on every fold of the recipe; mean and spread."

_COLUMNS = {
    "val F1": ("val", "clip", "weighted_f1"),
    "test F1": ("test", "clip", "weighted_f1"),
    "macro F1": ("test", "clip", "macro_f1"),
    "accuracy": ("test", "clip", "accuracy"),
    "frames F1": ("test", "frame", "weighted_f1"),
}
_SPREADS = {"mean": "mean", "std": "std", "std_seeds": "std, seeds", "std_folds": "std, folds"}


def repeat(flow: Flow) -> dict[str, Any]:
    """Train what is missing; every run's scores, their mean and spread."""
    from erray.flow.repeat import repeat_step

    return repeat_step(flow)


def show_repeat(result: dict[str, Any]) -> None:
    """A row per run, then mean and spread; below, all test predictions together."""
    rows = []
    for run in result["runs"]:
        cells = [_score(run["scores"], place) for place in _COLUMNS.values()]
        rows.append([run["run"].removeprefix("repeat/"), *cells])
    folds, seeds = ({run[key] for run in result["runs"]} for key in ("fold", "seed"))
    # of one fold the spread over seeds is that over all runs
    shown = list(_SPREADS)[: 4 if min(len(folds), len(seeds)) > 1 else 2]
    for key in shown:
        cells = [_spread(result["spread"], place, key) for place in _COLUMNS.values()]
        rows.append([_SPREADS[key], *cells])
    table("Repeated (F1 without a word is weighted)", ["run", *_COLUMNS], rows)
    show_rejected(result["rejected"], LEFT_OUT)
    if result["pooled"] is not None:
        _show_pooled(result["pooled"])


def _show_pooled(pooled: dict[str, Any]) -> None:
    rows = []
    for level, metric, name in (
        ("clip", "weighted_f1", "weighted F1"),
        ("clip", "macro_f1", "macro F1"),
        ("clip", "accuracy", "accuracy"),
        ("frame", "weighted_f1", "weighted F1 of frames"),
        ("clip_without_other", "weighted_f1", "weighted F1, Other ignored"),
        ("frame_without_other", "weighted_f1", "weighted F1 of frames, Other ignored"),
    ):
        if level in pooled:
            found = pooled[level][metric]
            rows.append([name, with_limits(found)])
    table(f"All {pooled['predictions']} test predictions together", ["", "score, 95 %"], rows)
    print_line(
        f"[dim]{pooled['macro_f1_rule']}; that of a run is over the classes that its own clips have"
    )


def _score(scores: dict[str, Any], place: tuple[str, str, str]) -> str:
    split, level, metric = place
    return f"{scores[split][level][metric]:.3f}" if split in scores else "-"


def _spread(spreads: dict[str, Any], place: tuple[str, str, str], key: str) -> str:
    split, level, metric = place
    value = spreads[split][level][metric][key] if split in spreads else None
    return "-" if value is None else f"{value:.3f}"
