"""What a worker gets to see: its slice, and streams that modality dropout hides."""

from __future__ import annotations

import torch

from erray.training.feed import Feed
from erray.training.loop import TrainingLoop
from erray.training.workers import Workers


def hidden(job, epoch, workers=Workers()):  # noqa: B008 - frozen
    """Window (clip, first tick) to the streams that are nowhere present, in one epoch."""
    feed, found = Feed(job, workers), {}
    for step in feed.start_epoch(epoch):
        for positions in step:
            batch = feed.batch(positions)
            for b in range(len(batch)):
                if batch.valid_BT[b].any():
                    place = int(batch.clip_B[b]), int(batch.start_B[b])
                    found[place] = {k for k, mask in batch.present.items() if not mask[b].any()}
    return found


def test_dropout_hides_whole_streams_and_never_all(make_job):
    job = make_job(modality_dropout=0.4)
    before, now = hidden(make_job(), 1), hidden(job, 1)
    assert now.keys() == before.keys()
    added = [now[place] - before[place] for place in now]
    assert all(now[place] >= before[place] and len(now[place]) < 2 for place in now)
    assert {name for names in added for name in names} == {"hog", "logmel"}
    assert 0.25 < sum(map(bool, added)) / len(added) < 0.85
    assert hidden(job, 1) == now and hidden(job, 2) != now


def test_workers_hide_what_one_hides(make_job):
    job = make_job(modality_dropout=0.4)
    parts = [hidden(job, 1, Workers(rank, 2)) for rank in range(2)]
    assert not parts[0].keys() & parts[1].keys()
    assert parts[0] | parts[1] == hidden(job, 1)


def test_val_sees_every_stream(make_job):
    """Without a step of any size, val scores do not depend on the chance."""
    still = {"epochs": 1, "optimiser": {"lr": 1e-12, "weight_decay": 0.0}, "dropout": 0.0}
    whole, dropped = (
        TrainingLoop(make_job(modality_dropout=chance, **still)) for chance in (0.0, 0.9)
    )
    for loop in (whole, dropped):
        for module in loop.model.modules():
            if hasattr(module, "momentum"):
                module.momentum = 0.0  # statistics would differ, and they should
    rows = [next(loop.run()) for loop in (whole, dropped)]
    assert rows[0]["train_loss"] != rows[1]["train_loss"]
    scores = [{k: v for k, v in row.items() if k.startswith("val_")} for row in rows]
    assert scores[0] == scores[1]


def test_a_share_of_the_clips(make_job):
    job = make_job(percent={"train": 50.0})
    clips = {clip for clip, _ in hidden(job, 0)}
    assert clips == set(job.train_clips) and len(clips) == 12  # of 8, 8 and 7
    assert job.class_counts == [4, 4, 4]
    whole, part = make_job().make_model(), job.make_model()
    for stream in job.streams:
        ticks = torch.cat(
            [
                torch.from_numpy(
                    job.train.values(stream)[place.offset : place.offset + place.num_ticks][
                        job.train.present(stream)[place.offset : place.offset + place.num_ticks]
                    ]
                )
                for place in (job.train.clips[i] for i in job.train_clips)
            ]
        )
        found = part.encoders[stream].normaliser.mean
        torch.testing.assert_close(found, ticks.mean(0), rtol=1e-5, atol=1e-6)
        assert not torch.equal(found, whole.encoders[stream].normaliser.mean)


def test_a_share_of_val(make_job):
    job = make_job(epochs=1, percent={"val": 1.0})
    assert len(job.val_clips) == 3, "at least one of each class"
    row = next(TrainingLoop(job).run())
    assert row["val_accuracy"] in {0, 1 / 3, 2 / 3, 1}
