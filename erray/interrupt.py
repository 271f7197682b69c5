"""Ctrl-C and SIGTERM: one place that notices them, whatever a library does with signals.

The command line guards a command with :func:`stoppable`. Within it the first signal raises
:class:`Interrupted` in the main thread, so that connections, locks and child processes end as after
any error; then the process ends with one line that says what is kept. What must not happen after a
signal (a registration, an alias that moves) calls :func:`check` first, as a library may have
swallowed the exception. A second signal, or a shutdown that takes too long, ends the process at
once, and what it started with it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from erray.errors import UserError

Account = Callable[[], str]
"""Says what is kept, from what is on disk: ``12 of 21 clips``."""

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SHUTDOWN_S = 30.0
"""A process that has not ended that long after the first signal is ended."""
_SAME_PRESS_S = 1.0  # a terminal and a parent process may both pass one Ctrl-C on
_COUNT_S = 5.0
_UNCOUNTED = "interrupted: kept what was written, the same command goes on"


class Interrupted(KeyboardInterrupt):
    """The user, or what runs the process, asked it to end; its message, if any, is the line.

    Ray's calls end for no other exception than a KeyboardInterrupt, and raise one of their own.
    """


class _Guard:
    """The signal that came, and who knew then what is kept."""

    def __init__(self) -> None:
        self.accounts: list[Account] = []
        self.at_signal: tuple[Account, ...] = ()
        self.handlers = {int(number): signal.getsignal(number) for number in SIGNALS}
        self.closed = self.told = False
        self._signal: int | None = None
        self._time_s = 0.0
        # the interpreter writes every signal's number there, whoever has the handler by now
        self._heard, written = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before = signal.set_wakeup_fd(written, warn_on_full_buffer=False)

    def called(self) -> bool:
        """Whether a signal has come, to whatever handler."""
        if self._signal is None:
            with contextlib.suppress(BlockingIOError):
                heard = set(os.read(self._heard, 1 << 12)) & set(self._own())
                if heard:
                    self._note(min(heard))
        return self._signal is not None

    @property
    def exit_code(self) -> int:
        """130 after Ctrl-C, 143 after SIGTERM: what a shell calls the end by that signal."""
        return 128 + (self._signal or 0)

    def arm(self) -> None:
        """Handle the signals; one that the process was started to ignore stays ignored."""
        for number in self._own():
            signal.signal(number, self._on_signal)

    def close(self) -> None:
        """Give the signals back."""
        self.closed = True
        for number in self._own():
            signal.signal(number, self.handlers[number])
        os.close(signal.set_wakeup_fd(self._before))
        os.close(self._heard)

    def line(self) -> str:
        """What is kept, outermost first."""
        try:
            kept = ", ".join(filter(None, (tell() for tell in self.at_signal)))
        except (OSError, UserError):  # what was to be counted cannot be read
            return _UNCOUNTED
        if not kept:
            return "interrupted: run the same command again"
        return f"interrupted: kept {kept}, the same command goes on"

    def end_now(self) -> None:
        """End the process without unwinding; Ray's processes and the decoders end with it."""
        line = [_UNCOUNTED]
        # in a thread: the main one may hold what counting waits for
        count = threading.Thread(target=lambda: line.append(self.line()), daemon=True)
        count.start()
        count.join(_COUNT_S)
        if not self.told:
            os.write(2, f"\n{line[-1]}\n".encode())
        os._exit(self.exit_code)

    def _own(self) -> list[int]:
        return [n for n, handler in self.handlers.items() if handler != signal.SIG_IGN]

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.closed:
            return
        if self._signal is not None:
            if time.monotonic() - self._time_s > _SAME_PRESS_S:
                self.end_now()
            return
        self._note(number)
        raise Interrupted

    def _note(self, number: int) -> None:
        self._signal, self._time_s = number, time.monotonic()
        self.at_signal = tuple(self.accounts)
        _quiet()
        watchdog = threading.Timer(SHUTDOWN_S, self.end_now)
        watchdog.daemon = True
        watchdog.start()


_guards: list[_Guard] = []  # of this process: one, or none


@contextlib.contextmanager
def stoppable(tell: Callable[[str], None]) -> Iterator[None]:
    """Guard a command: after a signal ``tell`` its one line and exit with 130 or 143.

    However the block ends after a signal, that is its end: a library may have turned the exception
    into another one, or have gone on.
    """
    if _guards or threading.current_thread() is not threading.main_thread():
        yield
        return
    guard = _Guard()
    _guards.append(guard)
    line = None
    try:
        guard.arm()
        yield
    except BaseException as error:
        if not guard.called():
            raise
        line = _own_line(error)
    finally:
        called = guard.called()
        if not called:
            _guards.remove(guard)
            guard.close()
    if called:
        tell(line or guard.line())
        guard.told = True
        sys.exit(guard.exit_code)


def _own_line(error: BaseException | None) -> str | None:
    """The message of the interruption that the error was made of, if it had one."""
    while error is not None:
        if isinstance(error, Interrupted) and str(error):
            return str(error)
        error = error.__cause__ or error.__context__
    return None


def rearm() -> None:
    """Take the signals back from a library that has set handlers of its own."""
    if threading.current_thread() is threading.main_thread():
        for guard in _guards:
            guard.arm()


def requested() -> bool:
    """A signal has come: nothing new is to begin, and nothing to be waited for."""
    return any(guard.called() for guard in _guards)


def check() -> None:
    """Raise :class:`Interrupted` where a signal has come that somebody swallowed."""
    if requested():
        raise Interrupted


@contextlib.contextmanager
def accounts() -> Iterator[None]:
    """What the block says with :func:`account` holds until its end."""
    said = _guards[0].accounts if _guards else []
    num_before = len(said)
    try:
        yield
    finally:
        del said[num_before:]


def account(tell: Account) -> None:
    """From here on a signal leaves what ``tell`` says, beside what was named before."""
    for guard in _guards:
        guard.accounts.append(tell)


@contextlib.contextmanager
def deaf_children() -> Iterator[None]:
    """Processes that start in the block do not hear Ctrl-C: they end with this one, quietly."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _quiet() -> None:
    """What breaks while the process ends is nobody's concern."""
    logging.disable(logging.CRITICAL)
    sys.unraisablehook = lambda unraisable: None
    threading.excepthook = lambda arguments: None
