"""Runs, metrics, artifacts and model versions in MLflow; the only file that knows MLflow.

The default store is one sqlite file and one artifact folder under ``ERRAY_HOME``. A model version
is a folder of plain files (safetensors, JSON, sha256 sums): it is uploaded and downloaded as
bytes, so that no pickle is ever read. Only the driver talks to this file.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import math
import os
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

# Read by MLflow when it is imported.
os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
# An outage is waited for here, without blocking the training: MLflow itself shall give up soon.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")

import requests
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

from erray.errors import UserError
from erray.run_record import without_credentials

for _name in ("mlflow", "alembic"):
    logging.getLogger(_name).setLevel(logging.WARNING)
_log = logging.getLogger(__name__)

MAX_PARAM_CHARS = 6000
PARAMS_PER_CALL = 100
METRICS_PER_CALL = 1000
OUTAGE_LIMIT_S = 300.0
RETRY_PAUSE_S = 5.0
PATH_TAG, SHA256_TAG = "erray.artifact_path", "erray.sha256"
_NAME = r"[A-Za-z0-9_][A-Za-z0-9_. -]*"
_URI = re.compile(rf"models:/(?P<name>{_NAME})(@(?P<alias>[\w-]+)|/(?P<version>[1-9][0-9]*))")
_OUTAGE_CODES = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "RESOURCE_EXHAUSTED"}

_T = TypeVar("_T")


@dataclass(frozen=True)
class FetchedModel:
    """A model version on the local disk, its bytes as they were registered."""

    folder: Path
    name: str
    version: str
    run_id: str


class Registry:
    """One MLflow experiment and its model registry, opened at first use.

    Args:
        home: folder of the default store and, for a database ``uri``, of the artifacts.
        uri: MLflow tracking URI; None: ``sqlite:///<home>/mlflow.db``. A server (http, https)
            keeps artifacts where it likes.
        experiment: name of the experiment, made when it is missing.
        outage_limit_s: how long a server that answered once may be away before a call fails.
    """

    def __init__(
        self,
        home: Path,
        *,
        uri: str | None = None,
        experiment: str = "erray",
        outage_limit_s: float = OUTAGE_LIMIT_S,
    ) -> None:
        self.home = home.absolute()
        self.uri = uri or f"sqlite:///{self.home / 'mlflow.db'}"
        self.experiment = experiment
        self._outage_limit_s = outage_limit_s
        self._unsent: dict[str, list[Metric]] = {}
        self._next_try_s = 0.0

    def start_run(
        self,
        name: str,
        *,
        parent: str | None = None,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """Open a run, below ``parent`` if given, and return its id.

        Nested ``params`` become dotted keys; a value longer than MLflow's limit is cut (write the
        whole recipe with :meth:`log_dict`). Credentials in URLs are masked.
        """
        client, experiment_id = self._opened
        all_tags = {**(tags or {}), **({"mlflow.parentRunId": parent} if parent else {})}
        run = self._patiently(
            lambda: client.create_run(experiment_id, run_name=name, tags=all_tags)
        )
        run_id: str = run.info.run_id
        flat = [Param(key, value) for key, value in _flatten(params or {})]
        for i in range(0, len(flat), PARAMS_PER_CALL):
            self._patiently(partial(client.log_batch, run_id, params=flat[i : i + PARAMS_PER_CALL]))
        return run_id

    @contextmanager
    def run(
        self,
        name: str,
        *,
        parent: str | None = None,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Iterator[str]:
        """Open a run for the block; it ends FAILED when the block raises."""
        run_id = self.start_run(name, parent=parent, params=params, tags=tags)
        try:
            yield run_id
        except BaseException:
            self.finish(run_id, failed=True)
            raise
        self.finish(run_id)

    def log_metrics(self, run_id: str, rows: Sequence[Mapping[str, float]]) -> None:
        """Log ``rows``, one step each: the step is the row's ``epoch`` (0 without one).

        A value that is not finite is kept as NaN. While the server is away the rows wait here and
        go with the next call or with :meth:`finish`; sending one twice changes nothing.
        """
        now_ms = int(time.time() * 1000)
        for row in rows:
            step = int(row.get("epoch", 0))
            self._unsent.setdefault(run_id, []).extend(
                Metric(key, value if math.isfinite(value) else math.nan, now_ms, step)
                for key, value in row.items()
                if key != "epoch"
            )
        if time.monotonic() < self._next_try_s:
            return
        try:
            self._send(run_id)
        except (MlflowException, requests.RequestException) as error:
            if not _is_outage(error):
                raise
            self._next_try_s = time.monotonic() + RETRY_PAUSE_S
            num_waiting = len(self._unsent[run_id])
            _log.warning("tracking is away, %d metric values wait: %s", num_waiting, _line(error))

    def log_file(self, run_id: str, path: Path, artifact_path: str | None = None) -> None:
        """Upload one file into the folder ``artifact_path`` of the run's artifacts."""
        client, _ = self._opened
        self._patiently(lambda: client.log_artifact(run_id, str(path), artifact_path))

    def log_folder(self, run_id: str, folder: Path, artifact_path: str | None = None) -> None:
        """Upload every file below ``folder`` into the folder ``artifact_path`` of the run."""
        client, _ = self._opened
        self._patiently(lambda: client.log_artifacts(run_id, str(folder), artifact_path))

    def log_dict(self, run_id: str, data: Mapping[str, Any], name: str) -> None:
        """Upload ``data`` as the JSON file ``name``; credentials in URLs are masked."""
        client, _ = self._opened
        text = without_credentials(json.dumps(data, indent=2, ensure_ascii=False))
        self._patiently(lambda: client.log_text(run_id, text, name))

    def finish(self, run_id: str, *, failed: bool = False) -> None:
        """Send what waits and close the run as FINISHED or FAILED."""
        client, _ = self._opened
        self._patiently(lambda: self._send(run_id))
        status = "FAILED" if failed else "FINISHED"
        self._patiently(lambda: client.set_terminated(run_id, status))

    def register(
        self,
        run_id: str,
        folder: Path,
        *,
        model_name: str,
        alias: str,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """Make ``folder`` the next version of ``model_name``, move ``alias`` to it.

        The artifact folder is named by its content: no later version can overwrite it. Metrics
        become tags ``metric.<name>`` of the version. Of two that register at once, each gets its
        own version and the later one the alias.

        Returns:
            The version number.

        Raises:
            UserError: a name or alias that MLflow does not take.
        """
        require_valid_names(model_name, alias)
        client, _ = self._opened
        sha256 = folder_sha256(folder)
        path = f"model/{sha256[:16]}"
        self.log_folder(run_id, folder, path)
        self._patiently(lambda: _create_model(client, model_name))
        run = self._patiently(lambda: client.get_run(run_id))
        all_tags = {
            **{f"metric.{key}": repr(float(value)) for key, value in (metrics or {}).items()},
            **(tags or {}),
            PATH_TAG: path,
            SHA256_TAG: sha256,
        }
        created = self._patiently(
            lambda: client.create_model_version(
                model_name,
                f"{run.info.artifact_uri}/{path}",
                run_id,
                tags=all_tags,
                await_creation_for=0,
            )
        )
        version = str(created.version)
        self._patiently(lambda: client.set_registered_model_alias(model_name, alias, version))
        _log.info("%s version %s is now %r", model_name, version, alias)
        return version

    def fetch(self, model_uri: str, into: Path) -> FetchedModel:
        """Download ``models:/name@alias`` or ``models:/name/version`` to ``into/name-version``.

        A copy that is there with the right content is used as it is.

        Raises:
            UserError: another form of URI, no such model, alias or version (those that exist are
                listed), a version that erray did not register, or content that has changed.
        """
        client, _ = self._opened
        entry = self._find(client, model_uri)
        if PATH_TAG not in entry.tags or SHA256_TAG not in entry.tags:
            raise UserError(f"{model_uri}: version {entry.version} was not registered by erray")
        folder = into / f"{entry.name}-{entry.version}"
        if not folder.is_dir() or folder_sha256(folder) != entry.tags[SHA256_TAG]:
            into.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=into, prefix=".fetch-") as scratch:
                got = self._patiently(
                    lambda: client.download_artifacts(entry.run_id, entry.tags[PATH_TAG], scratch)
                )
                if folder_sha256(Path(got)) != entry.tags[SHA256_TAG]:
                    raise UserError(
                        f"{model_uri}: the stored files are not those that were registered "
                        f"(sha256 differs): register the model again"
                    )
                shutil.rmtree(folder, ignore_errors=True)
                Path(got).rename(folder)
        return FetchedModel(folder, entry.name, str(entry.version), entry.run_id)

    def ui_command(self) -> str:
        """Return the command that shows the runs; for a tracking server, its address."""
        if _is_server(self.uri):
            return without_credentials(self.uri)
        program = Path("mlflow")
        if shutil.which("mlflow") is None:
            program = Path(sys.executable).with_name("mlflow")
            if program.is_relative_to(Path.cwd()):
                program = program.relative_to(Path.cwd())
        store = shlex.quote(without_credentials(self.uri))
        return f"{shlex.quote(str(program))} ui --backend-store-uri {store} --port 5000"

    @cached_property
    def _opened(self) -> tuple[MlflowClient, str]:
        """The client and the experiment's id; the first user of a store creates its schema."""
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / ".mlflow.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two processes must not create the schema at once
            try:
                client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
                client.search_registered_models(max_results=1)
                return client, self._experiment_id(client)
            except MlflowException as error:
                uri = without_credentials(self.uri)
                raise UserError(f"cannot open the tracking store {uri}: {_line(error)}") from None

    def _experiment_id(self, client: MlflowClient) -> str:
        found = client.get_experiment_by_name(self.experiment)
        if found is None:
            root = None if _is_server(self.uri) else (self.home / "artifacts").as_uri()
            return str(client.create_experiment(self.experiment, artifact_location=root))
        if found.lifecycle_stage != "active":
            raise UserError(
                f"experiment {self.experiment!r} was deleted: restore it with 'mlflow experiments "
                f"restore -x {found.experiment_id}' or choose another tracking.experiment"
            )
        return str(found.experiment_id)

    def _send(self, run_id: str) -> None:
        client, _ = self._opened
        waiting = self._unsent.get(run_id, [])
        while waiting:
            client.log_batch(run_id, metrics=waiting[:METRICS_PER_CALL])
            del waiting[:METRICS_PER_CALL]

    def _patiently(self, call: Callable[[], _T]) -> _T:
        """Repeat ``call`` while the server is away, at most ``outage_limit_s``."""
        give_up_s = time.monotonic() + self._outage_limit_s
        while True:
            try:
                return call()
            except (MlflowException, requests.RequestException) as error:
                if not _is_outage(error) or time.monotonic() + RETRY_PAUSE_S > give_up_s:
                    raise
                _log.warning("tracking is away, waiting: %s", _line(error))
                time.sleep(RETRY_PAUSE_S)

    def _find(self, client: MlflowClient, model_uri: str) -> Any:
        match = _URI.fullmatch(model_uri)
        if match is None:
            raise UserError(
                f"model {model_uri!r}: expected models:/name@alias or models:/name/version"
            )
        name, alias, version = match["name"], match["alias"], match["version"]
        names = [model.name for model in client.search_registered_models()]
        if name not in names:
            raise UserError(f"{model_uri}: no model {name!r}; there are: {_listed(names)}")
        aliases = client.get_registered_model(name).aliases
        if alias is not None and alias not in aliases:
            raise UserError(f"{model_uri}: no alias {alias!r}; there are: {_listed(aliases)}")
        entries = {str(v.version): v for v in client.search_model_versions(f"name='{name}'")}
        wanted = version or str(aliases[alias])
        if wanted not in entries:
            raise UserError(f"{model_uri}: no version {wanted}; there are: {_listed(entries)}")
        return entries[wanted]


