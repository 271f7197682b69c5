"""A lock on a folder of a disk: the system's own, which dies with the process that holds it.

The lock file ``.lock`` says who holds it, and is gone when nobody does. Where a file system keeps
locks to each machine (NFS mounted with ``nolock`` or ``local_lock``), what the file says decides
between machines: a holder on another one counts until its last renewal has expired.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from erray.errors import UserError
from erray.store.holder import Holder, in_use

LOCK_FILE = ".lock"
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


class FileLock:
    """The lock of ``folder``, which must be there."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK_FILE
        self._descriptor = -1

    def acquire(self, holder: Holder) -> None:
        """Take the lock; one whose process is gone is taken over.

        Raises:
            UserError: another process holds it, or the file system knows no locks.
            OSError: the lock file cannot be made.
        """
        self._descriptor = self._locked_file()
        try:
            self._refuse_other_machine(holder)
        except BaseException:
            os.close(self._descriptor)
            raise
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, holder.to_json(), 0)
            os.fsync(self._descriptor)  # other machines shall read it
        except BaseException:
            self.release()
            raise

    def renew(self) -> bool:
        """Say that the holder lives; whether it still holds the lock."""
        with suppress(OSError):  # the disk is away: the lock lives as long as its process
            os.utime(self._descriptor)
        return True

    def release(self) -> None:
        """Give the lock back: first its name, so that nobody takes the file that goes away."""
        with suppress(OSError):
            self._path.unlink()
        os.close(self._descriptor)
        self._descriptor = -1

    def _locked_file(self) -> int:
        while True:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_file(descriptor):
                    self._share(descriptor)
                    return descriptor
            except BlockingIOError:
                found = Holder.from_json(os.pread(descriptor, 2**16, 0))
                os.close(descriptor)
                raise in_use(str(self._path.parent), found) from None
            except OSError as error:
                os.close(descriptor)
                if error.errno not in _NO_LOCKS:
                    raise
                raise UserError(
                    f"{self._path.parent} cannot be locked ({error.strerror}): its file system "
                    f"knows no locks, mount it with them (NFS: without nolock; Lustre: flock) or "
                    f"use another folder"
                ) from None
            os.close(descriptor)  # its holder has removed it meanwhile

    def _is_file(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self._path.stat())
        except FileNotFoundError:
            return False

    def _share(self, descriptor: int) -> None:
        """Who may write to the folder may take the lock over."""
        mode = stat.S_IMODE(self._path.parent.stat().st_mode) & 0o666
        with suppress(PermissionError):  # it is another user's
            os.fchmod(descriptor, mode)

    def _refuse_other_machine(self, holder: Holder) -> None:
        before = Holder.from_json(os.pread(self._descriptor, 2**16, 0))
        if before is None or before.shares_kernel_with(holder):
            return
        with tempfile.TemporaryFile(dir=self._path.parent) as now:  # by the clock of the storage
            age_s = os.fstat(now.fileno()).st_mtime - os.fstat(self._descriptor).st_mtime
        if age_s < before.expires_after_s:
            left_s = before.expires_after_s - age_s
            raise in_use(str(self._path.parent), before, free_in_s=left_s)
