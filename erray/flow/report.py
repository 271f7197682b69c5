"""Step 5: everything the run wrote to one page, and the table of an ablation."""

from __future__ import annotations

from typing import Any

from erray.flow.context import Flow
from erray.labels import LabelSet
from erray.metrics import score, weighted_f1
from erray.report.build import build_report
from erray.statistics import bootstrap_interval
from erray.training.runs import TrainingRun


def report_step(flow: Flow) -> dict[str, Any]:
    """Write ``report/index.html`` and ``report/metrics.json``; return the metrics."""
    with flow.step("report") as parent:
        metrics = build_report(str(flow.out), flow.recipe)
        flow.registry.log_folder(parent, flow.out / "report", "report")
        rules = metrics["fusion"]
        flow.registry.log_metrics(
            parent,
            [{f"test.{rule}.{k}": rules[rule][k] for rule in rules for k in _SCORES}],
        )
    return metrics


_SCORES = ("weighted_f1", "macro_f1", "accuracy")


def ablation_table(
    runs: dict[str, TrainingRun], labels: LabelSet, *, num_bootstrap: int
) -> list[dict[str, Any]]:
    """Test weighted F1 with its interval for every subset of streams, best first."""
    rows = []
    for name, run in runs.items():
        test = [row for row in run.predictions.read().to_pylist() if row["split"] == "test"]
        test = [row for row in test if row["label"] is not None]
        truth = [labels.index(row["label"]) for row in test]
        predicted = [labels.index(row["predicted"]) for row in test]
        interval = bootstrap_interval(
            weighted_f1, truth, predicted, len(labels), num_samples=num_bootstrap
        )
        rows.append(
            {
                "streams": name,
                "val_weighted_f1": run.history()["best_metric"],
                "weighted_f1": score("weighted_f1", truth, predicted, len(labels)),
                "low": interval.low,
                "high": interval.high,
                "clips": len(test),
            }
        )
    return sorted(rows, key=lambda row: -row["weighted_f1"])
