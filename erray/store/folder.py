"""A folder of files on a disk or in object storage: files are whole or absent, failures are told.

On a disk a file is written under a hidden name and renamed. Object storage shows an upload when it
is complete and has no renaming (a rename there copies and deletes), so the upload goes to the name
itself and is given up when anything fails. Either way nobody sees half a file, and a writer that
is killed leaves nothing that counts: a hidden file, or an upload that its bucket's rules expire.

What the storage refuses is tried again; then it is one line for the user, since a full disk, a
missing permission and a wrong address are theirs to mend.
"""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from erray.errors import UserError, refusal

_PAUSES_S = (0.2, 1.0)
_OBJECT_STORAGE = {"s3", "s3a"}

T = TypeVar("T")


@dataclass(frozen=True)
class Folder:
    """The folder or fsspec URL ``path``.

    Every method raises UserError when the storage fails three times, and when ``path`` names a
    storage that is not installed.
    """

    path: str

    def create(self) -> None:
        """Make the folder; object storage has none and needs none."""
        fs, root = self.storage()
        if not is_object_storage(fs):
            self.attempt("make", lambda: fs.makedirs(root, exist_ok=True))

    def check_writable(self) -> None:
        """Write a small file and remove it again."""
        name = f".probe-{uuid.uuid4().hex[:8]}"
        self.create()
        self.attempt("write to", lambda: self._put(name, lambda file: file.write(b"erray")))
        self.remove([name])

    def files(self) -> list[str]:
        """Paths of the files that are not hidden, sorted, as the storage names them."""
        return self.attempt("list", self._files)

    def file(self, name: str) -> str:
        """Path of the file ``name`` as the storage names it."""
        return f"{self.storage()[1]}/{name}"

    def write(self, name: str, content: Callable[[Any], object]) -> None:
        """Make the file ``name`` of what ``content`` writes to the binary file it is given.

        ``content`` is called again when the storage fails.
        """
        self.create()
        self.attempt(f"write {name} to", lambda: self._put(name, content))

    def remove(self, names: Iterable[str]) -> None:
        """Remove files; one that is gone already is no failure."""
        fs, root = self.storage()
        paths = [f"{root}/{name}" for name in names]
        if paths:
            self.attempt("remove files of", lambda: _remove(fs, paths))

    def clear(self) -> None:
        """Remove the folder with all that is in it."""
        fs, root = self.storage()
        self.attempt("remove", lambda: fs.exists(root) and fs.rm(root, recursive=True))

    def attempt(self, deed: str, action: Callable[[], T]) -> T:
        """Return what ``action`` returns, tried up to three times.

        Raises:
            UserError: the storage failed each time.
        """
        for pause_s in (*_PAUSES_S, None):
            try:
                return action()
            except storage_failures() as error:
                if pause_s is None:
                    raise self._refusal(deed, error) from error
                time.sleep(pause_s)
        raise AssertionError("the last try returns or raises")

    def storage(self) -> tuple[Any, str]:
        """Return the file system and the folder's path on it."""
        try:
            fs, root = fsspec.core.url_to_fs(self.path)
        except ImportError as error:
            raise UserError(
                f"{self.path} needs a package that is not installed ({error}): "
                f"for s3:// install erray[s3]"
            ) from None
        except ValueError as error:
            raise UserError(f"{self.path}: expected a folder or an fsspec URL, {error}") from None
        return fs, root

    def _files(self) -> list[str]:
        fs, root = self.storage()
        fs.invalidate_cache(root)  # object storage remembers listings, other processes write
        try:
            paths = fs.ls(root, detail=False)
        except FileNotFoundError:
            return []
        return sorted(path for path in paths if not path.rsplit("/", 1)[-1].startswith("."))

    def _put(self, name: str, content: Callable[[Any], object]) -> None:
        put = self._upload if is_object_storage(self.storage()[0]) else self._write_and_rename
        put(name, content)

    def _write_and_rename(self, name: str, content: Callable[[Any], object]) -> None:
        fs, root = self.storage()
        temporary = f"{root}/.{name}.{uuid.uuid4().hex[:8]}.tmp"
        try:
            with fs.open(temporary, "wb") as file:
                content(file)
                if isinstance(fs, LocalFileSystem):
                    file.flush()
                    # else a power failure could keep the name and lose the content
                    os.fsync(file.fileno())
            fs.mv(temporary, f"{root}/{name}")
        except BaseException:
            if fs.exists(temporary):
                fs.rm(temporary)
            raise

    def _upload(self, name: str, content: Callable[[Any], object]) -> None:
        fs, root = self.storage()
        file = fs.open(f"{root}/{name}", "wb", autocommit=False)
        try:
            content(file)
            file.close()
            file.commit()
        except BaseException:
            file.discard()
            file.closed = True  # else it uploads what it holds when it is collected
            raise

    def _refusal(self, deed: str, error: BaseException) -> UserError:
        known = refusal(error) if isinstance(error, OSError) else None
        why, advice = known or (" ".join(str(error).split()) or repr(error), "mend the storage")
        return UserError(
            f"could not {deed} {self.path}: {why} ({len(_PAUSES_S) + 1} tries); {advice} "
            f"and run again: what is done is kept, only the rest is computed"
        )


def _remove(fs: Any, paths: list[str]) -> None:
    if is_object_storage(fs):
        fs.rm(paths)  # many with one request
        return
    for path in paths:
        with suppress(FileNotFoundError):
            fs.rm_file(path)


def is_object_storage(fs: Any) -> bool:
    protocols = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
    return bool(protocols & _OBJECT_STORAGE)


def storage_failures() -> tuple[type[BaseException], ...]:
    """What storage raises: botocore's errors are no OSError, and it may not be installed."""
    botocore = sys.modules.get("botocore.exceptions")
    return (OSError,) if botocore is None else (OSError, botocore.BotoCoreError)
