"""Independent plain runs side by side as Ray tasks: single streams, ablations, seeds and folds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.exceptions import RayTaskError

from erray.errors import UserError, refusal_line
from erray.training.events import POLL_S, EpochNews, OnEpoch, tell_nobody
from erray.training.job import TrainJob
from erray.training.runs import TrainingRun, train_in_process


def train_each(
    jobs: Sequence[tuple[TrainJob, TrainingRun]],
    *,
    on_done: Callable[[TrainJob, TrainingRun, dict[str, Any]], None],
    on_epoch: OnEpoch = tell_nobody,
) -> None:
    """Train every job in a process of its own, as many at a time as the cluster has room for.

    A job gets the GPUs of ``train.num_gpus``; where that is open, one if the cluster has any.

    Args:
        on_done: called here with each job's final training state as soon as it is there.
        on_epoch: told of every epoch of every run as it ends, those of a run before its
            ``on_done``.

    Raises:
        UserError: a job raised it, or the system refused the job something; with its name.
    """
    news = EpochNews([run.folder for _, run in jobs], on_epoch)
    has_gpu = ray.cluster_resources().get("GPU", 0) >= 1
    running = {}
    for job, run in jobs:
        num_gpus = job.settings.num_gpus
        if num_gpus is None:
            num_gpus = 1.0 if has_gpu else 0.0
        train = ray.remote(num_cpus=1, num_gpus=num_gpus, max_retries=2)(_train)
        running[train.remote(job, run, "cuda" if num_gpus > 0 else "cpu")] = (job, run)
    while running:
        ended, _ = ray.wait(list(running), num_returns=1, timeout=POLL_S)
        news.tell()
        for task in ended:
            job, run = running.pop(task)
            on_done(job, run, _result(task, run))


def _result(task: ray.ObjectRef, run: TrainingRun) -> dict[str, Any]:
    try:
        state: dict[str, Any] = ray.get(task)
    except RayTaskError as error:
        why = str(error.cause) if isinstance(error.cause, UserError) else refusal_line(error.cause)
        if why is None:
            raise
        raise UserError(f"{run.name}: {why}") from None  # one line, without the worker's traceback
    return state


def _train(job: TrainJob, run: TrainingRun, device: str) -> dict[str, Any]:
    return dict(train_in_process(job, run, device=device, on_epoch=run.epochs.append))
