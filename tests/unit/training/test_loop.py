"""The loop: learns, stops, resumes bit for bit, and takes the same steps with two workers."""

import pickle
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from erray.checkpoint import load_state, save_state
from erray.errors import UserError
from erray.training.arrays import FeatureArrays
from erray.training.bad_values import BadWindows
from erray.training.loop import TrainingLoop
from erray.training.runs import TrainingRun, train_in_process, usable_state
from erray.windows import UNLABELLED

WORKER = """
import pickle, sys
import torch, torch.distributed as dist
rank, size, store, jobs_file, out = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
from tests.unit.training.test_loop import run_or_refusal
with open(jobs_file, "rb") as file:
    runs = {name: run_or_refusal(job) for name, job in pickle.load(file).items()}
if rank == 0:
    with open(out, "wb") as file:
        pickle.dump(runs, file)
dist.destroy_process_group()
"""


def recorded_run(job):
    """The loss of every step, the history and the final state of a run."""
    loop, losses = TrainingLoop(job), []
    step = loop.stepper.step

    def recorded(*arguments):
        sums = step(*arguments)
        if sums is not None:
            losses.append(loop.loss.mean(*sums))
        return sums

    loop.stepper.step = recorded
    return losses, list(loop.run()), loop.state_dict()


def run_or_refusal(job):
    """As ``recorded_run``, or the one line that ended the run; traced where it is compiled."""
    if job.settings.compile:
        torch.compile = partial(torch.compile, backend="eager")  # in a process of its own
    try:
        return recorded_run(job)
    except UserError as error:
        return str(error)


@dataclass(frozen=True)
class PlantedArrays(FeatureArrays):
    """Some clips have a feature that is not finite, some finite ones too large to compute with."""

    not_finite: tuple[int, ...]
    large: dict[int, float]

    def window(self, clip, *where, **views):
        sample = super().window(clip, *where, **views)
        streams = {name: x.copy() for name, x in sample.streams.items()}
        present = {name: np.ones_like(mask) for name, mask in sample.present.items()}
        if clip in self.not_finite:
            streams["hog"][0, 1] = np.nan
        elif clip in self.large:
            streams["hog"][:] = self.large[clip]
        else:
            return sample
        return replace(sample, streams=streams, present=present)


def planted(job, *, not_finite, large=()):
    return replace(job, train=PlantedArrays(job.train.folder, not_finite, dict(large)))


@pytest.fixture(scope="module")
def jobs(make_job):
    """23 clips in batches of 5: slices are uneven, one batch leaves the second worker empty."""
    return {
        "uneven": make_job(dropout=0.0, epochs=1, hop=16),
        "single": make_job(dropout=0.0, epochs=1, hop=16, batch_size=1),
        "views": make_job(dropout=0.0, epochs=2, hop=16, views=True),
        "options": make_job(
            dropout=0.0,
            epochs=2,
            hop=16,
            accumulate=2,
            modality_dropout=0.3,
            average_decay=0.9,
            max_grad_norm=0.5,
            warmup_epochs=1,
            loss={"level": "both", "class_weights": "inverse", "logit_adjustment": 1.0},
        ),
        "bad": planted(
            make_job(dropout=0.0, epochs=2, hop=16, average_decay=0.9),
            not_finite=(3, 8),
            large={12: 3e38, 15: 1e25},
        ),
        "compiled": make_job(dropout=0.0, epochs=1, hop=16, compile=True),
        "too_bad": planted(
            make_job(dropout=0.0, epochs=2, hop=16, max_bad_windows=1), not_finite=(3, 8)
        ),
    }


@pytest.fixture(scope="module")
def of_two_workers(jobs, tmp_path_factory):
    """Every job in one pair of connected processes, whose start takes most of the time."""
    folder = tmp_path_factory.mktemp("workers")
    jobs_file, out = folder / "jobs.pickle", folder / "out.pickle"
    jobs_file.write_bytes(pickle.dumps(jobs))
    arguments = ["2", str(folder / "store"), str(jobs_file), str(out)]
    command = [sys.executable, "-c", WORKER]
    repository = Path(__file__).parents[3]
    workers = [
        subprocess.Popen([*command, str(rank), *arguments], cwd=repository) for rank in range(2)
    ]
    assert [worker.wait(timeout=200) for worker in workers] == [0, 0]
    return pickle.loads(out.read_bytes())


def test_two_workers_take_the_steps_of_one(jobs, of_two_workers):
    losses_1, rows_1, state_1 = recorded_run(jobs["uneven"])
    losses_2, rows_2, state_2 = of_two_workers["uneven"]
    assert len(losses_1) >= 5
    np.testing.assert_allclose(losses_2, losses_1, atol=1e-6)
    assert rows_2[0]["val_weighted_f1"] == rows_1[0]["val_weighted_f1"]
    for name, x in state_1["model"].items():
        torch.testing.assert_close(state_2["model"][name], x, atol=1e-5, rtol=1e-5)


