"""The lock of a folder in S3-compatible storage, on moto's server: a lease that expires."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import fsspec
import pytest
from s3fs import S3FileSystem

from erray.errors import UserError
from erray.store import hold
from erray.store.holder import Holder
from erray.store.lease import Lease
from tests.tiny_run import REPOSITORY

pytestmark = pytest.mark.integration

HOLD = """
import sys, time
from erray.store import hold
with hold(sys.argv[1], expires_after_s=float(sys.argv[2])):
    print("held", flush=True)
    time.sleep(60)
"""


def start_holder(url: str, *, expires_after_s: float) -> subprocess.Popen[str]:
    """Another process that holds the folder; it finds the storage by its environment."""
    command = [sys.executable, "-c", HOLD, url, str(expires_after_s)]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def objects(url: str) -> list[str]:
    return fsspec.filesystem("s3", skip_instance_cache=True).find(url)


def lease(url: str) -> Lease:
    fs, root = fsspec.core.url_to_fs(url)
    return Lease(fs, root, url)


def test_a_held_folder_is_refused_until_the_killed_holder_s_lease_expires(bucket):
    url = f"{bucket}/held"
    process = start_holder(url, expires_after_s=3)
    try:
        time.sleep(4)  # without renewals it would have expired
        with pytest.raises(UserError) as refused, hold(url):
            pass
        said = str(refused.value)
        assert said.startswith(f"{url} is in use by `-c {url} 3` (process {process.pid} on ")
        assert "if it is gone, try again in " in said and "\n" not in said
    finally:
        process.kill()
        process.communicate()
    with pytest.raises(UserError, match="is in use by"), hold(url):
        pass
    time.sleep(4)
    with hold(url) as held:
        held.check()
        with hold(f"{url}/"):  # this process has it
            assert [name.rsplit("/", 1)[-1] for name in objects(url)] == [".lock"]
    assert objects(url) == []


def test_who_lost_its_lease_stops_and_leaves_the_other_s_alone(bucket):
    url = f"{bucket}/lost"
    with (
        pytest.raises(UserError, match="another process has taken the lock over"),
        hold(url, expires_after_s=1.5) as held,
    ):
        fs, root = fsspec.core.url_to_fs(url)
        taken = Holder.this_process(expires_after_s=60)
        fs.pipe_file(f"{root}/.lock", taken.to_json())
        give_up_s = time.monotonic() + 20
        while time.monotonic() < give_up_s:
            held.check()
            time.sleep(0.05)
    assert json.loads(fs.cat_file(f"{root}/.lock"))["token"] == taken.token


def test_of_two_that_take_an_expired_lease_over_one_succeeds(bucket):
    url = f"{bucket}/expired"
    lease(url).acquire(Holder.this_process(expires_after_s=0))
    time.sleep(1.1)  # the storage counts in seconds
    found = []
    for _ in range(2):
        try:
            lease(url).acquire(Holder.this_process(expires_after_s=60))
            found.append("taken")
        except UserError:
            found.append("refused")
    assert found == ["taken", "refused"]


def test_a_renewal_whose_answer_was_lost_is_no_loss(bucket, monkeypatch):
    url, mine = f"{bucket}/answers", Holder.this_process(expires_after_s=60)
    own = lease(url)
    own.acquire(mine)
    put, answers = S3FileSystem.call_s3, []

    def without_answer(self: S3FileSystem, method: str, **arguments: Any) -> Any:
        answer = put(self, method, **arguments)
        answers.append(method)
        if answers == ["put_object"]:
            raise OSError("the connection was lost")
        return answer

    monkeypatch.setattr(S3FileSystem, "call_s3", without_answer)
    with pytest.raises(OSError, match="connection was lost"):
        own.renew()
    assert own.renew()
    own.release()
    assert objects(url) == []


@pytest.mark.parametrize("missing", [{"IfNoneMatch", "IfMatch"}, {"IfMatch"}])
def test_a_storage_that_ignores_conditions_is_refused(bucket, monkeypatch, missing):
    call = S3FileSystem.call_s3

    def ignorant(self: S3FileSystem, method: str, **arguments: Any) -> Any:
        return call(self, method, **{k: v for k, v in arguments.items() if k not in missing})

    url = f"{bucket}/ignorant"
    monkeypatch.setattr(S3FileSystem, "call_s3", ignorant)
    with pytest.raises(UserError, match="its storage has no conditional writes"), hold(url):
        pass
    assert objects(url) == []
