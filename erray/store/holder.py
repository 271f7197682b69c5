"""Who holds a lock: what stands in it, for the process that finds it taken."""

from __future__ import annotations

import json
import os
import shlex
import socket
import sys
import uuid
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from erray.credentials import has_unencoded_credentials, without_credentials
from erray.errors import UserError

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_COMMAND_CHARS = 200


@dataclass(frozen=True)
class Holder:
    """A process that holds a lock.

    Attributes:
        kernel: names the running kernel: containers of one machine share it, and its file locks.
        since: in UTC, as text for people.
        token: of this hold alone.
        expires_after_s: without a renewal for this long, others may take the lock over.
    """

    host: str
    kernel: str
    pid: int
    command: str
    since: str
    token: str
    expires_after_s: float

    @classmethod
    def this_process(cls, *, expires_after_s: float) -> Holder:
        """The process that asks, as of now."""
        return cls(
            host=socket.gethostname(),
            kernel=_kernel(),
            pid=os.getpid(),
            command=_command(),
            since=f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
            token=uuid.uuid4().hex,
            expires_after_s=expires_after_s,
        )

    @classmethod
    def from_json(cls, content: bytes) -> Holder | None:
        """Read what :meth:`to_json` wrote; None for anything else, such as half of it."""
        try:
            data = json.loads(content)
            return cls(**{field.name: data[field.name] for field in fields(cls)})
        except (ValueError, TypeError, KeyError):
            return None

    def to_json(self, **more: object) -> bytes:
        """The content of the lock, with ``more`` keys that :meth:`from_json` ignores."""
        return (json.dumps(asdict(self) | more) + "\n").encode()

    def shares_kernel_with(self, other: Holder) -> bool:
        """Whether a file lock of one is seen by the other; also after a restart of the machine."""
        return self.kernel == other.kernel or self.host == other.host


def in_use(path: str, holder: Holder | None, *, free_in_s: float | None = None) -> UserError:
    """The one line for who comes second.

    Args:
        holder: None where the lock does not say (it was taken this very moment).
        free_in_s: after this time the lock is taken over if its holder is gone; None: at once.
    """
    who = "another process"
    if holder is not None:
        who = f"`{holder.command}` (process {holder.pid} on {holder.host}, since {holder.since})"
    later = "" if free_in_s is None else f"; if it is gone, try again in {free_in_s:.0f} s"
    return UserError(
        f"{without_credentials(path)} is in use by {who}: wait for it to end, or use another "
        f"folder{later}"
    )


def _kernel() -> str:
    return _BOOT_ID.read_text(encoding="ascii").strip() if _BOOT_ID.is_file() else ""


def _command() -> str:
    """The command line without the passwords of its URLs."""
    program, arguments = Path(sys.argv[0]).name, sys.argv[1:]
    text = shlex.join([program, *arguments])
    if has_unencoded_credentials(text):
        text = " ".join([program, *arguments[:1]])
    text = without_credentials(text)
    return text if len(text) <= _COMMAND_CHARS else f"{text[: _COMMAND_CHARS - 3]}..."