def test_more_workers_than_windows_in_a_batch(jobs, of_two_workers):
    losses_1, _, _ = recorded_run(jobs["single"])
    np.testing.assert_allclose(of_two_workers["single"][0][:5], losses_1[:5], atol=1e-6)


def test_two_workers_draw_the_views_of_one(jobs, of_two_workers):
    losses_1, _, _ = recorded_run(jobs["views"])
    np.testing.assert_allclose(of_two_workers["views"][0], losses_1, atol=1e-5)
    first, _, _ = recorded_run(jobs["uneven"])
    assert abs(losses_1[0] - first[0]) > 1e-3, "the views were not used"


def test_two_workers_agree_with_one_under_every_option(jobs, of_two_workers):
    losses_1, rows_1, state_1 = recorded_run(jobs["options"])
    losses_2, rows_2, state_2 = of_two_workers["options"]
    np.testing.assert_allclose(losses_2, losses_1, atol=1e-5)
    scores = [[v for k, v in rows[1].items() if k.startswith("val_")] for rows in (rows_1, rows_2)]
    assert scores[0] == scores[1]
    for key in ("model", "best_weights"):
        for name, x in state_1[key].items():
            torch.testing.assert_close(state_2[key][name], x, atol=1e-5, rtol=1e-4)


def test_two_workers_leave_out_what_one_leaves_out(jobs, of_two_workers):
    losses_1, rows_1, state_1 = recorded_run(jobs["bad"])
    losses_2, rows_2, state_2 = of_two_workers["bad"]
    np.testing.assert_allclose(losses_2, losses_1, atol=1e-5)
    counts = [[(row["bad_windows"], row["skipped_steps"]) for row in r] for r in (rows_1, rows_2)]
    assert counts[0] == counts[1] and counts[0][0][0] > 3 and counts[0][0][1] > 0
    for name, x in state_1["model"].items():
        torch.testing.assert_close(state_2["model"][name], x, atol=1e-5, rtol=1e-4)


def test_two_workers_with_compiled_models_take_the_steps_of_one_without(jobs, of_two_workers):
    losses_1, _, state_1 = recorded_run(jobs["uneven"])
    losses_2, _, state_2 = of_two_workers["compiled"]
    np.testing.assert_allclose(losses_2, losses_1, atol=1e-5)
    for name, x in state_1["model"].items():
        torch.testing.assert_close(state_2["model"][name], x, atol=1e-5, rtol=1e-4)


def test_two_workers_end_alike_when_too_much_is_bad(of_two_workers):
    # which of the two comes first depends on the order of the batches
    reason = of_two_workers["too_bad"]
    assert re.search(r"more than train.max_bad_windows=1, in clips clip[38]\b", reason), reason


def test_every_window_of_a_clip_shows_the_epochs_view(make_job):
    loop = TrainingLoop(make_job(epochs=2, views=True))
    drawn = []
    window = FeatureArrays.window

    def recorded(arrays, clip, start, stop, streams, *, views=None):
        drawn.append((arrays is loop.job.train, loop.epoch, clip, (views or {}).get("hog")))
        return window(arrays, clip, start, stop, streams, views=views)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureArrays, "window", recorded)
        list(loop.run())
    assert {view for training, _, _, view in drawn if not training} == {None}
    seen = {entry[1:] for entry in drawn if entry[0]}
    assert len(seen) == 2 * 23, "one view per clip and epoch"
    assert {view for _, _, view in seen} == {0, 1, 2}


def without_seconds(history):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history]


OPTION_SETS = {
    "mywarmup": {"schedule": {"name": "mywarmup", "options": {"min_epochs": 2}}},
    "average": {"average_decay": 0.9, "optimiser": {"name": "adamw", "amsgrad": True}},
    "accumulate": {"accumulate": 2, "modality_dropout": 0.4, "max_grad_norm": 0.5},
    "precision": {"precision": "bf16", "warmup_epochs": 3, "average_decay": 0.5},
    "loss": {
        "loss": {"level": "both", "class_weights": "effective", "focal_gamma": 1.0},
        "select": {"metric": "macro_f1", "level": "frame"},
        "percent": {"train": 60.0, "val": 60.0},
    },
}


@pytest.mark.parametrize("name", OPTION_SETS)
def test_a_resumed_run_equals_an_undisturbed_one_bit_for_bit(make_job, tmp_path, name):
    job = make_job(epochs=4, **OPTION_SETS[name])
    whole = TrainingLoop(job)
    list(whole.run())

    first = TrainingLoop(job)
    for row in first.run():
        if row["epoch"] == 1:
            break
    save_state(tmp_path / "state.pt", first.state_dict())
    resumed = TrainingLoop(job)
    resumed.load_state_dict(load_state(tmp_path / "state.pt"))
    list(resumed.run())

    assert without_seconds(resumed.history) == without_seconds(whole.history)
    same_content(resumed.state_dict(), whole.state_dict() | {"history": resumed.history})


