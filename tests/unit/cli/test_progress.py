"""What is shown while a stage runs, on a terminal and in a log."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from erray.cli import display, progress
from erray.cli.progress import StageCounts, as_time, extraction_display
from erray.records import DONE, REJECTED


def rows(num_done: int, num_rejected: int = 0, *, frames: int = 0) -> list[dict]:
    done = [{"state": DONE, "frame_times_s": [0.0] * frames or None}] * num_done
    return done + [{"state": REJECTED, "frame_times_s": None}] * num_rejected


def test_rates_are_those_since_the_start():
    counts = StageCounts("tracks", total=40, start_s=100.0)
    assert counts.rates(103.0) == ""
    counts.add(rows(8, 2, frames=250))
    assert counts.rates(105.0) == "2 clips/s, 400 frames/s, 15 s left, 2 rejected"
    counts.add(rows(30))
    assert counts.rates(120.0) == "2 clips/s, 100 frames/s, in 20 s, 2 rejected"


def test_a_stage_without_frames_has_no_frame_rate():
    counts = StageCounts("hash", total=4, start_s=0.0)
    counts.add(rows(4))
    assert counts.rates(8.0) == "0.5 clips/s, in 8 s"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (600, "10 min"), (7200, "2.0 h")]
)
def test_times_as_people_say_them(seconds, text):
    assert as_time(seconds) == text


@pytest.fixture
def screen(monkeypatch) -> io.StringIO:
    """A terminal's output as text."""
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=120, highlight=False)
    monkeypatch.setattr(progress, "console", console)
    return text


def test_the_bar_of_a_stage_counts_to_its_end(screen, capsys):
    with extraction_display() as shown:
        shown.begin("tracks", 3)
        shown.advance("tracks", rows(1, frames=10))
        shown.advance("tracks", rows(1, 1))
    assert "tracks" in screen.getvalue() and "3/3" in screen.getvalue()
    assert "1 rejected" in screen.getvalue() and "frames/s" in screen.getvalue()
    assert capsys.readouterr().out == "", "standard output is for results"


def test_a_log_gets_a_line_now_and_then_and_at_the_end(monkeypatch):
    text = io.StringIO()
    console = Console(file=text, width=120, highlight=False)
    monkeypatch.setattr(progress, "console", console)
    monkeypatch.setattr(display, "console", console)
    clock_s = [0.0]
    monkeypatch.setattr(progress, "monotonic", lambda: clock_s[-1])
    with extraction_display() as shown:
        shown.begin("tracks", 40)
        for now_s in (1.0, 31.0, 40.0, 62.0):
            clock_s.append(now_s)
            shown.advance("tracks", rows(10))
    lines = text.getvalue().splitlines()
    assert [line.split(",")[0].strip() for line in lines] == [
        "tracks: 20/40 clips",
        "tracks: 40/40 clips",
    ]
