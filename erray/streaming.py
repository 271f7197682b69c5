"""A table through an actor pool: the only file that knows Ray Data.

A worker is a plain class, made once per actor and called on a batch; every batch is one block, so
that what a lost actor costs is one batch, and attempts are finite.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray.data
from ray.data.dataset import RayDeprecationWarning
from ray.exceptions import RayActorError, WorkerCrashedError

from erray.config import Pool

Worker = Callable[[pa.Table], pa.Table]


class WorkerLostError(RuntimeError):
    """An actor died more often than it may be restarted."""


@dataclass(frozen=True)
class PoolSize:
    """Actors of a stage and what each asks of the cluster."""

    num_workers: int
    num_cpus: float
    num_gpus: float


def plan_pool(
    pool: Pool, *, uses_gpu: bool, num_batches: int, cluster: dict[str, float]
) -> PoolSize:
    """Fill what the recipe leaves open from the cluster's resources.

    A stage that can use a GPU gets one per actor when the cluster has any; the number of actors
    is what fits, and never more than there are batches.
    """
    num_gpus = pool.num_gpus
    if num_gpus is None:
        num_gpus = 1.0 if uses_gpu and cluster.get("GPU", 0) >= 1 else 0.0
    fits = [cluster.get("CPU", 1) / pool.num_cpus]
    if num_gpus > 0:
        fits.append(cluster.get("GPU", 0) / num_gpus)
    num_workers = pool.num_workers or max(1, math.floor(min(fits)))
    return PoolSize(min(num_workers, max(num_batches, 1)), pool.num_cpus, num_gpus)


def stream(
    batches: Sequence[pa.Table],
    worker: type,
    settings: dict[str, Any],
    *,
    size: PoolSize,
    max_restarts: int,
    skip_lost: bool = False,
) -> Iterator[pa.Table]:
    """Send each batch through ``worker(**settings)`` in a pool of actors, yield what it returns.

    Args:
        batches: one block each, in any order of completion.
        max_restarts: restarts of an actor, and repeats of a batch whose actor died.
        skip_lost: go on without the batches that were lost; else raise.

    Raises:
        WorkerLostError: an actor died more than ``max_restarts`` times (unless ``skip_lost``).
    """
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1 if skip_lost else 0
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # finite restarts have no named parameter yet; without them one bad clip retries forever
        warnings.simplefilter("ignore", RayDeprecationWarning)
        # map_batches itself refuses GPUs without a batch size, and with one it joins small blocks
        results = ray.data.from_arrow(list(batches)).map_batches_internal(
            worker,
            fn_constructor_kwargs=settings,
            batch_size=None,
            batch_format="pyarrow",
            zero_copy_batch=True,
            compute=ray.data.ActorPoolStrategy(size=size.num_workers),
            num_cpus=size.num_cpus,
            num_gpus=size.num_gpus,
            max_restarts=max_restarts,
            max_task_retries=max_restarts,
        )
    try:
        yield from results.iter_batches(batch_size=None, batch_format="pyarrow")
    except (RayActorError, WorkerCrashedError) as error:
        raise WorkerLostError(str(error).splitlines()[0]) from error