def require_valid_names(model_name: str, alias: str) -> None:
    """Refuse a model name or alias that could not be registered, before hours of training.

    Raises:
        UserError: characters that ``models:/name@alias`` cannot hold, or a reserved alias.
    """
    if re.fullmatch(_NAME, model_name) is None:
        raise UserError(
            f"model name {model_name!r}: expected letters, digits, space, '_', '.', '-'"
        )
    reserved = alias.lower() == "latest" or re.fullmatch(r"[vV]\d+", alias)
    if reserved or re.fullmatch(r"[A-Za-z0-9_-]+", alias) is None:
        raise UserError(
            f"alias {alias!r}: expected letters, digits, '_' and '-', not 'latest', not 'v1'"
        )


def folder_sha256(folder: Path) -> str:
    """Return the sha256 of the names and contents of all files below ``folder``."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{content}  {path.relative_to(folder).as_posix()}\n".encode())
    return digest.hexdigest()


def _create_model(client: MlflowClient, name: str) -> None:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _flatten(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in params.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{key}.")
            continue
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        text = without_credentials(text)
        yield f"{prefix}{key}", text if len(text) <= MAX_PARAM_CHARS else _cut(text)


def _cut(text: str) -> str:
    return text[: MAX_PARAM_CHARS - 3] + "..."


def _is_server(uri: str) -> bool:
    return uri.startswith(("http://", "https://"))


def _is_outage(error: MlflowException | requests.RequestException) -> bool:
    if isinstance(error, MlflowException):
        return error.error_code in _OUTAGE_CODES
    return error.response is None or error.response.status_code >= 500


def _line(error: Exception) -> str:
    return without_credentials(" ".join(str(error).split()))[:300]


def _listed(names: Any) -> str:
    return ", ".join(map(str, names)) or "none"
