"""Who a cluster lets in: its job server is asked without a token first, then with one.

Ray executes whatever reaches its job server. A cluster that answers a stranger, or whose job
server listens on the network without encryption, is found out here before anything is sent.
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import requests

from erray.errors import UserError

ADDRESS_VARIABLE = "RAY_API_SERVER_ADDRESS"
DASHBOARD_PORT = 8265
_TIMEOUT_S = 15.0
_REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_LISTENING = "0A"  # state of a socket in /proc/net/tcp, see proc(5)


@dataclass(frozen=True)
class Fault:
    """A way in for strangers, and how to close it."""

    found: str
    advice: str


@dataclass(frozen=True)
class Door:
    """What the job server of a cluster answered.

    Attributes:
        address: ``http://host:port`` or ``https://host:port``.
        asks_for_token: a call without a token was refused.
        exposure: how others on the network reach the job server; None: they do not.
        ray_version: the cluster's.
        token: what the cluster let in; None where it asks for none.
    """

    address: str
    asks_for_token: bool
    exposure: Fault | None
    ray_version: str
    token: str | None = field(default=None, repr=False)

    def faults(self) -> list[Fault]:
        """What lets strangers in; empty for a shut door."""
        found = [] if self.exposure is None else [self.exposure]
        if not self.asks_for_token:
            open_door = Fault(
                f"{self.address} answers without a token: anybody who reaches it runs code there",
                "start every node with RAY_AUTH_MODE=token",
            )
            found.insert(0, open_door)
        return found


def job_server(address: str | None) -> str:
    """Return ``scheme://host:port`` of a job server; None: that of ``RAY_API_SERVER_ADDRESS``.

    Raises:
        UserError: no address, or one that is not of a job server.
    """
    given = address or os.environ.get(ADDRESS_VARIABLE)
    if not given:
        raise UserError(
            f"expected the address of a cluster's job server, found none: give --address "
            f"http://127.0.0.1:{DASHBOARD_PORT} or set {ADDRESS_VARIABLE}"
        )
    parts = urlsplit(given if "://" in given else f"http://{given}")
    try:
        port = parts.port
    except ValueError:
        port = 0
    plain = parts.path in {"", "/"} and not parts.query and "@" not in parts.netloc
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0 or not plain:
        shown = given if "@" not in given else "an address with a password in it"
        raise UserError(
            f"expected http://host:port of a cluster's job server (its dashboard), found {shown}"
        )
    default = 443 if parts.scheme == "https" else DASHBOARD_PORT
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{port or default}"


def knock(address: str) -> Door:
    """Ask the job server at ``address`` (of :func:`job_server`) without a token, then with it.

    The token is sent to no cluster that answered without one.

    Raises:
        UserError: nothing answers, what answers is no job server, there is no token, or the
            cluster refuses it.
    """
    shut = _jobs_status(address, None) in _REFUSED
    token = read_token() if shut else None
    if shut and token is None:
        raise UserError(
            f"{address} asks for a token, found none: set RAY_AUTH_TOKEN_PATH to the file that "
            f"holds it, or put it in {_default_token_path()}"
        )
    if shut and _jobs_status(address, token) in _REFUSED:
        raise UserError(
            f"{address} refuses the token of this machine: take the cluster's, from "
            f"RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or {_default_token_path()}"
        )
    answer = _get(f"{address}/api/version", token)
    return Door(address, shut, exposure(address), str(answer.json()["ray_version"]), token)


def read_token() -> str | None:
    """Return the token where Ray looks for it, in Ray's order; None where there is none.

    ``RAY_AUTH_TOKEN``, the file ``RAY_AUTH_TOKEN_PATH``, ``~/.ray/auth_token``.

    Raises:
        UserError: ``RAY_AUTH_TOKEN_PATH`` names no readable file with a token.
    """
    given = os.environ.get("RAY_AUTH_TOKEN", "").strip()
    if given:
        return given
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named).expanduser() if named else _default_token_path()
    try:
        token = path.read_text("utf-8").strip()
    except OSError as error:
        if named is None:
            return None
        raise UserError(
            f"RAY_AUTH_TOKEN_PATH: expected a file with the token, found {path} "
            f"({error.strerror}): run 'ray get-auth-token --generate' or correct the path"
        ) from None
    if named is not None and not token:
        raise UserError(f"RAY_AUTH_TOKEN_PATH: expected a token in {path}, found an empty file")
    return token or None


def exposure(address: str) -> Fault | None:
    """Say how others reach a job server through the network; None where they cannot be seen to.

    A loopback address is one of a tunnel or of this machine: its listening sockets are looked at.
    """
    parts = urlsplit(address)
    host, port = str(parts.hostname), int(parts.port or 0)
    if _is_loopback(host):
        elsewhere = sorted(ip for ip in listening(port) if not _is_loopback(ip))
        if not elsewhere:
            return None
        return Fault(
            f"port {port} of this machine listens on {', '.join(elsewhere)}, open to its network",
            "start the head with --dashboard-host=127.0.0.1",
        )
    if parts.scheme == "https":
        return None
    return Fault(
        f"{address} is reached over the network without encryption, the token with it",
        "go through a tunnel ('ray dashboard', 'kubectl port-forward') to a head that was started "
        "with --dashboard-host=127.0.0.1, or https",
    )


def listening(port: int, proc: Path = Path("/proc/net")) -> set[str]:
    """Return the IP addresses on which a process of this machine listens at ``port`` (Linux)."""
    found = set()
    for name in ("tcp", "tcp6"):
        try:
            lines = (proc / name).read_text("ascii").splitlines()[1:]
        except OSError:  # no such file: not Linux, or no IPv6
            continue
        for line in lines:
            _, local, _, state = line.split()[:4]
            raw, _, hex_port = local.partition(":")
            if state == _LISTENING and int(hex_port, 16) == port:
                found.add(_ip(raw))
    return found


def _ip(raw: str) -> str:
    """An address as /proc/net writes it: words of 32 bits, each least byte first."""
    words = [bytes.fromhex(raw[i : i + 8])[::-1] for i in range(0, len(raw), 8)]
    ip = ipaddress.ip_address(b"".join(words))
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return str(mapped or ip)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _jobs_status(address: str, token: str | None) -> int:
    answer = _get(f"{address}/api/jobs/", token)
    if answer.status_code not in {HTTPStatus.OK, *_REFUSED}:
        raise UserError(
            f"expected a Ray job server at {address}, found an answer {answer.status_code}: give "
            f"the address of the cluster's dashboard"
        )
    return answer.status_code


def _get(url: str, token: str | None) -> requests.Response:
    def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Nothing but this token: a password of ~/.netrc would take its place."""
        if token is not None:
            request.headers["Authorization"] = f"Bearer {token}"
        return request

    try:
        return requests.get(url, auth=sign, timeout=_TIMEOUT_S, allow_redirects=False)
    except requests.RequestException as error:
        raise UserError(
            f"expected a Ray job server at {url.partition('/api/')[0]}, found none "
            f"({type(error).__name__}): is the cluster up, and its tunnel open?"
        ) from None


def _default_token_path() -> Path:
    return Path.home() / ".ray" / "auth_token"
