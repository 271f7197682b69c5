"""What is shown while models train and a search runs, on a terminal and in a log."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from erray.cli import display, progress, training_progress
from erray.cli.options import open_flow
from erray.cli.training_progress import training_display
from erray.config import parse_recipe
from erray.extraction import NoProgress
from erray.records import DONE
from erray.training.events import EpochEnd, NoTrainingProgress
from erray.tuning.events import TrialNews, tell_nobody


def epoch_end(run: str, epoch: int, *, num_epochs: int = 4) -> EpochEnd:
    return EpochEnd(
        run=run,
        epoch=epoch,
        num_epochs=num_epochs,
        loss=2.0 - epoch / 4,
        metric="val_weighted_f1",
        score=0.25 + epoch / 8,
        best=0.5,
        best_epoch=0,
        seconds=30.0,
        device="cpu",
        clips_per_s=35.21,
        time_s=0.0,
        row={},
    )


def news(number: int, state: str, epochs: int, num_ended: int, **more: object) -> TrialNews:
    facts = {"value": 0.25, "best": None, "best_number": None} | more
    counts = {"num_epochs": 9, "seconds": 3.0, "num_trials": 3}
    return TrialNews(
        number=number, state=state, epochs=epochs, num_ended=num_ended, **counts, **facts
    )


@pytest.fixture
def screen(monkeypatch, request) -> io.StringIO:
    """What goes to standard error; a terminal of the parameter's width, or a log without one."""
    text, width = io.StringIO(), getattr(request, "param", None)
    console = Console(
        file=text, force_terminal=width is not None, width=width or 200, highlight=False
    )
    monkeypatch.setattr(training_progress, "console", console)
    monkeypatch.setattr(progress, "console", console)
    monkeypatch.setattr(display, "console", console)
    return text


def train_two(shown) -> None:
    shown.begin({"fusion": 4})
    for epoch in (0, 1, 2):
        shown.epoch(epoch_end("fusion", epoch))
    shown.finish("fusion")
    shown.begin({"hog": 4, "hash": 4})
    shown.epoch(epoch_end("hash", 0))
    shown.epoch(epoch_end("hog", 3))
    shown.finish("hog")
    shown.finish("hash")


def test_a_log_gets_a_line_per_epoch(screen, monkeypatch, capsys):
    monkeypatch.setattr(training_progress, "monotonic", iter([0, 90.0, 100, 130, 131]).__next__)
    with training_display() as shown:
        train_two(shown)
    assert screen.getvalue().splitlines() == [
        "  training fusion, up to 4 epochs",
        "  fusion: epoch 1/4, val weighted F1 0.250, best 0.500, loss 2.000, up to 2 min left, "
        "35.2 clips/s on cpu",
        "  fusion: epoch 2/4, val weighted F1 0.375, best 0.500, loss 1.750, up to 60 s left, "
        "35.2 clips/s on cpu",
        "  fusion: epoch 3/4, val weighted F1 0.500, best 0.500, loss 1.500, up to 30 s left, "
        "35.2 clips/s on cpu",
        "  fusion: trained 3 of 4 epochs in 2 min, best val weighted F1 0.500",
        "  training 2 runs, up to 4 epochs",
        "  hash: epoch 1/4, val weighted F1 0.250, best 0.500, loss 2.000, up to 2 min left, "
        "35.2 clips/s on cpu",
        "  hog: epoch 4/4, val weighted F1 0.625, best 0.500, loss 1.250, 35.2 clips/s on cpu",
        "  hog: trained 4 epochs in 30 s, best val weighted F1 0.500 (1/2 runs)",
        "  hash: trained 1 of 4 epochs in 31 s, best val weighted F1 0.500 (2/2 runs)",
    ]
    assert capsys.readouterr().out == "", "standard output is for results"


@pytest.mark.parametrize("screen", [80, 120], indirect=True)
def test_a_terminal_shows_bars_and_keeps_a_line_of_each_run(screen, capsys):
    with training_display() as shown:
        train_two(shown)
    text = screen.getvalue()
    whole = "val 0.500, best 0.500, loss 1.500, 30 s left, 35.2 clips/s cpu"
    for said in ("3/4", whole, "1/2"):
        assert said in text
    kept = [line for line in text.splitlines() if ": trained " in line]
    assert len(kept) == 3 and "fusion: trained 3 of 4 epochs" in kept[0]
    assert capsys.readouterr().out == ""


def test_a_run_that_was_trained_before_says_that_it_was_written(screen):
    with training_display() as shown:
        shown.begin({"fusion": 4})
        shown.finish("fusion")
    assert screen.getvalue().splitlines()[-1] == "  fusion: written in 0 s"


def test_an_epoch_that_arrives_after_its_run_has_ended_is_not_told(screen):
    with training_display() as shown:
        shown.begin({"hog": 4, "hash": 4})
        shown.finish("hog")
        before = screen.getvalue()
        shown.epoch(epoch_end("hog", 3))
    assert screen.getvalue() == before


TRIALS = (
    news(0, "running", 1, 0),
    news(1, "running", 1, 0),
    news(0, "complete", 9, 1, value=0.5, best=0.5, best_number=0),
    news(1, "pruned", 3, 2, best=0.5, best_number=0),
    news(2, "failed", 0, 3, value=None, best=0.5, best_number=0, reason="no room"),
)


def test_a_log_gets_a_line_per_trial_with_the_best_so_far(screen):
    with training_display() as shown:
        for event in TRIALS:
            shown.trial(event)
    assert screen.getvalue().splitlines() == [
        "  trial 0 complete after 9 epochs, val 0.500; 1/3 trials, best 0.500 (trial 0)",
        "  trial 1 pruned after 3 epochs, val 0.250; 2/3 trials, best 0.500 (trial 0)",
        "  trial 2 failed after 0 epochs: no room; 3/3 trials, best 0.500 (trial 0)",
    ]


@pytest.mark.parametrize("screen", [100], indirect=True)
def test_a_terminal_shows_which_trials_run_and_ends_with_the_search(screen):
    with training_display() as shown:
        for event in TRIALS[:2]:
            shown.trial(event)
        assert "running: 0 (1/9)" in screen.getvalue()
        for event in TRIALS[2:]:
            shown.trial(event)
        shown.begin({"tuned": 4})  # another live display would be refused


@pytest.mark.parametrize("quiet", [True, False])
def test_with_json_nobody_is_told(tmp_path, screen, quiet):
    recipe = parse_recipe({"name": "tiny", "streams": {"hash": {}}})
    with open_flow(recipe, tmp_path, ["register"], quiet=quiet) as flow:
        assert isinstance(flow.training, NoTrainingProgress) == quiet
        assert (flow.on_trial is tell_nobody) == quiet
        assert isinstance(flow.progress, NoProgress) == quiet
        flow.progress.begin("tracks", 1)
        flow.progress.advance("tracks", [{"state": DONE, "frame_times_s": [0.0]}])
        flow.training.begin({"fusion": 4})
        flow.training.epoch(epoch_end("fusion", 0))
    assert (screen.getvalue() == "") == quiet
