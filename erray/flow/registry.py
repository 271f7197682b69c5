"""Runs to versions: what of a run is registered, and what the store knows of it."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from erray.errors import UserError
from erray.evaluation.clips import LabelledClips
from erray.flow.context import FUSION, TUNED, Flow
from erray.flow.outbox import best_scores
from erray.flow.promotion import VAL_TAG, Decision, promote, told
from erray.flow.train import chosen_epoch
from erray.flow.version_folder import write_version
from erray.metrics import CLIP_RULES, METRICS, score
from erray.registry import Registry, Version
from erray.training.runs import TrainingRun

RUN_TAG = "erray.registered_run"
"""Tag of a whole run: the training run whose scores it shows."""


def register_step(flow: Flow) -> dict[str, str]:
    """Make the run that val prefers (the fusion or the tuned one) a version; promote if better.

    A run that another recipe left in the folder is no candidate; one that is registered already is
    not registered again.

    Returns:
        ``name``, ``version``, ``run`` and ``job`` of the registered model.
    """
    # a tie keeps the fusion
    best = max(_candidates(flow), key=lambda run: run.history()["best_metric"])
    job, known, tracking = best.history()["job"], flow.record.model, flow.recipe.tracking
    if known is not None and (known["job"], known["name"]) == (job, tracking.model_name):
        return known
    # the clips' weighted F1, to compare versions by, and the score that chose the epoch
    scores = {"val_weighted_f1", best.history()["metric"]}
    with flow.step("register") as parent:
        tracked = json.loads(best.tracking.read_text(encoding="utf-8"))
        same_store = flow.registry.is_store(tracked["uri"], tracked["run_id"])
        registered = register_model(
            flow,
            tracked["run_id"] if same_store else parent,
            best.model,
            run=best,
            origin=f"trained by erray as the run {best.name}",
            metrics={name: chosen_epoch(best)[name] for name in scores},
            tags={"erray.run": best.name, "erray.job": job},
        )
        version = registered.version
        flow.registry.tag(parent, {RUN_TAG: best.name, "erray.registered_model": version.uri})
        flow.registry.log_metrics(parent, [_scores_of(best)])
    model = {"name": version.name, "version": version.version, "run": best.name, "job": job}
    flow.record.update(model=model)
    return model


def register_model(
    flow: Flow,
    run_id: str,
    model: Path,
    *,
    run: TrainingRun | None,
    origin: str,
    tags: dict[str, str],
    metrics: dict[str, float] | None = None,
) -> Decision:
    """Register a model under the recipe's name; move the recipe's alias by the rule of promotion.

    Args:
        run_id: tracking run that the version belongs to.
        model: folder of the checkpoint.
        run, origin: see :func:`erray.flow.version_folder.write_version`.
    """
    features = {f"erray.features.{name}": flow.plan.fingerprints[name] for name in flow.plan.widths}
    data: dict[str, str] = {}
    if run is not None:
        data = {"erray.data_fingerprint": flow.data_fingerprint, VAL_TAG: flow.val_fingerprint}
    tracking = flow.recipe.tracking
    with tempfile.TemporaryDirectory(dir=flow.out, prefix=".version-") as scratch:
        folder = Path(scratch) / "version"
        write_version(flow, folder, model, run=run, origin=origin)
        version = flow.registry.register(
            run_id,
            folder,
            model_name=tracking.model_name,
            metrics=metrics,
            tags={**data, **features, **tags},
        )
    metric = flow.recipe.train.select.metric
    try:
        decision = promote(flow.registry, version, tracking.alias, metric=metric)
    except UserError as error:  # the version is there all the same, and must not be made twice
        decision = Decision(version, tracking.alias, None, str(error))
    flow.say(told(decision))
    return decision


def describe(registry: Registry, version: Version) -> dict[str, Any]:
    """All that the store knows of a version: files' hash, scores, lineage, moves of its aliases."""
    run = registry.run_facts(version.run_id) if version.run_id else None
    parent = registry.run_facts(run.parent) if run is not None and run.parent else None
    moves = [m for m in registry.moves(version.name) if version.version in (m.to, m.before)]
    return {
        **asdict(version),
        "run": run and asdict(run),
        "parent_run": parent and asdict(parent),
        "moves": [asdict(move) for move in moves],
    }


def describe_run(registry: Registry, run_id: str) -> dict[str, Any]:
    """A run, and the versions that were made of it or of a run below it.

    Raises:
        UserError: no such run.
    """
    versions = registry.versions_of_run(run_id)
    return {
        "run": asdict(registry.run_facts(run_id)),
        "versions": [asdict(version) for version in versions],
    }


def _scores_of(run: TrainingRun) -> dict[str, float]:
    """What the whole run shows of the registered one: val of its chosen epoch, and test."""
    found = best_scores(run.history())
    del found["epoch"]  # of the run itself: the whole run has no epochs
    rows = run.predictions.read().to_pylist()
    clips = LabelledClips.from_rows(row for row in rows if row["split"] == "test")
    if clips is not None:
        for rule in CLIP_RULES:
            answer_N = clips.predicted(rule)
            for name in METRICS:
                value = score(name, clips.label_N, answer_N, len(clips.classes))
                found[f"test.{rule}.{name}"] = value
    return found


def _candidates(flow: Flow) -> list[TrainingRun]:
    """The finished ones of the recipe's own run and of what a search of this recipe found."""
    jobs = {FUSION: flow.job().fingerprint, TUNED: flow.study().get("tuned_job")}
    return [flow.run(n) for n, job in jobs.items() if job is not None and flow.run(n).holds(job)]
