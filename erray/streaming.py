"""A table through an actor pool: the only file that knows Ray Data.

A worker is a plain class, made once per actor and called on a batch; every batch is one block, so
that what a lost actor costs is one batch, and attempts are finite. What a worker raises is raised
again where its results are read.
"""

from __future__ import annotations

import logging
import math
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray.data
from ray.data.dataset import RayDeprecationWarning

from erray.config import Pool
from erray.errors import UserError

Worker = Callable[[pa.Table], pa.Table]


class WorkerLostError(RuntimeError):
    """Batches never came back: every actor that took one of them died."""


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
    repeats: int,
) -> Iterator[pa.Table]:
    """Send each batch through ``worker(**settings)`` in a pool of actors, yield what it returns.

    Args:
        batches: one block each, in any order of completion.
        repeats: how often a batch whose actor died (or its node) is given to another one.

    Raises:
        WorkerLostError: after all other results: batches whose actor died every time.
        Exception: whatever a worker raised; the rest is not waited for.
    """
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    # lost actors alone: what a worker raises comes back as a reply
    context.max_errored_blocks = -1
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        # finite restarts have no named parameter yet; without them one bad clip retries forever
        warnings.simplefilter("ignore", RayDeprecationWarning)
        # map_batches itself refuses GPUs without a batch size, and with one it joins small blocks
        results = ray.data.from_arrow(list(batches)).map_batches_internal(
            _Guarded,
            fn_constructor_kwargs={"worker": worker, "settings": settings},
            batch_size=None,
            batch_format="pyarrow",
            zero_copy_batch=True,
            # an actor that dies takes one batch with it, not those that wait in its queue
            compute=ray.data.ActorPoolStrategy(
                size=size.num_workers, max_tasks_in_flight_per_actor=1
            ),
            num_cpus=size.num_cpus,
            num_gpus=size.num_gpus,
            # every batch may kill an actor each time: a pool without actors would wait for ever
            max_restarts=len(batches) * (repeats + 1),
            max_task_retries=repeats,
        )
    num_replies = 0
    for replies in results.iter_batches(batch_size=None, batch_format="pyarrow"):
        assert isinstance(replies, pa.Table)
        for reply in replies.to_pylist():
            num_replies += 1
            yield _opened(reply)
    if num_replies < len(batches):
        raise WorkerLostError(
            f"{len(batches) - num_replies} of {len(batches)} batches ended their worker's process"
        )


class _Guarded:
    """A worker in its actor: what it raises becomes a reply, so that only deaths are errors to Ray.

    Ray Data can skip the batches of dead actors, but then it skips exceptions too.
    """

    def __init__(self, worker: type, settings: dict[str, Any]) -> None:
        self._failure: pa.Table | None = None
        try:
            self._worker: Worker = worker(**settings)
        except Exception as error:  # noqa: BLE001 the driver raises it
            self._failure = _failure(error)

    def __call__(self, batch: pa.Table) -> pa.Table:
        if self._failure is not None:
            return self._failure
        try:
            result = self._worker(batch)
        except Exception as error:  # noqa: BLE001 the driver raises it
            return _failure(error)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, result.schema) as writer:
            writer.write_table(result)
        return _reply(result=sink.getvalue().to_pybytes())


_REPLY_SCHEMA = pa.schema([("result", pa.binary()), ("error", pa.binary())])


def _reply(*, result: bytes | None = None, error: bytes | None = None) -> pa.Table:
    return pa.Table.from_pylist([{"result": result, "error": error}], schema=_REPLY_SCHEMA)


def _failure(error: Exception) -> pa.Table:
    """The exception as a reply; its traceback, which cannot travel, as a note."""
    if not isinstance(error, UserError):
        error.add_note("".join(traceback.format_exception(error)))
    return _reply(error=ray.cloudpickle.dumps(error.with_traceback(None)))


def _opened(reply: dict[str, Any]) -> pa.Table:
    if reply["error"] is not None:
        raise ray.cloudpickle.loads(reply["error"])
    return pa.ipc.open_stream(reply["result"]).read_all()