def same_content(found, expected):
    """Both are the same plain values and, bit for bit, the same tensors."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            same_content(found[key], value)
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected)
    else:
        assert found == expected


def test_the_state_of_the_scale_of_fp16_is_kept(make_job, tmp_path):
    """On a GPU fp16 has such a scale; here it is put in by hand."""
    first, second = (TrainingLoop(make_job(epochs=1)) for _ in range(2))
    for loop, scale in ((first, 64.0), (second, 2.0)):
        loop.stepper.precision.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    losses = [row["train_loss"] for row in first.run()]
    assert losses == pytest.approx([row["train_loss"] for row in TrainingLoop(first.job).run()])
    save_state(tmp_path / "state.pt", first.state_dict())
    second.load_state_dict(load_state(tmp_path / "state.pt"))
    assert second.stepper.precision.scaler.get_scale() == 64.0


def test_it_learns_and_val_chooses_the_weights(make_job):
    loop = TrainingLoop(make_job(epochs=12, optimiser={"lr": 0.02}))
    history = list(loop.run())
    assert history[-1]["train_loss"] < 0.6 * history[0]["train_loss"]
    scores = [row["val_weighted_f1"] for row in history]
    assert loop.best.metric == max(scores) > 0.6
    assert loop.best.epoch == scores.index(max(scores))  # a tie keeps the earlier epoch


def test_early_stopping_waits_for_patience_and_min_epochs(make_job):
    # with a rate of almost nothing val never improves after the first epoch
    still = {"lr": 1e-12, "weight_decay": 0.0}
    patient = TrainingLoop(make_job(epochs=30, min_epochs=1, patience=3, optimiser=still))
    assert len(list(patient.run())) - 1 - patient.best.epoch == 3
    lasting = TrainingLoop(make_job(epochs=30, min_epochs=8, patience=1, optimiser=still))
    assert len(list(lasting.run())) == 8


def test_the_rate_of_the_recipe_reaches_the_optimiser(make_job):
    schedule = {"name": "mystep", "options": {"gamma": 0.5, "step_size": 1, "min_lr": 1e-7}}
    loop = TrainingLoop(make_job(optimiser={"lr": 0.004}, schedule=schedule))
    assert [row["lr"] for row in loop.run()] == pytest.approx([0.004, 0.002, 0.001])
    assert loop.stepper.optimiser.param_groups[0]["lr"] == pytest.approx(0.001)


def test_gradients_are_clipped(make_job):
    loop = TrainingLoop(
        make_job(
            max_grad_norm=1e-3,
            optimiser={"lr": 1.0, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0},
        )
    )
    before = torch.cat([p.detach().flatten().clone() for p in loop.model.parameters()])
    loop.model.train()
    loop.feed.start_epoch(0)
    loop.stepper.step([loop.feed.batch([0, 1, 2])], BadWindows(loop.job.train, 0, loop.workers))
    norm = sum(float(p.grad.square().sum()) for p in loop.model.parameters()) ** 0.5
    assert norm == pytest.approx(1e-3, rel=1e-3)
    assert len(before) > 0


def test_the_normaliser_is_of_the_train_split(make_job):
    job = make_job()
    normaliser = job.make_model().encoders["hog"].normaliser
    values, present = job.train.values("hog"), job.train.present("hog")
    np.testing.assert_allclose(normaliser.mean, values[present].mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(normaliser.std, values[present].std(0), rtol=1e-5)


def test_a_plain_run_goes_on_from_its_state(make_job, tmp_path):
    job, run = make_job(epochs=3), TrainingRun(tmp_path / "run")
    epochs = []

    class Stop(Exception):
        pass

    def stop_after_first(event):
        epochs.append(event.epoch)
        raise Stop

    with pytest.raises(Stop):
        train_in_process(job, run, on_epoch=stop_after_first)
    train_in_process(job, run, on_epoch=lambda event: epochs.append(event.epoch))
    assert epochs == [0, 1, 2]


def test_a_damaged_state_or_one_of_another_job_is_not_used(make_job, tmp_path):
    job, run = make_job(epochs=1), TrainingRun(tmp_path / "run")
    train_in_process(job, run)
    assert usable_state(job, run.state) is not None
    assert usable_state(make_job(epochs=2), run.state) is None
    data = run.state.read_bytes()
    run.state.write_bytes(data[: len(data) // 2])
    assert usable_state(job, run.state) is None


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_without_labels_is_refused_in_one_line(make_job, split):
    job = make_job(epochs=1)
    arrays = FeatureArrays(getattr(job, split).folder)
    for i, clip in enumerate(arrays.clips):
        arrays.clips[i] = replace(clip, label=UNLABELLED)
    message = (
        f"labelled clips in split {split}, found {len(arrays.clips)} clips with features, none"
    )
    with pytest.raises(UserError, match=message):
        TrainingLoop(replace(job, **{split: arrays}))
