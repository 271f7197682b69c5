"""A lock on a folder of S3-compatible storage: an object that is renewed, or else expires.

Storage of objects knows no process that dies. What it has is the conditional write: an object is
made only where none is (``If-None-Match``), and replaced only by who knows its last content
(``If-Match``), so of several that try one succeeds. Age is counted by the storage's own clock.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from fsspec.asyn import sync

from erray.errors import UserError
from erray.store.holder import Holder, in_use

# NoSuchKey: the object whose content was a condition is gone
_REFUSED = {"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "412", "409"}
_UNKNOWN = {"NotImplemented", "501"}
_NO_ETAG = '"00000000000000000000000000000000"'


@dataclass(frozen=True)
class _Found:
    holder: Holder | None
    etag: str
    age_s: float


class Lease:
    """The lock that the object ``.lock`` of a folder is.

    Args:
        fs: the file system of s3fs.
        folder: the folder's path on it.
        shown: the folder as the user named it.
    """

    def __init__(self, fs: Any, folder: str, shown: str) -> None:
        self._fs, self._shown = fs, shown
        self._bucket, self._key, _ = fs.split_path(f"{folder}/.lock")
        self._etag, self._renewals, self._renewed_s = "", 0, 0.0

    def acquire(self, holder: Holder) -> None:
        """Take the lease; one that has expired is taken over.

        Raises:
            UserError: another process holds it, or the storage has no conditional writes.
            OSError: the storage fails.
        """
        self._holder = holder
        while not self._put(IfNoneMatch="*"):
            found = self._found()
            if found is None:
                continue  # given back this very moment
            if found.holder is not None and found.holder.token == holder.token:
                self._etag = found.etag  # the answer to the first try was lost
                break
            expiry_s = (found.holder or holder).expires_after_s
            if found.age_s < expiry_s:
                raise in_use(self._shown, found.holder, free_in_s=expiry_s - found.age_s)
            if self._put(IfMatch=found.etag):
                break
        self._require_conditions()

    def renew(self) -> bool:
        """Begin the time of the lease anew; whether it was still this process' own.

        Raises:
            OSError: the storage fails.
        """
        if self._put(IfMatch=self._etag):
            return True
        found = self._found()
        if found is None or found.holder is None or found.holder.token != self._holder.token:
            return False
        self._etag = found.etag  # the answer to an earlier renewal was lost
        return self._put(IfMatch=self._etag)

    def release(self) -> None:
        """Remove the object, unless it may be another's by now: then it expires."""
        held_s = time.monotonic() - self._renewed_s
        if held_s < self._holder.expires_after_s / 2:
            with suppress(OSError):
                self._call("delete_object")

    def _require_conditions(self) -> None:
        """Refuse a storage that takes conditions and ignores them."""
        if not self._put(IfNoneMatch="*") and not self._put(IfMatch=_NO_ETAG):
            return
        self._call("delete_object")
        raise self._no_conditions()

    def _put(self, **condition: str) -> bool:
        """Write the object; whether the condition held."""
        self._renewals += 1
        began_s = time.monotonic()
        body = self._holder.to_json(renewals=self._renewals)  # another content, another ETag
        try:
            self._etag = str(self._call("put_object", Body=body, **condition)["ETag"])
        except OSError as error:
            code = _code(error)
            if code in _UNKNOWN:
                raise self._no_conditions() from None
            if code in _REFUSED:
                return False
            raise
        self._renewed_s = began_s
        return True

    def _found(self) -> _Found | None:
        try:
            answer = self._call("get_object")
        except FileNotFoundError:
            return None
        now = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
        age_s = (now - answer["LastModified"]).total_seconds()
        content = sync(self._fs.loop, answer["Body"].read)
        return _Found(Holder.from_json(content), answer["ETag"], age_s)

    def _call(self, method: str, **arguments: Any) -> Any:
        return self._fs.call_s3(method, Bucket=self._bucket, Key=self._key, **arguments)

    def _no_conditions(self) -> UserError:
        return UserError(
            f"{self._shown} cannot be locked: its storage has no conditional writes "
            f"(If-None-Match and If-Match of PutObject): use a storage that has them, or a folder "
            f"on a disk"
        )


def _code(error: OSError) -> str:
    """The storage's own word for a failure: s3fs makes an OSError of it."""
    response = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))
