"""A folder's lock, between real processes: refused, shared, taken over, given back clean."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from erray.errors import UserError
from erray.records import DONE, STATUS_SCHEMA
from erray.store import StatusTable, hold
from erray.store import folder as folder_module
from erray.store.holder import Holder
from tests.unit.lock_holder import HOLD, holder, start

# writes a row at a time, merges every few rows, waits its turn each time
WRITE = """
import sys, time
from erray.errors import UserError
from erray.records import STATUS_SCHEMA
from erray.store import StatusTable, hold
path, name = sys.argv[1:]
table = StatusTable(path, STATUS_SCHEMA)
for i in range(0, 40, 4):
    while True:
        try:
            with hold(path):
                for key in (f"{name}{j}" for j in range(i, i + 4)):
                    row = dict.fromkeys(STATUS_SCHEMA.names) | {"key": key, "state": "done"}
                    table.write_shard([row | {"fingerprint": "f"}], keys=[key])
                table.merge(least=2)
            break
        except UserError:
            time.sleep(0.005)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


def refusal(path: object) -> str:
    with pytest.raises(UserError) as refused, hold(str(path)):
        pass
    return str(refused.value)


def test_who_comes_second_is_told_who_holds_it_since_when_and_what_to_do(folder):
    with holder(folder) as process:
        said = refusal(folder)
    assert re.fullmatch(
        rf"{re.escape(str(folder))} is in use by `-c {re.escape(str(folder))}` \(process "
        rf"{process.pid} on .+, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC\): "
        r"wait for it to end, or use another folder",
        said,
    )


def test_a_killed_holder_is_taken_over_at_once(folder):
    with holder(folder) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (folder / ".lock").is_file()
        with hold(folder):
            assert Holder.from_json((folder / ".lock").read_bytes()).pid == os.getpid()
    assert not folder.joinpath(".lock").exists()


def test_blocks_of_one_process_share_the_lock_and_leave_nothing(folder):
    with hold(folder):
        with hold(f"{folder.parent}/./run/"):
            pass
        child = start(HOLD, folder)  # it is still held
        assert child.communicate()[0] == "" and child.returncode == 1
    assert not folder.exists(), "nothing was written to it"
    folder.mkdir()
    with hold(folder):
        pass
    assert list(folder.iterdir()) == []


def test_two_processes_that_write_and_merge_lose_no_row(folder):
    writers = [start(WRITE, folder, name) for name in "ab"]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    states = StatusTable(str(folder), STATUS_SCHEMA).states("f")
    assert states == {f"{name}{i}": DONE for name in "ab" for i in range(40)}


@pytest.fixture
def other(folder: Path) -> Callable[[float], None]:
    """Leaves the lock of a process on another machine, renewed that many seconds ago."""

    def leave(age_s: float) -> None:
        folder.mkdir(exist_ok=True)
        there = replace(
            Holder.this_process(expires_after_s=120), host="gpu7", kernel="another", pid=7
        )
        (folder / ".lock").write_bytes(there.to_json())
        renewed_s = time.time() - age_s
        os.utime(folder / ".lock", (renewed_s, renewed_s))

    return leave


def test_a_holder_on_another_machine_counts_until_it_expires(folder, other):
    other(age_s=20)
    said = refusal(folder)
    assert "process 7 on gpu7" in said
    (left_s,) = re.findall(r"if it is gone, try again in (\d+) s$", said)
    assert 90 <= int(left_s) <= 101
    assert refusal(folder).startswith(str(folder)), "who is refused renews nothing"
    other(age_s=130)
    with hold(folder):
        pass


def test_a_lock_is_renewed_while_it_is_held(folder):
    with hold(folder, expires_after_s=0.3) as held:
        os.utime(folder / ".lock", (1, 1))
        give_up_s = time.monotonic() + 10
        while (folder / ".lock").stat().st_mtime < time.time() - 60:
            assert time.monotonic() < give_up_s
            time.sleep(0.02)
        held.check()


def test_a_lock_that_goes_away_while_it_is_taken_is_made_anew(folder, monkeypatch):
    flock = fcntl.flock

    def removed_meanwhile(descriptor: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        (folder / ".lock").unlink()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", removed_meanwhile)
    with hold(folder):
        child = start(HOLD, folder)
        assert child.communicate()[0] == "" and child.returncode == 1


def test_what_knows_no_locks_is_refused_in_one_line(folder, monkeypatch):
    def unknown(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    assert "memory://x cannot be locked" in refusal("memory://x")
    monkeypatch.setattr(fcntl, "flock", unknown)
    assert f"{folder} cannot be locked (No locks available)" in refusal(folder)


def test_a_full_disk_is_one_line_and_leaves_no_lock(folder, monkeypatch):
    def full(descriptor: int, content: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(folder_module, "_PAUSES_S", (0.0, 0.0))
    monkeypatch.setattr(os, "pwrite", full)
    assert f"could not lock {folder}: No space left on device" in refusal(folder)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        ("tune.storage=postgresql://me:secret@host/db", "tune.storage=postgresql://***@host/db"),
        ("tune.storage=postgresql://me:se/cret@host/db", "extract"),
    ],
)
def test_the_lock_holds_no_password(monkeypatch, argument, shown):
    monkeypatch.setattr(sys, "argv", ["/bin/erray", "extract", "-o", argument])
    holder = Holder.this_process(expires_after_s=1)
    assert holder.command.startswith("erray extract") and holder.command.endswith(shown)
    assert "secret" not in holder.command and "cret" not in holder.command
