"""Independent plain runs side by side as Ray tasks: single streams, ablations, seeds and folds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.exceptions import RayTaskError

from erray.errors import UserError
from erray.training.job import TrainJob
from erray.training.runs import TrainingRun, train_in_process


def train_each(
    jobs: Sequence[tuple[TrainJob, TrainingRun]],
    *,
    on_done: Callable[[TrainJob, TrainingRun, dict[str, Any]], None],
) -> None:
    """Train every job in a process of its own, as many at a time as the cluster has room for.

    A job gets the GPUs of ``train.num_gpus``; where that is open, one if the cluster has any.

    Args:
        on_done: called here with each job's final training state as soon as it is there.

    Raises:
        UserError: a job raised it, with that job's name.
    """
    has_gpu = ray.cluster_resources().get("GPU", 0) >= 1
    running = {}
    for job, run in jobs:
        num_gpus = job.settings.num_gpus
        if num_gpus is None:
            num_gpus = 1.0 if has_gpu else 0.0
        task = ray.remote(num_cpus=1, num_gpus=num_gpus, max_retries=2)(_train)
        running[task.remote(job, run, "cuda" if num_gpus > 0 else "cpu")] = (job, run)
    while running:
        (ready,), _ = ray.wait(list(running), num_returns=1)
        job, run = running.pop(ready)
        on_done(job, run, _result(ready, run))


def _result(ready: ray.ObjectRef, run: TrainingRun) -> dict[str, Any]:
    try:
        state: dict[str, Any] = ray.get(ready)
    except RayTaskError as error:
        if isinstance(error.cause, UserError):  # one line, without the worker's traceback
            raise UserError(f"{run.name}: {error.cause}") from None
        raise
    return state


def _train(job: TrainJob, run: TrainingRun, device: str) -> dict[str, Any]:
    return dict(train_in_process(job, run, device=device))
