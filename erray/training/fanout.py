"""Independent plain runs side by side as Ray tasks: single streams, ablations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ray

from erray.training.job import TrainJob
from erray.training.runs import TrainingRun, train_in_process


def train_each(
    jobs: Sequence[tuple[TrainJob, TrainingRun]],
    *,
    num_cpus: float = 1,
    on_done: Callable[[TrainJob, TrainingRun, dict[str, Any]], None],
) -> None:
    """Train every job in a process of its own, as many at a time as the cluster has CPUs.

    Args:
        on_done: called here with each job's final training state as soon as it is there.
    """
    task = ray.remote(num_cpus=num_cpus, max_retries=2)(_train)
    running = {task.remote(job, run): (job, run) for job, run in jobs}
    while running:
        (ready,), _ = ray.wait(list(running), num_returns=1)
        job, run = running.pop(ready)
        on_done(job, run, ray.get(ready))


def _train(job: TrainJob, run: TrainingRun) -> dict[str, Any]:
    return dict(train_in_process(job, run))
