"""One connection to Ray per process: the cluster of the job, or a quiet one on this machine."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import ray

# The tables, not the object store, carry the data: half a gigabyte holds every batch in flight.
LOCAL_OBJECT_STORE_BYTES = 512 * 1024**2

_QUIET = {
    "RAY_DEDUP_LOGS": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "TQDM_DISABLE": "1",
}


@contextmanager
def ray_session(
    *, num_cpus: int | None = None, num_gpus: int | None = None, verbose: bool = False
) -> Iterator[dict[str, float]]:
    """Yield the resources of the cluster; end only what was started here.

    Inside a job (``RAY_ADDRESS`` is set) it is that cluster; an open connection is used as it is;
    else a local Ray starts, without a dashboard and without its log noise unless ``verbose``.
    """
    if ray.is_initialized():
        yield dict(ray.cluster_resources())
        return
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    level = logging.INFO if verbose else logging.ERROR
    if os.environ.get("RAY_ADDRESS"):
        ray.init(logging_level=level, log_to_driver=verbose)
    else:
        ray.init(
            address="local",
            num_cpus=num_cpus,
            num_gpus=num_gpus,
            include_dashboard=False,
            object_store_memory=LOCAL_OBJECT_STORE_BYTES,
            logging_level=level,
            log_to_driver=verbose,
            _temp_dir=os.environ.get("RAY_TMPDIR") or f"{tempfile.gettempdir()}/ray",
        )
    try:
        yield dict(ray.cluster_resources())
    finally:
        ray.shutdown()
