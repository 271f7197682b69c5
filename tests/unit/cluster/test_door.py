"""Who a cluster lets in, against a job server that keeps a token or does not."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from erray.cluster import job_server, knock
from erray.cluster.door import exposure, listening, read_token
from erray.errors import UserError

TOKEN = "0123456789abcdef"


@pytest.fixture(autouse=True)
def no_token(monkeypatch, tmp_path):
    """A machine without a token, in any of the three places."""
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


class JobServer(BaseHTTPRequestHandler):
    def do_GET(self):
        world = self.server.world
        given = self.headers.get("Authorization")
        world.seen.append(given)
        known = {"/api/jobs/": [], "/api/version": {"ray_version": "2.60.0"}}
        if self.path not in known or world.status:
            self.send_error(world.status or 404)
        elif world.token is not None and given != f"Bearer {world.token}":
            self.send_error(401 if given is None else 403)
        else:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(known[self.path]).encode())

    def log_message(self, format, *args):
        """Quiet."""


@pytest.fixture
def server() -> Iterator[SimpleNamespace]:
    """A job server: ``token`` it asks for, ``status`` it always answers, what it was ``seen``."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), JobServer)
    world = SimpleNamespace(token=None, status=None, seen=[])
    world.address = f"http://127.0.0.1:{http.server_port}"
    http.world = world
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield world
    http.shutdown()
    http.server_close()


def test_a_shut_door_opens_with_the_token_alone(server, monkeypatch):
    server.token = TOKEN
    with pytest.raises(UserError, match="asks for a token, found none: set RAY_AUTH_TOKEN_PATH"):
        knock(server.address)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "another")
    with pytest.raises(UserError, match="refuses the token of this machine"):
        knock(server.address)
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    door = knock(server.address)
    assert door.asks_for_token and door.faults() == []
    assert door.token == TOKEN and door.ray_version == "2.60.0"
    assert TOKEN not in repr(door)


def test_an_open_door_is_a_fault_and_never_hears_the_token(server, monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    door = knock(server.address)
    assert not door.asks_for_token and door.token is None
    (fault,) = door.faults()
    assert "answers without a token" in fault.found and "RAY_AUTH_MODE=token" in fault.advice
    assert server.seen and set(server.seen) == {None}


@pytest.mark.parametrize("status", [404, 500, 302])
def test_something_else_at_the_address_is_said(server, status):
    server.status = status
    with pytest.raises(UserError, match=f"expected a Ray job server .* found an answer {status}"):
        knock(server.address)


def test_nothing_at_the_address_is_said(server):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(UserError, match=rf"at http://127.0.0.1:{port}, found none .*tunnel"):
        knock(f"http://127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("127.0.0.1", "http://127.0.0.1:8265"),
        ("head:9000", "http://head:9000"),
        ("http://head/", "http://head:8265"),
        ("https://ray.example.org", "https://ray.example.org:443"),
        ("http://[::1]:8265", "http://[::1]:8265"),
    ],
)
def test_addresses(given, expected, monkeypatch):
    assert job_server(given) == expected
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", given)
    assert job_server(None) == expected


@pytest.mark.parametrize("given", ["ray://head:10001", "http://", "head:port", "http://h/x", "h:0"])
def test_what_is_no_address_of_a_job_server(given):
    with pytest.raises(UserError, match="expected http://host:port"):
        job_server(given)


def test_no_address_and_one_with_a_password():
    with pytest.raises(UserError, match="found none: give --address"):
        job_server(None)
    with pytest.raises(UserError, match="a password in it") as caught:
        job_server("http://me:hunter2@head:8265")
    assert "hunter2" not in str(caught.value)


def test_the_token_is_looked_for_in_the_order_of_ray(monkeypatch, tmp_path):
    assert read_token() is None
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("of the home\n")
    assert read_token() == "of the home"
    (tmp_path / "named").write_text("of the path")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "named"))
    assert read_token() == "of the path"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of the variable")
    assert read_token() == "of the variable"


@pytest.mark.parametrize(("content", "found"), [(None, "No such file"), ("\n", "an empty file")])
def test_a_named_token_that_is_not_there_is_not_replaced(content, found, monkeypatch, tmp_path):
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("another")
    if content is not None:
        (tmp_path / "named").write_text(content)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "named"))
    with pytest.raises(UserError, match=f"RAY_AUTH_TOKEN_PATH: expected .*{found}"):
        read_token()


@pytest.mark.parametrize(("host", "is_fault"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_a_port_of_this_machine_that_others_reach(host, is_fault):
    with socket.create_server((host, 0)) as probe:
        port = probe.getsockname()[1]
        assert listening(port) == {host}
        fault = exposure(f"http://localhost:{port}")
    assert (fault is not None) == is_fault
    assert fault is None or f"listens on {host}" in fault.found
    assert listening(port) == set()


def test_addresses_of_both_families_are_read(tmp_path):
    head = "  sl  local_address rem_address   st\n"
    (tmp_path / "tcp").write_text(
        f"{head}   0: 0100007F:2049 00000000:0000 0A\n   1: 0501A8C0:2049 00000000:0000 0A\n"
        "   2: 00000000:2049 0100007F:1234 01\n   3: 00000000:1F90 00000000:0000 0A\n"
    )
    zeros = "0" * 32
    (tmp_path / "tcp6").write_text(
        f"{head}   0: {zeros}:2049 {zeros}:0000 0A\n"
        f"   1: 0000000000000000FFFF00000100007F:2049 {zeros}:0000 0A\n"
        f"   2: 00000000000000000000000001000000:2049 {zeros}:0000 0A\n"
    )
    assert listening(0x2049, tmp_path) == {"127.0.0.1", "192.168.1.5", "::", "::1"}


@pytest.mark.parametrize(
    ("address", "is_fault"),
    [("http://10.0.0.7:8265", True), ("http://head:8265", True), ("https://head:443", False)],
)
def test_a_network_address_wants_encryption(address, is_fault):
    fault = exposure(address)
    assert (fault is not None) == is_fault
    assert fault is None or "without encryption" in fault.found
