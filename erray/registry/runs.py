"""Runs of an experiment: parameters, metrics per epoch, files."""

from __future__ import annotations

import json
import logging
import math
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

from erray.credentials import without_credentials
from erray.errors import UserError
from erray.registry.connection import (
    RETRY_PAUSE_S,
    STORE_ERRORS,
    Connection,
    is_outage,
    one_line,
)

_log = logging.getLogger(__name__)

COMMIT_TAG = "mlflow.source.git.commit"
"""Where MLflow shows the code's commit."""
# MLflow's own limits.
MAX_PARAM_CHARS = 6000
PARAMS_PER_CALL = 100
METRICS_PER_CALL = 1000


@dataclass(frozen=True)
class RunFacts:
    """A run without its series: ``tags`` are erray's own, ``commit`` is the code's."""

    run_id: str
    name: str
    experiment_id: str
    status: str
    parent: str | None
    tags: dict[str, str]
    commit: str | None


class Runs:
    """Writes runs; a store that goes away for minutes loses nothing."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
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
        """Open a run, below the run ``parent`` if given, and return its id.

        Nested ``params`` become dotted keys; a value longer than MLflow's limit is cut (write the
        whole recipe with :meth:`log_dict`). Credentials in URLs are masked.
        """
        client, patiently = self._connection.client, self._connection.patiently
        all_tags = {**(tags or {}), **({"mlflow.parentRunId": parent} if parent else {})}
        experiment_id = self._connection.experiment_id
        run = patiently(partial(client.create_run, experiment_id, run_name=name, tags=all_tags))
        run_id: str = run.info.run_id
        self.log_params(run_id, params or {})
        return run_id

    def log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        """Log settings as :meth:`start_run` does; the same ones again change nothing."""
        log = self._connection.client.log_batch
        flat = [Param(key, value) for key, value in _flatten(params)]
        for i in range(0, len(flat), PARAMS_PER_CALL):
            batch = flat[i : i + PARAMS_PER_CALL]
            self._connection.patiently(partial(log, run_id, params=batch))

    @contextmanager
    def run(
        self,
        name: str,
        *,
        parent: str | None = None,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        failed: bool = False,
    ) -> Iterator[str]:
        """Open a run for the block; it ends FAILED when the block raises.

        Args:
            failed: what the block tells of has failed: the run ends FAILED in any case.
        """
        run_id = self.start_run(name, parent=parent, params=params, tags=tags)
        try:
            yield run_id
        except BaseException:
            self.finish(run_id, failed=True)
            raise
        self.finish(run_id, failed=failed)

    def log_metrics(
        self,
        run_id: str,
        rows: Sequence[Mapping[str, float]],
        *,
        times_s: Sequence[float] | None = None,
    ) -> None:
        """Log ``rows``, one step each: the step is the row's ``epoch`` (0 without one).

        A value that is not finite is kept as NaN. While the store is away the rows wait here and
        go with a later call or with :meth:`finish`; sending one twice with its time changes
        nothing.

        Args:
            times_s: of each row, in seconds since 1970; None: now.
        """
        waiting = self._unsent.setdefault(run_id, [])
        for row, time_s in zip(rows, times_s or [time.time()] * len(rows), strict=True):
            step = int(row.get("epoch", 0))
            waiting.extend(
                Metric(key, value if math.isfinite(value) else math.nan, int(time_s * 1000), step)
                for key, value in row.items()
                if key != "epoch"
            )
        if time.monotonic() < self._next_try_s:
            return
        try:
            self._send(run_id)
        except STORE_ERRORS as error:
            if not is_outage(error):
                raise
            self._next_try_s = time.monotonic() + RETRY_PAUSE_S
            _log.warning(
                "the tracking store is away, %d values wait: %s", len(waiting), one_line(error)
            )

    def log_file(self, run_id: str, path: Path, artifact_path: str | None = None) -> None:
        """Upload one file into the folder ``artifact_path`` of the run's artifacts.

        Raises:
            UserError: these lie in a home that is not there any more; as the others below do.
        """
        self._connection.place_of(run_id)
        upload = self._connection.client.log_artifact
        self._connection.patiently(partial(upload, run_id, str(path), artifact_path))

    def log_folder(self, run_id: str, folder: Path, artifact_path: str | None = None) -> None:
        """Upload every file below ``folder`` into the folder ``artifact_path`` of the run."""
        self._connection.place_of(run_id)
        upload = self._connection.client.log_artifacts
        self._connection.patiently(partial(upload, run_id, str(folder), artifact_path))

    def log_dict(self, run_id: str, data: Mapping[str, Any], name: str) -> None:
        """Upload ``data`` as the JSON file ``name``; credentials in URLs are masked."""
        self._connection.place_of(run_id)
        text = without_credentials(json.dumps(data, indent=2, ensure_ascii=False))
        self._connection.patiently(partial(self._connection.client.log_text, run_id, text, name))

    def read_dict(self, run_id: str, name: str) -> dict[str, Any] | None:
        """Return what :meth:`log_dict` wrote as ``name``; None where the run has no such file."""
        client, patiently = self._connection.client, self._connection.patiently
        files = patiently(partial(client.list_artifacts, run_id))
        if name not in {file.path for file in files}:
            return None
        with tempfile.TemporaryDirectory() as folder:
            path = Path(patiently(partial(client.download_artifacts, run_id, name, folder)))
            data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return data

    def discard(self, run_id: str) -> None:
        """Delete a run that was not sent to its end; what waits for it is forgotten."""
        self._unsent.pop(run_id, None)
        delete = self._connection.client.delete_run
        self._connection.patiently(partial(delete, run_id))

    def run_facts(self, run_id: str) -> RunFacts:
        """What the store knows of a run.

        Raises:
            UserError: no such run.
        """
        try:
            run = self._connection.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise UserError(
                f"no run {run_id!r} in the tracking store: `erray registry show MODEL` names that "
                f"of a version"
            ) from None
        return RunFacts(
            run_id=run_id,
            name=run.info.run_name,
            experiment_id=run.info.experiment_id,
            status=run.info.status,
            parent=run.data.tags.get("mlflow.parentRunId"),
            tags={k: v for k, v in run.data.tags.items() if k.startswith("erray.")},
            commit=run.data.tags.get(COMMIT_TAG),
        )

    def is_store(self, uri: str | None, run_id: str | None) -> bool:
        """Whether the store that had the address ``uri``, and the run ``run_id``, is this one.

        A store that is a file in a home is the same one where the home was moved or copied.
        """
        own = without_credentials(self._connection.uri)
        if uri is None or run_id is None or uri == own:
            return uri == own
        if not (uri.startswith("sqlite:") and own.startswith("sqlite:")):
            return False
        try:
            self.run_facts(run_id)
        except UserError:
            return False
        return True

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run; one that is there gets the new value."""
        for key, value in tags.items():
            self._connection.patiently(
                partial(self._connection.client.set_tag, run_id, key, without_credentials(value))
            )

    def reopen(self, run_id: str) -> None:
        """Let a run that was closed go on."""
        update = self._connection.client.update_run
        self._connection.patiently(partial(update, run_id, status="RUNNING"))

    def finish(self, run_id: str, *, failed: bool = False) -> None:
        """Send what waits and close the run as FINISHED or FAILED."""
        self._connection.patiently(partial(self._send, run_id))
        close = self._connection.client.set_terminated
        self._connection.patiently(partial(close, run_id, "FAILED" if failed else "FINISHED"))

    def _send(self, run_id: str) -> None:
        waiting = self._unsent.get(run_id, [])
        while waiting:
            self._connection.client.log_batch(run_id, metrics=waiting[:METRICS_PER_CALL])
            del waiting[:METRICS_PER_CALL]


def _flatten(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in params.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{key}.")
            continue
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        text = without_credentials(text)
        cut = len(text) > MAX_PARAM_CHARS
        yield f"{prefix}{key}", text[: MAX_PARAM_CHARS - 3] + "..." if cut else text
