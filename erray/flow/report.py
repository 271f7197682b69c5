"""Step 5: everything the run wrote to one page, and the table of an ablation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from erray.evaluation.comparison import require_same_clips
from erray.flow.compare import labelled_clips
from erray.flow.context import FUSION, Flow
from erray.metrics import METRICS, macro_f1_rule
from erray.report.build import build_report
from erray.report.sources import ABLATION_FILE
from erray.statistics import Resamples, corrected
from erray.store import write_json
from erray.training.runs import TrainingRun, all_rejected


def report_step(flow: Flow, *, compare: str | None = None) -> dict[str, Any]:
    """Write ``report/index.html`` and ``report/metrics.json``; return the metrics.

    Args:
        compare: folder of another run that the page compares with; None: that of the recipe.

    Raises:
        UserError: no test predictions, or the other run is none of the same test clips.
    """
    with flow.step("report") as parent:
        metrics = build_report(
            str(flow.out), flow.recipe, compare=compare or flow.recipe.report.compare
        )
        flow.registry.log_folder(parent, flow.out / "report", "report")
        rules = metrics[metrics["registered_run"] or FUSION]
        flow.registry.log_metrics(
            parent,
            [{f"test.{rule}.{k}": rules[rule][k] for rule in rules for k in METRICS}],
        )
    return metrics


def ablation(flow: Flow, runs: Mapping[str, TrainingRun]) -> dict[str, Any]:
    """Score the subsets of streams and keep the table in ``ablation.json``, for the page.

    Raises:
        UserError: as :func:`ablation_table` does.
    """
    recipe = flow.recipe
    rows = ablation_table(runs, num_bootstrap=recipe.report.num_bootstrap, seed=recipe.seed)
    rejected = all_rejected(runs.values())
    clips = labelled_clips(list(runs.values())[-1], "test", without=rejected)
    result = {
        "streams": list(recipe.streams),
        "macro_f1_rule": macro_f1_rule(clips.label_N, len(clips.classes)),
        "subsets": rows,
        "rejected": rejected,
    }
    path = flow.out / ABLATION_FILE
    write_json(path, result)
    return result


def ablation_table(
    runs: Mapping[str, TrainingRun], *, num_bootstrap: int, seed: int
) -> list[dict[str, Any]]:
    """Test scores of every subset of streams by its clip rule, best weighted F1 first.

    All subsets are scored on the same resamples of groups. A clip that one run has rejected is left
    out of all.

    Args:
        runs: subset to its run; the last is that of all streams.

    Returns:
        Per subset ``streams``, ``clips``, ``val`` (name and value of the score that chose the
        epoch), each metric with its interval, and ``minus_all``: each metric minus that of all
        streams, paired, p-values corrected for the number of subsets; None for all streams
        themselves.

    Raises:
        UserError: runs without labelled test clips, or of other test clips.
    """
    folders = [str(run.folder) for run in runs.values()]
    rejected = all_rejected(runs.values())
    clips = [labelled_clips(run, "test", without=rejected) for run in runs.values()]
    for folder, part in zip(folders, clips, strict=True):
        remedy = "remove both and run `erray ablate` again"
        require_same_clips(clips[-1], part, names=(folders[-1], folder), remedy=remedy)
    resamples = Resamples(
        clips[-1].label_N,
        [part.predicted(part.clip_rule) for part in clips],
        len(clips[-1].classes),
        groups=clips[-1].groups,
        num_samples=num_bootstrap,
        seed=seed,
    )
    last, gaps = len(runs) - 1, {}
    for key, metric in METRICS.items():
        gaps[key] = corrected([resamples.difference(metric, i, last) for i in range(last)])
    rows = []
    for i, (name, run) in enumerate(runs.items()):
        history = run.history()
        rows.append(
            {
                "streams": name,
                "clips": len(clips[i]),
                "val": {"metric": history["metric"], "value": history["best_metric"]},
                **{k: asdict(resamples.interval(metric, i)) for k, metric in METRICS.items()},
                "minus_all": None if i == last else {k: asdict(gaps[k][i]) for k in METRICS},
            }
        )
    return sorted(rows, key=lambda row: -row["weighted_f1"]["value"])
