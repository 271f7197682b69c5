"""Step 2: features to trained models; the fusion, and every stream on its own beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from erray.flow.context import FUSION, TUNED, Flow
from erray.ray_session import ray_session
from erray.run_record import without_credentials
from erray.training.arrays import FeatureArrays
from erray.training.distributed import train_distributed
from erray.training.fanout import train_each
from erray.training.job import TrainJob
from erray.training.runs import TrainingRun, finish_run

SCORED_SPLITS = ("val", "test")


def train_step(flow: Flow) -> dict[str, Any]:
    """Train the fusion under Ray Train and each stream alone; what is trained already stays.

    Returns:
        Run name to its best val score and epoch.
    """
    names = [FUSION, *(flow.recipe.streams if len(flow.recipe.streams) > 1 else ())]
    with flow.step("train") as parent:
        jobs = {name: flow.job(None if name == FUSION else [name]) for name in names}
        todo = {n: job for n, job in jobs.items() if not flow.run(n).is_finished(job)}
        if todo:
            splits = scored_splits(flow)
            with ray_session():
                if FUSION in todo:
                    job = todo.pop(FUSION)
                    state = train_distributed(job, flow.run(FUSION))
                    keep(flow, flow.run(FUSION), job, state, splits, parent)
                train_each(
                    [(job, flow.run(name)) for name, job in todo.items()],
                    on_done=lambda job, run, state: keep(flow, run, job, state, splits, parent),
                )
    return {name: summary(flow.run(name)) for name in names}


def ablate_step(flow: Flow) -> dict[str, TrainingRun]:
    """Train every non-empty subset of streams in plain processes; return the runs by subset."""
    streams = list(flow.recipe.streams)
    subsets = [s for size in range(1, len(streams) + 1) for s in combinations(streams, size)]
    runs = {"+".join(s): flow.run(f"ablation/{'+'.join(s)}") for s in subsets}
    with flow.step("ablate") as parent:
        jobs = {"+".join(s): flow.job(s) for s in subsets}
        todo = [(jobs[n], run) for n, run in runs.items() if not run.is_finished(jobs[n])]
        if todo:
            splits = scored_splits(flow)
            with ray_session():
                train_each(
                    todo,
                    on_done=lambda job, run, state: keep(flow, run, job, state, splits, parent),
                )
    return runs


def register_step(flow: Flow) -> dict[str, str]:
    """Make the run that val prefers (the fusion or the tuned one) a version under the alias.

    A run that is registered already is not registered again.

    Returns:
        ``name``, ``version`` and ``run`` of the registered model.
    """
    candidates = [flow.run(name) for name in (FUSION, TUNED) if flow.run(name).history()]
    best = max(candidates, key=lambda run: run.history()["best_metric"])  # a tie keeps the fusion
    job, known, tracking = best.history()["job"], flow.record.model, flow.recipe.tracking
    if known is not None and (known["job"], known["name"]) == (job, tracking.model_name):
        return known
    # the clips' weighted F1, to compare versions by, and the score that chose the epoch
    scores = {"val_weighted_f1", best.history()["metric"]}
    with flow.step("register") as parent:
        tracked = json.loads(best.tracking.read_text(encoding="utf-8"))
        same_store = tracked["uri"] == without_credentials(flow.registry.uri)
        version = flow.registry.register(
            tracked["run_id"] if same_store else parent,
            best.model,
            model_name=tracking.model_name,
            alias=tracking.alias,
            metrics={name: chosen_epoch(best)[name] for name in scores},
            tags={
                "erray.run": best.name,
                "erray.job": job,
                "erray.data_fingerprint": flow.data_fingerprint,
            },
        )
    model = {"name": tracking.model_name, "version": version, "run": best.name, "job": job}
    flow.record.update(model=model)
    return model


def chosen_epoch(run: TrainingRun) -> dict[str, float]:
    """The row of the history of the epoch that val chose, by whatever score it chose."""
    history = run.history()
    row: dict[str, float] = history["epochs"][history["best_epoch"]]
    return row


def scored_splits(flow: Flow) -> dict[str, FeatureArrays]:
    """Arrays of the splits that finished runs are scored on, where the corpus has them."""
    present = {clip.split for clip in flow.clips}
    return {split: flow.arrays(split) for split in SCORED_SPLITS if split in present}


def keep(
    flow: Flow,
    run: TrainingRun,
    job: TrainJob,
    state: Mapping[str, Any],
    splits: Mapping[str, FeatureArrays],
    parent: str,
) -> None:
    """Write a finished run's folder and its tracking run below ``parent``."""
    finish_run(
        run,
        job,
        state,
        labels=flow.labels,
        features=flow.plan.fingerprints,
        clock_hz=flow.recipe.corpus.clock_hz,
        splits=splits,
    )
    run_id = track(flow, run.name, job, state["history"], parent, folder=run)
    tracked = {"run_id": run_id, "uri": without_credentials(flow.registry.uri)}
    run.tracking.write_text(json.dumps(tracked), encoding="utf-8")


def track(
    flow: Flow,
    name: str,
    job: TrainJob,
    history: Sequence[Mapping[str, float]],
    parent: str,
    *,
    folder: TrainingRun | None = None,
) -> str:
    """Log one training run: settings, metrics per epoch, the model where there is one."""
    params = {
        "streams": ",".join(job.streams),
        "seed": job.seed,
        "model": job.model.model_dump(),
        "train": job.settings.model_dump(),
    }
    tags = {"erray.job": job.fingerprint, "erray.data_fingerprint": flow.data_fingerprint}
    with flow.registry.run(name, parent=parent, params=params, tags=tags) as run_id:
        flow.registry.log_metrics(run_id, history)
        if folder is not None:
            flow.registry.log_folder(run_id, folder.model, "model")
            flow.registry.log_file(run_id, folder.folder / "history.json")
    return run_id


def summary(run: TrainingRun) -> dict[str, Any]:
    """Best val score and epoch of a finished run."""
    history = run.history()
    return {
        "val_weighted_f1": chosen_epoch(run)["val_weighted_f1"],
        "best_epoch": history["best_epoch"],
        "epochs": len(history["epochs"]),
    }
