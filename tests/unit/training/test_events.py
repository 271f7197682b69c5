"""What a training tells while it runs, and how it gets from a worker to the driver."""

from __future__ import annotations

import dataclasses
import time

import pytest

from erray.training import events
from erray.training.events import EpochEnd, EpochFile, EpochNews
from erray.training.runs import TrainingRun, train_in_process


@pytest.fixture
def one() -> EpochEnd:
    """The first of four epochs."""
    return EpochEnd(
        run="fusion",
        epoch=0,
        num_epochs=4,
        loss=1.5,
        metric="val_weighted_f1",
        score=0.25,
        best=0.25,
        best_epoch=0,
        seconds=2.0,
        device="cpu",
        clips_per_s=11.5,
        time_s=1.0e9,
        row={"epoch": 0, "train_loss": 1.5, "val_weighted_f1": 0.25},
    )


def later(event: EpochEnd, epoch: int) -> EpochEnd:
    return dataclasses.replace(event, epoch=epoch)


def test_a_plain_training_tells_every_epoch(make_job, tmp_path):
    job, run, told = make_job(epochs=4), TrainingRun(tmp_path / "fusion"), []
    before_s = time.time()
    state = train_in_process(job, run, on_epoch=told.append)
    assert [(event.run, event.epoch, event.num_epochs) for event in told] == [
        ("fusion", epoch, 4) for epoch in range(4)
    ]
    assert [dict(event.row) for event in told] == state["history"]
    scores = [row["val_weighted_f1"] for row in state["history"]]
    assert [event.score for event in told] == scores
    assert [event.best for event in told] == [max(scores[: i + 1]) for i in range(4)]
    assert told[-1].best_epoch == scores.index(max(scores))
    for event in told:
        assert (event.metric, event.device) == ("val_weighted_f1", "cpu")
        assert event.loss == event.row["train_loss"]
        assert event.clips_per_s == pytest.approx(23 / event.seconds), "23 clips have a label"
    times_s = [before_s, *(event.time_s for event in told), time.time()]
    assert times_s == sorted(times_s)


def test_the_file_gives_what_was_written_and_each_epoch_once(tmp_path, one):
    worker, driver = EpochFile(tmp_path / "run"), EpochFile(tmp_path / "run")
    assert list(driver.new()) == []
    worker.append(one)
    worker.append(later(one, 1))
    assert list(driver.new()) == [one, later(one, 1)]
    assert list(driver.new()) == []
    worker.append(later(one, 1))  # of a worker that took the place of a lost one
    worker.append(later(one, 2))
    assert list(driver.new()) == [later(one, 2)]


def test_a_line_that_a_lost_worker_left_half_written_costs_no_other_epoch(tmp_path, one):
    worker, driver = EpochFile(tmp_path), EpochFile(tmp_path)
    worker.append(one)
    with driver.path.open("a") as file:
        file.write('{"run": "fusion", "epo')
    assert list(driver.new()) == [one]
    worker.append(later(one, 1))
    worker.append(later(one, 2))
    assert list(driver.new()) == [later(one, 1), later(one, 2)]


def test_news_are_told_while_the_driver_waits_and_old_ones_never(tmp_path, one, monkeypatch):
    monkeypatch.setattr(events, "POLL_S", 0.01)
    folders, told = [tmp_path / "a", tmp_path / "b"], []
    EpochFile(folders[0]).append(later(one, 3))  # of an earlier driver
    news = EpochNews(folders, told.append)
    with news.while_waiting():
        EpochFile(folders[1]).append(one)
        deadline_s = time.monotonic() + 10
        while not told and time.monotonic() < deadline_s:
            time.sleep(0.01)
        assert told == [one], "before the block ends"
        EpochFile(folders[0]).append(later(one, 1))
    assert told == [one, later(one, 1)], "all is told at the end"


def test_what_the_listener_raises_reaches_the_driver(tmp_path, one, monkeypatch):
    monkeypatch.setattr(events, "POLL_S", 0.01)

    def refuse(event: EpochEnd) -> None:
        raise RuntimeError("the store is full")

    news = EpochNews([tmp_path], refuse)
    with pytest.raises(RuntimeError, match="the store is full"), news.while_waiting():
        EpochFile(tmp_path).append(one)
        time.sleep(0.2)
