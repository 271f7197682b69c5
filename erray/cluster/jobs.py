"""Jobs of a cluster: sent, followed, ended with their exit code."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from erray.cluster.door import ADDRESS_VARIABLE, Door
from erray.cluster.package import WorkingFolder
from erray.errors import UserError

_CHATTY = ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk")
RETRY_PAUSE_S = 3.0
OUTAGE_LIMIT_S = 300.0
START_LIMIT_S = 60.0
_NO_AGENT = "No available agent"  # the head answers before it can start jobs
# RuntimeError: what the client makes of a web socket that broke and of answers such as 500
_OUTAGES = (aiohttp.ClientError, requests.RequestException, ConnectionError, RuntimeError)


class Jobs:
    """The jobs of the cluster behind ``door``."""

    def __init__(self, door: Door) -> None:
        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)
        headers = {"Authorization": f"Bearer {door.token}"} if door.token else None
        with _address(door.address):
            self._client = JobSubmissionClient(door.address, headers=headers)

    def submit(self, entrypoint: str, folder: WorkingFolder, environment: Mapping[str, Any]) -> str:
        """Send the folder, start ``entrypoint`` in it; return the job's id.

        Args:
            environment: runtime environment of the job, without its working folder.

        Raises:
            UserError: the cluster refused it, or has no node that takes jobs yet.
        """
        name = f"erray-{secrets.token_hex(8)}"  # of our own: sent twice, it would start once
        with tempfile.TemporaryDirectory(prefix="erray-") as temporary:
            archive = Path(temporary) / "working_dir.zip"
            folder.write_zip(archive)
            wanted = {**environment, "working_dir": str(archive)}
            give_up_s = time.monotonic() + START_LIMIT_S
            while True:
                try:
                    return str(
                        self._client.submit_job(
                            entrypoint=entrypoint, runtime_env=wanted, submission_id=name
                        )
                    )
                except (RuntimeError, AuthenticationError) as error:
                    line = " ".join(str(error).split())[:300]
                    if _NO_AGENT not in line or time.monotonic() > give_up_s:
                        raise UserError(f"the cluster did not take the job: {line}") from None
                time.sleep(RETRY_PAUSE_S)

    def follow(self, job: str, write: Callable[[str], object]) -> None:
        """Hand what the job prints to ``write`` until it ends, over broken connections.

        Raises:
            UserError: the cluster was away for longer than ``OUTAGE_LIMIT_S``.
        """
        num_written = 0
        answered_s = time.monotonic()
        while True:
            try:
                for text in self._log(job, skip=num_written):
                    num_written += len(text)
                    write(text)
                if self._client.get_job_status(job).is_terminal():
                    return
                answered_s = time.monotonic()
            except _OUTAGES as error:
                if time.monotonic() - answered_s > OUTAGE_LIMIT_S:
                    raise UserError(
                        f"the cluster was away for {OUTAGE_LIMIT_S:.0f} s ({type(error).__name__}):"
                        f" the job may go on, see 'ray job logs {job} --follow'"
                    ) from None
            time.sleep(RETRY_PAUSE_S)

    def exit_code(self, job: str) -> tuple[int, str]:
        """Return the exit code of a job that ended, and how it ended.

        A job that never started (its packages could not be installed) or was stopped has code 1.
        """
        info = self._client.get_job_info(job)
        if info.status == JobStatus.SUCCEEDED:
            return 0, "succeeded"
        if info.driver_exit_code:
            return info.driver_exit_code, f"failed with exit code {info.driver_exit_code}"
        return 1, f"{info.status.lower()}: {info.message}"

    def _log(self, job: str, *, skip: int) -> Iterator[str]:
        """Pieces of the job's log as they come, without its first ``skip`` characters."""
        pieces = self._client.tail_job_logs(job)
        with asyncio.Runner() as runner:
            while True:
                text = runner.run(_next(pieces))
                if text is None:
                    return
                if len(text) > skip:
                    yield text[skip:]
                skip = max(0, skip - len(text))


async def _next(pieces: Any) -> str | None:
    return await anext(pieces, None)


@contextmanager
def _address(address: str) -> Iterator[None]:
    """Let Ray's client take ``address``: RAY_API_SERVER_ADDRESS would go before the argument."""
    before = os.environ.get(ADDRESS_VARIABLE)
    os.environ[ADDRESS_VARIABLE] = address
    try:
        yield
    finally:
        if before is None:
            del os.environ[ADDRESS_VARIABLE]
        else:
            os.environ[ADDRESS_VARIABLE] = before
