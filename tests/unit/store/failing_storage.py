"""A disk behind fsspec that fails when it is told to."""

from __future__ import annotations

import errno
import os
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem


class FailingFileSystem(LocalFileSystem):
    """The local disk under ``failing://``; its next ``failures`` writes break off half way."""

    protocol = "failing"
    cachable = False
    failures = 0
    code = errno.ENOSPC

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix("failing://"))

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        file = super()._open(path, mode, **options)
        if "w" in mode and FailingFileSystem.failures > 0:
            FailingFileSystem.failures -= 1
            file.write(b"half")

            def fail(_: bytes) -> None:
                raise OSError(self.code, os.strerror(self.code))

            file.write = fail
        return file


fsspec.register_implementation("failing", FailingFileSystem, clobber=True)
