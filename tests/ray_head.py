"""A started head node on the loopback address, as on a cluster: with a token or open."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

RAY = str(Path(sys.executable).with_name("ray"))


@dataclass(frozen=True)
class Head:
    """A head node, and the token it asks for; None: it is open."""

    address: str
    token: str | None

    @property
    def environment(self) -> dict[str, str]:
        outer = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        mode = {"RAY_AUTH_MODE": "disabled"}
        if self.token is not None:
            mode = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}
        return outer | {"RAY_USAGE_STATS_ENABLED": "0"} | mode

    def jobs(self, *, token: str | None, submit: dict[str, Any] | None = None) -> Any:
        """List the jobs, or ``submit`` one, as a plain HTTP client with ``token``."""
        request = urllib.request.Request(f"{self.address}/api/jobs/")
        if submit is not None:
            request.data = json.dumps(submit).encode()
            request.add_header("Content-Type", "application/json")
        if token is not None:
            request.add_header("Authorization", f"Bearer {token}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


@contextlib.contextmanager
def started_head(
    ray_dir: Path, *, with_token: bool = True, dashboard_host: str = "127.0.0.1"
) -> Iterator[Head]:
    """Start a head with two CPUs in ``ray_dir``, whose name is short; end it with the block."""
    port, dashboard, agent, client = free_ports(4)
    token = secrets.token_hex(32) if with_token else None
    head = Head(f"http://127.0.0.1:{dashboard}", token)
    command = [RAY, "start", "--head", "--block", "--num-cpus=2", "--node-ip-address=127.0.0.1"]
    command += [f"--port={port}", f"--temp-dir={ray_dir}", f"--object-store-memory={2**28}"]
    command += [f"--dashboard-host={dashboard_host}", f"--dashboard-port={dashboard}"]
    command += [f"--dashboard-agent-listen-port={agent}", f"--ray-client-server-port={client}"]
    log_file = ray_dir / f"head-{dashboard}.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            command, env=head.environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait_for(head, process, log_file)
        yield head
    finally:
        # not SIGTERM, on which a head drains for up to 30 s; its children are in its group
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def _wait_for(head: Head, process: subprocess.Popen[bytes], log: Path) -> None:
    give_up_s = time.monotonic() + 120
    while time.monotonic() < give_up_s and process.poll() is None:
        try:
            head.jobs(token=head.token)
        except OSError:
            time.sleep(0.3)
        else:
            return
    pytest.fail(f"the head did not start:\n{log.read_text()}")
