"""The way to the tracking store: opened once, and waited for while it is away."""

from __future__ import annotations

import fcntl
import logging
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import IO, TypeVar

# MLflow reads some of these when it is imported.
os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
# Outages are waited for below, metrics without blocking: MLflow itself shall give up soon.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")

import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from erray import interrupt
from erray.credentials import without_credentials
from erray.errors import UserError
from erray.registry.home import ARTIFACTS, DATABASE, former_homes, local_path, move_addresses

for _name in ("mlflow", "alembic"):
    logging.getLogger(_name).setLevel(logging.WARNING)
_log = logging.getLogger(__name__)

RETRY_PAUSE_S = 5.0
STORE_ERRORS = (MlflowException, requests.RequestException)
_READ_ONLY = "readonly database"  # SQLite's words
_OUTAGE_CODES = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "RESOURCE_EXHAUSTED"}

_T = TypeVar("_T")


class StoreAway(UserError):
    """The store answered once and does not now, for longer than was to be waited for it."""


class Connection:
    """One experiment of one tracking store.

    Args:
        home: folder of the default store and, for a database ``uri``, of the artifacts.
        uri: MLflow tracking URI; None: ``sqlite:///<home>/mlflow.db``. A server (http, https)
            keeps artifacts where it likes.
        experiment: name of the experiment, made when it is missing.
        outage_limit_s: how long a store that answered once may be away before a call fails.
    """

    def __init__(
        self, home: Path, *, uri: str | None, experiment: str, outage_limit_s: float
    ) -> None:
        self.home = home.absolute()
        self.uri = uri or f"sqlite:///{self.home / DATABASE}"
        self.experiment = experiment
        self._outage_limit_s = outage_limit_s

    @cached_property
    def client(self) -> MlflowClient:
        """The client; the first use of a new store creates its schema (seconds).

        The addresses in a home that was moved or copied are changed first.

        Raises:
            UserError: the store cannot be opened, or its files are in another home.
        """
        with self._alone():
            self._settle()
            client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
            client.search_registered_models(max_results=1)
            return client

    @cached_property
    def experiment_id(self) -> str:
        """Id of the experiment, made if it is not there; opens the store as :attr:`client` does.

        Raises:
            UserError: as there; the experiment was deleted, or keeps its files where nothing is.
        """
        client = self.client
        with self._alone():
            return self._find_experiment(client)

    def require_place(self, location: str) -> None:
        """Refuse to write files where a home was and is no more.

        Args:
            location: address of an experiment's files.

        Raises:
            UserError: the home that it leads into is not there.
        """
        root = None if self._is_server else local_path(location)
        if root is not None and not root.parent.exists():
            raise UserError(
                f"the tracking store {without_credentials(self.uri)} keeps its files in {root}, "
                f"and there is no {root.parent}: if {self.home} is what was there, "
                f"`ln -s {self.home} {root.parent}`"
            )

    def place_of(self, run_id: str) -> Path | None:
        """The folder of a run's files; None where they are not on a disk.

        Raises:
            UserError: it is in a home that is not there.
        """
        if self._is_server:
            return None
        uri: str = self.patiently(partial(self.client.get_run, run_id)).info.artifact_uri
        self.require_place(uri.removesuffix(f"/{run_id}/{ARTIFACTS}"))
        return local_path(uri)

    @contextmanager
    def patience(self, limit_s: float) -> Iterator[None]:
        """Within the block wait no longer than ``limit_s`` for a store that is away."""
        usual, self._outage_limit_s = self._outage_limit_s, limit_s
        try:
            yield
        finally:
            self._outage_limit_s = usual

    def patiently(self, call: Callable[[], _T]) -> _T:
        """Return ``call()``, repeated while the store is away, at most ``outage_limit_s``.

        Raises:
            StoreAway: it was away for longer.
            UserError: it is a file that can only be read.
        """
        give_up_s = time.monotonic() + self._outage_limit_s
        while True:
            try:
                return call()
            except STORE_ERRORS as error:
                if _READ_ONLY in str(error):
                    raise UserError(
                        f"the tracking store {without_credentials(self.uri)} can only be read: "
                        f"make it writable, or set ERRAY_HOME or tracking.uri to another one"
                    ) from None
                if not is_outage(error):
                    raise
                if interrupt.requested() or time.monotonic() + RETRY_PAUSE_S > give_up_s:
                    raise StoreAway(
                        f"the tracking store {without_credentials(self.uri)} is away "
                        f"({one_line(error)}): what is computed is kept; run the command again "
                        f"when it is back, and what waits is sent"
                    ) from error
                _log.warning("the tracking store is away, waiting: %s", one_line(error))
                time.sleep(RETRY_PAUSE_S)

    def ui_command(self) -> str:
        """Return the command that shows the runs; for a tracking server, its address."""
        if self._is_server:
            return without_credentials(self.uri)
        program = Path("mlflow")
        if shutil.which("mlflow") is None:
            program = Path(sys.executable).with_name("mlflow")
            if program.is_relative_to(Path.cwd()):
                program = program.relative_to(Path.cwd())
        store = shlex.quote(without_credentials(self.uri))
        return f"{shlex.quote(str(program))} ui --backend-store-uri {store} --port 5000 --workers 1"

    @property
    def _is_server(self) -> bool:
        return self.uri.startswith(("http://", "https://"))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep the other processes of this home from creating the same; name a store that fails."""
        try:
            with self._lock_file():
                yield
        except MlflowException as error:
            uri = without_credentials(self.uri)
            raise UserError(
                f"cannot open the tracking store {uri}, check tracking.uri: {one_line(error)}"
            ) from None

    @contextmanager
    def _lock_file(self) -> Iterator[None]:
        lock = self._open_lock_file()
        if lock is None:
            yield
            return
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _open_lock_file(self) -> IO[str] | None:
        """None where the home can only be read: nobody creates anything in it."""
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            return (self.home / ".mlflow.lock").open("w")
        except OSError as error:
            if self._is_server or (self.home / DATABASE).is_file():
                return None
            raise UserError(
                f"{self.home} cannot be written ({error.strerror}): set ERRAY_HOME to a folder "
                f"that can"
            ) from None

    def _settle(self) -> None:
        """Change the addresses of the home's own database where they lead into another home."""
        if self.uri != f"sqlite:///{self.home / DATABASE}":
            return
        for former in former_homes(self.home):
            move_addresses(self.home, former)
            left = f"; the files of {former.num_left} runs are there alone" * bool(former.num_left)
            _log.warning(
                "the tracking store of %s is in %s now: its addresses were changed%s",
                former.path.parent,
                self.home,
                left,
            )

    def _find_experiment(self, client: MlflowClient) -> str:
        found = client.get_experiment_by_name(self.experiment)
        if found is None:
            root = None if self._is_server else (self.home / ARTIFACTS).as_uri()
            return str(client.create_experiment(self.experiment, artifact_location=root))
        if found.lifecycle_stage != "active":
            raise UserError(
                f"experiment {self.experiment!r} was deleted: restore it with 'mlflow experiments "
                f"restore -x {found.experiment_id}' or choose another tracking.experiment"
            )
        self.require_place(found.artifact_location)
        return str(found.experiment_id)


def is_outage(error: MlflowException | requests.RequestException) -> bool:
    """Tell a store that is away (no answer, 5xx, locked database) from a wrong call."""
    if isinstance(error, MlflowException):
        return error.error_code in _OUTAGE_CODES
    return error.response is None or error.response.status_code >= 500


def one_line(error: Exception) -> str:
    """Return the start of the message on one line, without credentials."""
    return without_credentials(" ".join(str(error).split()))[:300]
