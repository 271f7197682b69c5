"""Start, pipes, ring and end of the process that :mod:`erray.media.child` runs in."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from dataclasses import asdict
from typing import Any

from erray.errors import MediaError
from erray.media import child
from erray.media.limits import MediaLimits

_RING_BYTES = 64 * 1024**2
_START_S = 60.0  # a child imports numpy and PyAV; a busy machine may take seconds
# what a child needs to start; everything else in the environment (secrets, too) stays here
_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


class ChildProcess:
    """A running child, its pipes and the ring; ended at the latest with this object.

    Raises:
        RuntimeError: the process does not start.
    """

    def __init__(self, limits: MediaLimits) -> None:
        self._limits = limits
        ring_bytes = max(_RING_BYTES, 2 * 3 * limits.max_pixels)
        descriptor = os.memfd_create("erray-frames")
        try:
            os.ftruncate(descriptor, ring_bytes)
            self.ring = mmap.mmap(descriptor, ring_bytes)
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    child.__name__,
                    json.dumps(asdict(limits)),
                    str(descriptor),
                ],
                env=_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                pass_fds=[descriptor],
                bufsize=0,
            )
        finally:
            os.close(descriptor)
        self._unread = b""
        self._end = weakref.finalize(self, _end_process, self._process)
        self._await_start()

    @property
    def ended(self) -> bool:
        """Whether the process was ended or has died."""
        return self._process.poll() is not None

    def end(self) -> None:
        """Kill the process, wait for its end and close the pipes."""
        self._end()

    def send(self, message: Any) -> None:
        """Write one line; a child that has died is noticed by the next :meth:`receive`."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(message).encode() + b"\n")

    def receive(self, timeout_s: float) -> tuple[str, Any]:
        """Return the next reply as (kind, value).

        Raises:
            TimeoutError: no reply in time; the child has been ended.
            MediaError: the child died (``decoder_died``) or reached its limit (``no_memory``).
            RuntimeError: a defect in the child's own code.
        """
        give_up_s = time.monotonic() + timeout_s
        while b"\n" not in self._unread:
            self._read_more(give_up_s)
        line, self._unread = self._unread.split(b"\n", 1)
        ((kind, value),) = json.loads(line).items()
        if kind == "no_memory":
            self.end()
            most = self._limits.max_memory_bytes / 1e6
            raise MediaError(f"no_memory: decoding takes more than {most:.0f} MB")
        if kind == "defect":
            self.end()
            raise RuntimeError(f"the decoder failed:\n{value}")
        return kind, value

    def _read_more(self, give_up_s: float) -> None:
        assert self._process.stdout is not None
        left_s = give_up_s - time.monotonic()
        poll = select.poll()  # select refuses descriptors from 1024 on
        poll.register(self._process.stdout, select.POLLIN)
        if left_s <= 0 or not poll.poll(left_s * 1000):
            self.end()
            raise TimeoutError
        some = os.read(self._process.stdout.fileno(), 1 << 16)
        if not some:
            code = self._process.wait()
            self.end()
            raise MediaError(f"decoder_died: {_how(code)}")
        self._unread += some

    def _await_start(self) -> None:
        """A child that cannot even start is a defect of the installation, not of a medium."""
        try:
            self.receive(_START_S)
        except (TimeoutError, MediaError) as error:
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace")
            raise RuntimeError(f"the decoder's process does not start ({error}):\n{said}") from None


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return kept | {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def _end_process(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
