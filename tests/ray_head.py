"""Started nodes on the loopback address, as on a cluster: a head with a token or open, others."""

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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

RAY = str(Path(sys.executable).with_name("ray"))


@dataclass(frozen=True)
class Head:
    """A head node, and the token it asks for; None: it is open.

    Attributes:
        address: where it takes jobs.
        gcs: where other nodes join it.
    """

    address: str
    gcs: str
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
        return _answer(request, token)

    def nodes_up(self) -> set[str]:
        """Ids of the nodes that the cluster takes for alive, this one among them."""
        query = "filter_keys=state&filter_predicates=%3D&filter_values=ALIVE"
        request = urllib.request.Request(f"{self.address}/api/v0/nodes?{query}")
        found = _answer(request, self.token)["data"]["result"]["result"]
        return {node["node_id"] for node in found}


def _answer(request: urllib.request.Request, token: str | None) -> Any:
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


@contextlib.contextmanager
def started_head(
    ray_dir: Path, *, num_cpus: int = 2, with_token: bool = True, dashboard_host: str = "127.0.0.1"
) -> Iterator[Head]:
    """Start a head in ``ray_dir``, whose name is short; end it with the block."""
    port, dashboard, client = free_ports(3)
    token = secrets.token_hex(32) if with_token else None
    head = Head(f"http://127.0.0.1:{dashboard}", f"127.0.0.1:{port}", token)
    options = ["--head", f"--port={port}", f"--temp-dir={ray_dir}"]
    options += [f"--dashboard-host={dashboard_host}", f"--dashboard-port={dashboard}"]
    options += [f"--ray-client-server-port={client}"]
    log_file = ray_dir / f"head-{dashboard}.log"
    node = Node.start(head, log_file, num_cpus, options)
    try:
        _wait_for(head, node.process, log_file)
        yield head
    finally:
        node.kill()


@dataclass(frozen=True)
class Node:
    """A node: ``ray start`` and all that it started."""

    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, head: Head, log_file: Path, num_cpus: int, options: Sequence[str]) -> Node:
        (agent,) = free_ports(1)
        command = [RAY, "start", "--block", f"--num-cpus={num_cpus}", *options]
        command += ["--node-ip-address=127.0.0.1", f"--object-store-memory={2**28}"]
        command += [f"--dashboard-agent-listen-port={agent}"]
        with log_file.open("wb") as log:
            return cls(
                subprocess.Popen(
                    command, env=head.environment, stdout=log, stderr=log, start_new_session=True
                )
            )

    @classmethod
    def join(cls, head: Head, ray_dir: Path, *, num_cpus: int = 1) -> Node:
        """Start a node that joins ``head``; it takes a few seconds until it is there.

        Args:
            ray_dir: a new folder with a short name, the node's alone: nodes that share one delete
                each other's copies of a job's working folder.
        """
        ray_dir.mkdir()
        options = [f"--address={head.gcs}", f"--temp-dir={ray_dir}"]
        return cls.start(head, ray_dir / "node.log", num_cpus, options)

    def pids(self) -> list[int]:
        """The node's processes: what it started, and what those started."""
        parents: dict[int, list[int]] = {}
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it ended meanwhile
                stat = (process / "stat").read_text()
                parent = int(stat.rpartition(")")[2].split()[1])
                parents.setdefault(parent, []).append(int(process.name))
        found = [self.process.pid]
        for pid in found:
            found += parents.get(pid, [])
        return found

    def titles(self) -> list[str]:
        """What the node's processes call themselves: ``ray::`` and the actor or task in it."""
        found = []
        for pid in self.pids():
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
                found.append(words.decode(errors="replace").strip())
        return found

    def kill(self) -> None:
        """End all of it at once, as when a machine is switched off.

        Not SIGTERM, on which a node drains for up to 30 s. A worker is in a process group of its
        own, and notices the end of its node after seconds.
        """
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


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
