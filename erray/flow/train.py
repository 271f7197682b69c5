"""Step 2: features to trained models; the fusion, and every stream on its own beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

from erray import interrupt
from erray.corpora.holdout import HOLDOUT, VAL
from erray.flow.context import FUSION, Flow
from erray.ray_session import ray_session
from erray.registry import StoreAway
from erray.training.arrays import FeatureArrays
from erray.training.distributed import train_distributed
from erray.training.events import EpochEnd
from erray.training.fanout import train_each
from erray.training.job import TrainJob
from erray.training.runs import TrainingRun, finish_run

SCORED_SPLITS = (VAL, HOLDOUT, "test")


def train_step(flow: Flow) -> dict[str, Any]:
    """Train the fusion under Ray Train and each stream alone; what is trained already stays.

    Returns:
        Run name to its best val score and epoch.
    """
    names = [FUSION, *(flow.recipe.streams if len(flow.recipe.streams) > 1 else ())]
    with flow.step("train") as parent:
        jobs = {name: flow.job(None if name == FUSION else [name]) for name in names}
        account_for([(job, flow.run(name)) for name, job in jobs.items()])
        todo = {n: job for n, job in jobs.items() if not flow.run(n).is_finished(job)}
        if todo:
            if flow.corpus.holdout:
                flow.say(flow.corpus.holdout)
            splits = scored_splits(flow)
            with ray_session():
                if FUSION in todo:
                    job = todo.pop(FUSION)
                    run = flow.run(FUSION)
                    on_epoch = follow(flow, [(flow, job, run)], parent)
                    state = train_distributed(job, run, on_epoch=on_epoch)
                    keep(flow, run, job, state, splits, parent)
                train_all(
                    flow, [(job, flow.run(name)) for name, job in todo.items()], splits, parent
                )
    return {name: summary(flow.run(name)) for name in names}


def ablate_step(flow: Flow) -> dict[str, TrainingRun]:
    """Train every non-empty subset of streams in plain processes; return the runs by subset."""
    streams = list(flow.recipe.streams)
    subsets = [s for size in range(1, len(streams) + 1) for s in combinations(streams, size)]
    runs = {"+".join(s): flow.run(f"ablation/{'+'.join(s)}") for s in subsets}
    with flow.step("ablate") as parent:
        jobs = {"+".join(s): flow.job(s) for s in subsets}
        account_for([(jobs[name], run) for name, run in runs.items()])
        todo = [(jobs[n], run) for n, run in runs.items() if not run.is_finished(jobs[n])]
        if todo:
            splits = scored_splits(flow)
            with ray_session():
                train_all(flow, todo, splits, parent)
    return runs


def account_for(trainings: Sequence[tuple[TrainJob, TrainingRun]]) -> None:
    """Let a signal say how many of ``trainings`` are done, and what is kept of the others."""

    def kept() -> str:
        unfinished = [(job, run) for job, run in trainings if not run.is_finished(job)]
        begun = [(run.kept_epochs(job), job, run) for job, run in unfinished]
        parts = [f"{len(trainings) - len(unfinished)} of {len(trainings)} trainings"]
        parts += [
            f"{n} of {job.settings.epochs} epochs of {run.name}" for n, job, run in begun if n
        ]
        return ", ".join(parts)

    interrupt.account(kept)


def train_all(
    flow: Flow,
    todo: Sequence[tuple[TrainJob, TrainingRun]],
    splits: Mapping[str, FeatureArrays],
    parent: str,
) -> None:
    """Train every job in a process of its own; keep each run as soon as it is there."""
    train_each(
        todo,
        on_done=lambda job, run, state: keep(flow, run, job, state, splits, parent),
        on_epoch=follow(flow, [(flow, job, run) for job, run in todo], parent),
    )


def follow(
    flow: Flow, todo: Sequence[tuple[Flow, TrainJob, TrainingRun]], parent: str
) -> Callable[[EpochEnd], None]:
    """Announce trainings to the display and to the tracking store, each with its own flow.

    Of a run whose folder holds the result of another job it says that this is replaced.

    Returns:
        Who is to be told of every epoch.
    """
    others = [
        run.name for _, job, run in todo if run.history().get("job") not in (None, job.fingerprint)
    ]
    if others:
        flow.say(
            f"trained anew, since features or settings have changed, or what erray makes of them: "
            f"{', '.join(others)}"
        )
    flow.training.begin({run.name: job.settings.epochs for _, job, run in todo})
    for own, job, run in todo:
        params, tags = _facts(own, job)
        flow.outbox.begin(run, params=params, tags=tags, parent=parent)
    runs = {run.name: run for _, _, run in todo}

    def on_epoch(event: EpochEnd) -> None:
        flow.training.epoch(event)
        flow.outbox.epoch(runs[event.run], event)

    return on_epoch


def chosen_epoch(run: TrainingRun) -> dict[str, float]:
    """The row of the history of the epoch that val chose, by whatever score it chose."""
    history = run.history()
    row: dict[str, float] = history["epochs"][history["best_epoch"]]
    return row


def scored_splits(flow: Flow) -> dict[str, FeatureArrays]:
    """Arrays of the splits that finished runs are scored on, where the corpus has them.

    Only val is part of a job and chooses anything.
    """
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
    """Write a finished run's folder; send it to the tracking store, below ``parent``.

    A store that is away is not waited for here: the run is sent with a later one, or at the end
    of the step.
    """
    run.tracking.unlink(missing_ok=True)  # of an earlier job
    finish_run(
        run,
        job,
        state,
        labels=flow.labels,
        features=flow.plan.fingerprints,
        clock_hz=flow.recipe.corpus.clock_hz,
        splits=splits,
    )
    flow.training.finish(run.name)
    rejected = run.rejected()
    if rejected:
        clip_id, why = next(iter(rejected.items()))
        flow.say(
            f"{run.name} predicts {len(rejected)} clips without a finite value: they are rejected "
            f"and in no score, for instance {clip_id}: {why} (all: {run.rejects.path})"
        )
    params, tags = _facts(flow, job)
    flow.outbox.put(run, params=params, tags=tags, parent=parent)
    try:
        with flow.registry.patience(0):
            flow.outbox.send(parent)
    except StoreAway:
        flow.say(f"the tracking store is away: {run.name} is trained and waits to be sent")


def track(
    flow: Flow,
    name: str,
    job: TrainJob,
    history: Sequence[Mapping[str, float]],
    parent: str,
    *,
    metric: str,
    times_s: Sequence[float] | None,
    more_tags: Mapping[str, str],
    failed: bool,
) -> None:
    """Log a training run that leaves no model: settings, metrics per epoch, how it ended.

    Args:
        history: a row per epoch with its ``metric``, which chose the best one.
        times_s: when each epoch ended, in seconds since 1970; None: not known.
    """
    params, facts = _facts(flow, job)
    tags = {**facts, **more_tags}
    with flow.registry.run(name, parent=parent, params=params, tags=tags, failed=failed) as run_id:
        flow.registry.log_metrics(run_id, history, times_s=times_s)
        values = [row[metric] for row in history if math.isfinite(row[metric])]
        if values:
            flow.registry.log_metrics(run_id, [{f"best_{metric}": max(values)}])


def _facts(flow: Flow, job: TrainJob) -> tuple[dict[str, Any], dict[str, str]]:
    """Parameters and tags of a training run in the tracking store."""
    params = {
        "streams": ",".join(job.streams),
        "seed": job.seed,
        "model": job.model.model_dump(),
        "train": job.settings.model_dump(),
    }
    tags = {"erray.job": job.fingerprint, "erray.data_fingerprint": flow.data_fingerprint}
    return params, tags


def summary(run: TrainingRun) -> dict[str, Any]:
    """Best val score and epoch of a finished run."""
    history = run.history()
    return {
        "val_weighted_f1": chosen_epoch(run)["val_weighted_f1"],
        "best_epoch": history["best_epoch"],
        "epochs": len(history["epochs"]),
    }
