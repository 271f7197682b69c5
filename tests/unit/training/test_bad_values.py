"""Features, losses and gradients that are not finite: left out, counted, and an end to it."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest
import torch

from erray.errors import UserError
from erray.training.arrays import FeatureArrays
from erray.training.bad_values import with_bad_features, without
from erray.training.loop import TrainingLoop
from erray.windows import WindowSample, collate


def with_values(job, folder, *, clips, value, tick=0):
    """The same job, with one value of ``hog`` replaced in one tick of each of ``clips``."""
    shutil.copytree(job.train.folder, folder / "train")
    values, present = (
        np.load(folder / "train" / f"hog.{kind}.npy") for kind in ("values", "present")
    )
    for clip in clips:
        place = job.train.clips[clip].offset + tick
        values[place, 2], present[place] = value, True
    np.save(folder / "train" / "hog.values.npy", values)
    np.save(folder / "train" / "hog.present.npy", present)
    return dataclasses.replace(job, train=FeatureArrays(folder / "train"))


def without_clips(job, folder, *, clips):
    """The same job, in which ``clips`` have no label and so no windows."""
    shutil.copytree(job.train.folder, folder / "train")
    train = FeatureArrays(folder / "train")
    for clip in clips:
        train.clips[clip] = dataclasses.replace(train.clips[clip], label=-1)
    return dataclasses.replace(job, train=train)


def finite(loop):
    states = [loop.model.state_dict(), loop.best.weights]
    states += [loop.average.model.state_dict()] if loop.average else []
    return all(torch.isfinite(x).all() for state in states for x in state.values())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_bad_features_are_left_out_and_counted(make_job, tmp_path, value):
    job = make_job(epochs=2, hop=16, window=40, average_decay=0.9)
    loop = TrainingLoop(with_values(job, tmp_path, clips=[3, 7], value=value, tick=2))
    rows = list(loop.run())
    assert [row["bad_windows"] for row in rows] == [2, 2]
    assert [row["skipped_steps"] for row in rows] == [0, 0]
    assert finite(loop) and all(np.isfinite(row["train_loss"]) for row in rows)
    clean = list(TrainingLoop(job).run())
    assert [row["bad_windows"] for row in clean] == [0, 0]


def test_the_step_goes_on_as_if_the_window_were_not_there(make_job, tmp_path):
    """One step over all windows, with two bad ones, and without these clips."""
    job = make_job(dropout=0.0, epochs=1, hop=40, window=40, batch_size=23)
    bad = with_values(job, tmp_path / "bad", clips=[3, 7], value=np.nan)
    fewer = without_clips(bad, tmp_path / "fewer", clips=[3, 7])
    loops = [TrainingLoop(bad), TrainingLoop(fewer)]
    rows = [next(loop.run()) for loop in loops]
    assert [row["bad_windows"] for row in rows] == [2, 0]
    assert rows[0]["train_loss"] == pytest.approx(rows[1]["train_loss"], rel=1e-6)
    for name, x in loops[1].model.state_dict().items():
        torch.testing.assert_close(loops[0].model.state_dict()[name], x, atol=1e-6, rtol=1e-5)


def test_bad_values_at_absent_ticks_do_no_harm(make_job, tmp_path):
    job = make_job(epochs=1)
    spoilt = with_values(job, tmp_path, clips=[3], value=1.0)
    values = np.load(spoilt.train.folder / "hog.values.npy")
    values[~np.load(spoilt.train.folder / "hog.present.npy")] = np.nan
    np.save(spoilt.train.folder / "hog.values.npy", values)
    loop = TrainingLoop(dataclasses.replace(spoilt, train=FeatureArrays(spoilt.train.folder)))
    assert next(loop.run())["bad_windows"] == 0
    assert finite(loop)


def test_too_many_end_the_run_and_are_named(make_job, tmp_path):
    job = make_job(epochs=2, hop=40, window=40, max_bad_windows=2)
    fine = TrainingLoop(with_values(job, tmp_path / "two", clips=[3, 7], value=np.nan))
    assert [row["bad_windows"] for row in fine.run()] == [2, 2], "the limit is of an epoch"
    loop = TrainingLoop(with_values(job, tmp_path / "three", clips=[3, 7, 11], value=np.nan))
    with pytest.raises(UserError, match="in clips clip3, clip7, clip11: extract"):
        list(loop.run())
    assert finite(loop)


@pytest.mark.parametrize(("factor", "left_out"), [(1e37, "bad_windows"), (1e25, "skipped_steps")])
def test_values_too_large_to_compute_with(make_job, monkeypatch, factor, left_out):
    """Finite features of one clip whose logits overflow, or only the variance of their batch."""
    job = make_job(dropout=0.0, epochs=2, hop=40, window=40)
    window = FeatureArrays.window

    def huge(arrays, clip, *where, **views):
        sample = window(arrays, clip, *where, **views)
        if arrays is job.train and clip == 5:
            streams = {name: x * np.float32(factor) for name, x in sample.streams.items()}
            assert all(np.isfinite(x).all() for x in streams.values())
            sample = dataclasses.replace(sample, streams=streams)
        return sample

    monkeypatch.setattr(FeatureArrays, "window", huge)
    loop = TrainingLoop(job)
    with torch.no_grad():
        loop.model.encoders["hog"].temporal.network[0].conv1.weight_g *= 100
    rows = list(loop.run())
    expected = {"bad_windows": 0, "skipped_steps": 0} | {left_out: 1}
    assert [{k: row[k] for k in expected} for row in rows] == [expected, expected]
    assert finite(loop)


def test_a_planted_loss(make_job):
    """The loss of every window of one class is not a number: these are left out, no others."""
    loop = TrainingLoop(make_job(epochs=1, hop=40, window=40))
    loop.loss.of_frames.weights_C[1] = torch.nan
    row = next(loop.run())
    assert row["bad_windows"] == 8, "8 of the 23 clips are of class 1"
    assert row["skipped_steps"] == 0
    assert finite(loop)


def test_a_planted_gradient_skips_its_step(make_job):
    job = make_job(epochs=1, hop=40, window=40, max_bad_windows=1, average_decay=0.5)
    loop, calls = TrainingLoop(job), []

    def spoil_the_second(gradient):
        calls.append(1)
        return gradient * torch.nan if len(calls) == 2 else gradient

    loop.model.head.bias.register_hook(spoil_the_second)
    row = next(loop.run())
    assert (row["bad_windows"], row["skipped_steps"]) == (0, 1)
    assert loop.average.num_steps == len(calls) - 1 == 4
    assert finite(loop)

    loop, calls = TrainingLoop(job), []
    loop.model.head.bias.register_hook(lambda gradient: gradient * torch.nan)
    before = {k: v.clone() for k, v in loop.model.state_dict().items()}
    with pytest.raises(UserError, match="0 windows and 2 steps of one epoch"):
        next(loop.run())
    for name, x in loop.model.state_dict().items():
        assert torch.equal(x, before[name]), f"{name} of a skipped step"


def test_weights_that_explode_end_the_run(make_job):
    loop = TrainingLoop(make_job(optimiser={"lr": 1e30}))
    with pytest.raises(UserError, match=r"lower train\.optimiser\.lr"):
        list(loop.run())


def test_which_windows_are_bad_and_what_is_left_of_them():
    def sample(value, *, present=True):
        x_TD = np.ones((3, 2), np.float32)
        x_TD[1, 0] = value
        mask_T = np.array([True, present, True])
        return WindowSample(streams={"s": x_TD}, present={"s": mask_T}, label=0, clip=0, start=0)

    batch = collate([sample(1.0), sample(np.nan), sample(np.inf, present=False), sample(3e38)])
    assert with_bad_features(batch).tolist() == [False, True, False, False]
    left = without(batch, with_bad_features(batch))
    assert left.valid_BT.any(1).tolist() == [True, False, True, True]
    assert left.present["s"].any(1).tolist() == [True, False, True, True]
    assert not left.streams["s"][1].any()
    assert without(batch, torch.zeros(4, dtype=torch.bool)) is batch
