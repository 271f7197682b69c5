"""One connection to Ray per process: the cluster of the job, or a quiet one on this machine."""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import ray

from erray import interrupt
from erray.errors import UserError

# The tables, not the object store, carry the data: half a gigabyte holds every batch in flight.
LOCAL_OBJECT_STORE_BYTES = 512 * 1024**2

_SHORT_PLACES = ("/tmp", "/dev/shm", "/var/tmp")
_LONGEST_SOCKET = "/session_2000-01-01_00-00-00_000000_4194304/sockets/plasma_store"
_MOST_BYTES = 107 - len(_LONGEST_SOCKET)  # sun_path of Linux, without its end
_TOKEN_VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
_log = logging.getLogger(__name__)

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
    settings: dict[str, Any] = {}
    if not os.environ.get("RAY_ADDRESS"):
        _keep_token_elsewhere()
        settings = {
            "address": "local",
            "num_cpus": num_cpus,
            "num_gpus": num_gpus,
            "include_dashboard": False,
            "object_store_memory": LOCAL_OBJECT_STORE_BYTES,
            "_temp_dir": ray_folder(),
        }
    with nullcontext() if verbose else _unheard_stderr():
        ray.init(logging_level=level, log_to_driver=verbose, **settings)
    try:
        interrupt.rearm()  # Ray handles SIGTERM by an exit of its own
        yield dict(ray.cluster_resources())
    finally:
        ray.shutdown()


def ray_folder() -> str:
    """Return the folder of a local Ray: short, as it holds sockets, and writable.

    ``RAY_TMPDIR``, else ``ray`` in the system's temporary folder, else one beside that.

    Raises:
        UserError: there is none.
    """
    wanted = os.environ.get("RAY_TMPDIR") or f"{tempfile.gettempdir()}/ray"
    why = _why_not(wanted)
    if why is None:
        return wanted
    for folder in (f"{place}/ray-{os.getuid()}" for place in _SHORT_PLACES):
        if _why_not(folder) is None and Path(folder).stat().st_uid == os.getuid():
            _log.warning("Ray's files lie in %s: %s %s", folder, wanted, why)
            return folder
    raise UserError(
        f"no folder for Ray's sockets: {wanted} {why}; set RAY_TMPDIR to a folder that can be "
        f"written, of at most {_MOST_BYTES} bytes"
    )


def _why_not(folder: str) -> str | None:
    if len(os.fsencode(folder)) > _MOST_BYTES:
        return f"is longer than {_MOST_BYTES} bytes, which is all that a socket's path leaves"
    try:
        Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return f"cannot be written ({error.strerror})"


def _keep_token_elsewhere() -> None:
    """Let a local Ray keep its token in a temporary file where it cannot write ``~/.ray``."""
    if any(os.environ.get(name) for name in _TOKEN_VARIABLES):
        return
    try:
        token = Path.home() / ".ray" / "auth_token"
        if token.is_file():
            token.read_bytes()
            return
        token.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=token.parent):
            return
    except (OSError, RuntimeError):  # no permission; a user without a home
        os.environ["RAY_AUTH_TOKEN_PATH"] = _temporary_token()


@cache
def _temporary_token() -> str:
    """A token that only this user can read, until the process ends."""
    descriptor, path = tempfile.mkstemp(prefix="erray-token-")
    os.write(descriptor, secrets.token_hex(32).encode())
    os.close(descriptor)
    atexit.register(lambda: Path(path).unlink(missing_ok=True))
    return path


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
