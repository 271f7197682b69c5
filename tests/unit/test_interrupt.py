"""Signals to a guarded command: its line, its exit code, and what does not happen afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from erray import interrupt

REPOSITORY = Path(__file__).parents[2]
PROLOGUE = """
import os, signal, sys, threading, time
from erray import interrupt
from erray.interrupt import Interrupted, account, accounts, check, rearm, requested, stoppable

def tell(line):
    print(line, file=sys.stderr, flush=True)

def ready(seconds=30):
    print("ready", flush=True)
    time.sleep(seconds)
"""


def run(
    program: str, *signals: signal.Signals, pause_s: float = 0.0, ignored: bool = False
) -> tuple[int, list[str], str]:
    """Run ``program``, signal its process group when it is ready: exit code, lines, errors."""
    first = "SIG_IGN" if ignored else "default_int_handler"
    prologue = f"import signal\nsignal.signal(signal.SIGINT, signal.{first}){PROLOGUE}"
    process = subprocess.Popen(
        [sys.executable, "-c", prologue + textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for number in signals:
            time.sleep(pause_s)
            os.killpg(process.pid, number)
        out, error = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, out.splitlines(), error


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_end_is_one_line_with_what_is_kept(number, code):
    program = """
    with stoppable(tell), accounts():
        account(lambda: "1 of 6 steps")
        with accounts():
            account(lambda: "20 of 20 clips")
        account(lambda: "")
        account(lambda: f"{kept} of 9 epochs")
        kept = 3
        try:
            ready()
        finally:
            kept = 4  # counted when all has ended
    """
    found, out, error = run(program, number)
    assert (found, out) == (code, [])
    assert error == "interrupted: kept 1 of 6 steps, 4 of 9 epochs, the same command goes on\n"


@pytest.mark.parametrize(
    "swallow",
    [
        "except BaseException: pass",
        "except BaseException: raise RuntimeError('of a library') from None",
        "except BaseException: sys.exit(0)",
    ],
)
def test_a_library_that_swallows_the_signal_registers_nothing(swallow):
    program = f"""
    with stoppable(tell):
        try:
            ready()
        {swallow}
        check()
        print("registered")
    """
    assert run(program, signal.SIGINT) == (130, [], "interrupted: run the same command again\n")


def test_a_library_with_a_handler_of_its_own_is_noticed(number=signal.SIGTERM):
    program = """
    with stoppable(tell):
        signal.signal(signal.SIGTERM, lambda number, frame: None)
        ready(1)
        assert requested()
        check()
        print("registered")
    """
    assert run(program, number)[:2] == (143, [])
    taken_back = program.replace("ready(1)", "rearm()\n        ready()")
    assert run(taken_back, number)[:2] == (143, [])


def test_a_second_signal_ends_at_once_and_one_press_is_not_two():
    program = """
    with stoppable(tell), accounts():
        account(lambda: "2 of 3 trials")
        try:
            ready()
        finally:
            time.sleep(SLEEP)
            print("unwound", flush=True)
    """
    line = "interrupted: kept 2 of 3 trials, the same command goes on"
    code, out, error = run(program.replace("SLEEP", "1"), signal.SIGINT, signal.SIGINT)
    assert (code, out, error.strip()) == (130, ["unwound"], line)
    twice = signal.SIGINT, signal.SIGINT
    code, out, error = run(program.replace("SLEEP", "50"), *twice, pause_s=1.5)
    assert (code, out, error.strip()) == (130, [], line)


def test_a_shutdown_that_hangs_is_ended():
    program = """
    interrupt.SHUTDOWN_S = 0.5
    with stoppable(tell):
        try:
            ready()
        finally:
            time.sleep(50)
    """
    code, out, error = run(program, signal.SIGINT)
    assert (code, out, error.strip()) == (130, [], "interrupted: run the same command again")


def test_what_breaks_meanwhile_is_not_shown():
    program = """
    import logging
    class Broken:
        def __del__(self):
            raise ValueError("of a destructor")
    def fail():
        raise ValueError("of a thread")
    with stoppable(tell):
        try:
            ready()
        finally:
            Broken()
            thread = threading.Thread(target=fail)
            thread.start()
            thread.join()
            logging.error("of a log")
            raise RuntimeError("of the shutdown")
    """
    assert run(program, signal.SIGINT) == (130, [], "interrupted: run the same command again\n")


def test_what_cannot_be_counted_and_a_line_of_ones_own():
    program = """
    from erray.errors import UserError
    def unreadable():
        raise UserError("the store is away")
    with stoppable(tell), accounts():
        account(unreadable)
        ready()
    """
    line = "interrupted: kept what was written, the same command goes on\n"
    assert run(program, signal.SIGINT)[2] == line
    program = """
    with stoppable(tell):
        try:
            ready()
        except KeyboardInterrupt:
            try:
                raise Interrupted("the job goes on") from None
            except KeyboardInterrupt as interrupted:  # as the command line does
                raise SystemExit(130) from interrupted
    """
    assert run(program, signal.SIGINT) == (130, [], "the job goes on\n")


def test_a_signal_that_was_ignored_from_the_start_stays_ignored():
    program = """
    with stoppable(tell):
        ready(1)
    print("done")
    """
    assert run(program, signal.SIGINT, ignored=True) == (0, ["done"], "")


def test_without_a_signal_nothing_changes():
    before = [signal.getsignal(number) for number in interrupt.SIGNALS]
    told: list[str] = []
    with interrupt.stoppable(told.append), interrupt.accounts():
        interrupt.account(lambda: "nothing")
        assert not interrupt.requested()
        interrupt.check()
    with pytest.raises(KeyError), interrupt.stoppable(told.append):
        raise KeyError
    assert [signal.getsignal(number) for number in interrupt.SIGNALS] == before
    assert told == []
    interrupt.check()  # of no command
    with interrupt.accounts():
        interrupt.account(lambda: "nobody asks")


def test_children_do_not_hear_ctrl_c():
    program = """
    import subprocess
    with stoppable(tell):
        with interrupt.deaf_children():
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(2)"])
        try:
            ready()
        finally:
            print(child.wait(), flush=True)
    """
    assert run(program, signal.SIGINT) == (130, ["0"], "interrupted: run the same command again\n")


def test_counting_that_waits_for_ever_is_not_waited_for():
    program = """
    interrupt.SHUTDOWN_S = interrupt._COUNT_S = 0.5
    lock = threading.Lock()
    def kept():
        with lock:
            return "never"
    with stoppable(tell), accounts():
        account(kept)
        lock.acquire()
        ready()
    """
    code, out, error = run(program, signal.SIGINT)
    line = "interrupted: kept what was written, the same command goes on"
    assert (code, out, error.strip()) == (130, [], line)
