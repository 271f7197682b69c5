"""One process at a time writes to a folder; what it calls, and calls again, shares the lock.

On a disk that is the system's lock, in S3-compatible storage a lease. Either is renewed while it
is held. What would be lost without: two extractions that merge the same status shards, two steps
that both change ``run.json``.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fsspec.implementations.local import LocalFileSystem

from erray.credentials import without_credentials
from erray.errors import UserError
from erray.store.file_lock import FileLock
from erray.store.folder import Folder, is_object_storage, storage_failures
from erray.store.holder import Holder
from erray.store.lease import Lease

EXPIRES_AFTER_S = 120.0
_RENEWALS_PER_EXPIRY = 6


class Lock(Protocol):
    """What a folder of one kind of storage is locked with."""

    def acquire(self, holder: Holder) -> None:
        """Take it, or raise UserError."""

    def renew(self) -> bool:
        """Say that the holder lives; whether it still holds the lock."""

    def release(self) -> None:
        """Give it back."""


class Held:
    """A lock that this process holds; a thread renews it."""

    def __init__(self, lock: Lock, folder: Folder, *, expires_after_s: float) -> None:
        self._lock, self._folder, self._expires_after_s = lock, folder, expires_after_s
        lock.acquire(Holder.this_process(expires_after_s=expires_after_s))
        self._renewing, self._renewed_s, self._lost = threading.Lock(), time.monotonic(), False
        self._ended = threading.Event()
        self._renewer = threading.Thread(target=self._keep, name="erray-lock", daemon=True)
        self._renewer.start()

    def check(self) -> None:
        """Do nothing while the lock is held; one that was not renewed in time is, if it can be.

        Raises:
            UserError: another process has taken it over, or its storage is away.
        """
        if time.monotonic() - self._renewed_s > self._expires_after_s / 2:
            self._folder.attempt("renew the lock of", self._renew)
        if self._lost:
            raise UserError(
                f"{without_credentials(self._folder.path)}: another process has taken the lock "
                f"over, since this one did not renew it for {self._expires_after_s:.0f} s: wait "
                f"for the other to end and run again, what is done is kept"
            )

    def release(self) -> None:
        """Give the lock back."""
        self._ended.set()
        self._renewer.join()
        if not self._lost:
            self._lock.release()

    def _keep(self) -> None:
        while not self._lost and not self._ended.wait(self._expires_after_s / _RENEWALS_PER_EXPIRY):
            with suppress(*storage_failures()):  # the storage is away: the next one may do
                self._renew()

    def _renew(self) -> None:
        with self._renewing:
            began_s = time.monotonic()
            self._lost = self._lost or not self._lock.renew()
            self._renewed_s = began_s


@dataclass
class _Shared:
    held: Held
    made_folder: bool
    num_users: int = 0


_shared: dict[str, _Shared] = {}
_guard = threading.Lock()


@contextmanager
def hold(path: str | Path, *, expires_after_s: float = EXPIRES_AFTER_S) -> Iterator[Held]:
    """Let no other process hold the folder (or fsspec URL) ``path`` during the block.

    The folder is made if it is not there, and then removed again if nothing is in it at the end.
    Within this process every block has the same lock.

    Raises:
        UserError: another process holds it (by name, since when, what to do); the folder cannot be
            written; its storage knows no lock; the lock was lost meanwhile.
    """
    folder = Folder(str(path))
    fs, root = folder.storage()
    on_disk = isinstance(fs, LocalFileSystem)
    key = os.path.realpath(root) if on_disk else folder.path.rstrip("/")
    with _guard:
        shared = _shared.get(key)
        if shared is None:
            is_new = on_disk and not Path(root).is_dir()
            held = _acquired(folder, expires_after_s=expires_after_s)
            shared = _shared[key] = _Shared(held, is_new)
        shared.num_users += 1
    try:
        yield shared.held
        shared.held.check()
    finally:
        with _guard:
            shared.num_users -= 1
            if shared.num_users == 0:
                del _shared[key]
                shared.held.release()
                if shared.made_folder:
                    with suppress(OSError):  # something is in it
                        Path(root).rmdir()


def _acquired(folder: Folder, *, expires_after_s: float) -> Held:
    fs, root = folder.storage()
    folder.create()
    lock: Lock
    if isinstance(fs, LocalFileSystem):
        lock = FileLock(Path(root))
    elif is_object_storage(fs):
        lock = Lease(fs, root, without_credentials(folder.path))
    else:
        raise UserError(
            f"{without_credentials(folder.path)} cannot be locked against a second writer: use a "
            f"folder on a disk, or s3://"
        )
    return folder.attempt("lock", lambda: Held(lock, folder, expires_after_s=expires_after_s))
