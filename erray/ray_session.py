"""One connection to Ray per process: the cluster of the job, or a quiet one on this machine."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import ray

from erray import interrupt

# The tables, not the object store, carry the data: half a gigabyte holds every batch in flight.
LOCAL_OBJECT_STORE_BYTES = 512 * 1024**2

_QUIET = {
    "RAY_DEDUP_LOGS": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # who asked for no GPU sees none
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
    local: dict[str, Any] = {
        "address": "local",
        "num_cpus": num_cpus,
        "num_gpus": num_gpus,
        "include_dashboard": False,
        "object_store_memory": LOCAL_OBJECT_STORE_BYTES,
        "_temp_dir": os.environ.get("RAY_TMPDIR") or f"{tempfile.gettempdir()}/ray",
    }
    settings = {} if os.environ.get("RAY_ADDRESS") else local
    with nullcontext() if verbose else _unheard_stderr():
        ray.init(logging_level=level, log_to_driver=verbose, **settings)
    try:
        interrupt.rearm()  # Ray handles SIGTERM by an exit of its own
        yield dict(ray.cluster_resources())
    finally:
        ray.shutdown()


@contextmanager
def _unheard_stderr() -> Iterator[None]:
    """Keep what Ray's C++ core writes to standard error in the block; show it if the block fails.

    It announces its own log level there before that level holds.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as heard:
        os.dup2(heard.fileno(), 2)
        try:
            yield
        except Exception:
            heard.seek(0)
            os.write(saved, heard.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
