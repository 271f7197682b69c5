"""Search: what a trial costs besides training, slots. What a search finds: ``bench_sampler.py``.

A fixed made-up task: clips of four classes with three streams, few of them and much noise, so that
no model gets all right and settings matter; the space of LFAN (``tune_spaces/lfan.py``). An epoch
takes a tenth of a second or two.

1. Of searches with all epochs, with one slot: seconds on the wall minus those that trials trained
   and those of the start-up, per trial. Settling and reading the study count, importance too.
2. Trials a minute with one slot and two: random settings, which are the same for both; start-up
   apart.

Start-up is what a search with one trial of one epoch in every slot takes besides training.

    .venv/bin/python benchmarks/bench_search.py [--seeds 0 1 2] [--save]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import report
from numpy.typing import NDArray
from saving import add_save
from training_jobs import Labelled, make_job, write_arrays

from erray.config import Recipe
from erray.ray_session import ray_session
from erray.training.arrays import FeatureArrays
from erray.training.job import TrainJob
from erray.tuning.search import search
from erray.tuning.study import Study

NUM_CLASSES, NUM_TICKS, NUM_CLIPS = 4, 4, {"train": 80, "val": 128}
STREAMS = {"face": 24, "voice": 12, "words": 16}
# how far apart the classes lie in a stream, in deviations of the noise of a tick and of a clip
SIGNAL, CLIP_NOISE = {"face": 2.2, "voice": 1.4, "words": 1.8}, 0.5
SHARE_OF_TICKS = 0.6  # that show the class at all
NUM_TRIALS, EPOCHS = 24, 18  # of part 1
NUM_RANDOM, RANDOM_EPOCHS = 10, 6  # of part 2


@dataclass(frozen=True)
class Timed:
    """A search that has ended: its study, its seconds on the wall and those of training."""

    study: Study
    wall_s: float

    @property
    def trained_s(self) -> float:
        """Seconds that trials trained and validated, as the study keeps them."""
        return float(sum(trial["seconds"] for trial in self.study.trials))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the study")
    add_save(parser)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name, ray_session(num_cpus=2):
        folder = Path(name)
        job = made_up_job(folder)
        startup_s = {slots: startup(job, folder, slots) for slots in (1, 2)}
        content: dict[str, Any] = {"startup_s": {k: round(v, 1) for k, v in startup_s.items()}}
        content["slots"] = trials_per_minute(job, folder, startup_s)
        sys.stderr.write(f"{json.dumps(content)}\n")
        content["overhead_s_per_trial"] = [
            round((one.wall_s - one.trained_s - startup_s[1]) / NUM_TRIALS, 2)
            for one in (
                timed(job, folder / f"seed{seed}", seed=seed, grace_epochs=EPOCHS)
                for seed in options.seeds
            )
        ]
    report("search", content, save=options.save)


def trials_per_minute(job: TrainJob, folder: Path, startup_s: dict[int, float]) -> dict[str, Any]:
    """Part 2."""
    done = {
        slots: timed(
            job,
            folder / f"slots{slots}",
            num_trials=NUM_RANDOM,
            epochs=RANDOM_EPOCHS,
            grace_epochs=RANDOM_EPOCHS,
            max_concurrent=slots,
            sampler="random",
        )
        for slots in startup_s
    }
    settings = [[trial["settings"] for trial in one.study.trials] for one in done.values()]
    assert settings[0] == settings[1], "one slot and two trained different things"
    rates = {
        slots: round(60 * NUM_RANDOM / (one.wall_s - startup_s[slots]), 1)
        for slots, one in done.items()
    }
    return {
        "trials": NUM_RANDOM,
        "epochs": RANDOM_EPOCHS,
        "trials_per_minute": rates,
        "ratio": round(rates[2] / rates[1], 2),
    }


def startup(job: TrainJob, folder: Path, slots: int) -> float:
    """Seconds of a search with one trial of one epoch in every slot, training apart."""
    place = folder / f"startup{slots}"
    one = timed(job, place, num_trials=slots, epochs=1, grace_epochs=1, max_concurrent=slots)
    return one.wall_s - max(trial["seconds"] for trial in one.study.trials)


def timed(job: TrainJob, folder: Path, *, seed: int = 0, **tune: Any) -> Timed:
    """Run a search; ``tune`` as under a recipe's tune."""
    start_s = time.perf_counter()
    study = search(recipe(job, seed=seed, **tune), [job], folder)
    wall_s = time.perf_counter() - start_s
    assert study.counts["complete"] + study.counts["pruned"] == len(study.trials), study.counts
    return Timed(study, wall_s)


def recipe(job: TrainJob, *, seed: int, **tune: Any) -> Recipe:
    """A recipe with the job's model, training and streams, searched from ``seed``."""
    settings = {"num_trials": NUM_TRIALS, "epochs": EPOCHS, "max_concurrent": 1, **tune}
    return Recipe.model_validate(
        {
            "name": "made-up",
            "seed": seed,
            "streams": {name: {"encoder": name} for name in job.streams},
            "model": job.model.model_dump(),
            "train": job.settings.model_dump(),
            "tune": settings,
        }
    )


def made_up_job(folder: Path) -> TrainJob:
    """LFAN on the made-up clips; the same in every call."""
    rng = np.random.default_rng(0)
    means = {
        name: SIGNAL[name] * rng.standard_normal((NUM_CLASSES, width)) / np.sqrt(width)
        for name, width in STREAMS.items()
    }
    train, val = (made_up(folder / split, means, rng) for split in NUM_CLIPS)
    return make_job(
        train,
        val,
        model=("lfan", {}),
        settings={"epochs": EPOCHS, "window": NUM_TICKS, "hop": NUM_TICKS, "batch_size": 40},
        num_classes=NUM_CLASSES,
    )


def made_up(
    folder: Path, means: dict[str, NDArray[np.float64]], rng: np.random.Generator
) -> FeatureArrays:
    """Clips of every class in turn; a stream shows it at some ticks, below noise of two kinds."""
    num_clips = NUM_CLIPS[folder.name]
    labels_N = np.arange(num_clips) % NUM_CLASSES
    streams = {}
    for name, mean_CD in means.items():
        width = mean_CD.shape[1]
        shown_NT1 = rng.random((num_clips, NUM_TICKS, 1)) < SHARE_OF_TICKS
        clip_N1D = CLIP_NOISE * rng.standard_normal((num_clips, 1, width))
        tick_NTD = rng.standard_normal((num_clips, NUM_TICKS, width))
        values_NTD = shown_NT1 * mean_CD[labels_N][:, None] + clip_N1D + tick_NTD
        streams[name] = values_NTD.reshape(-1, width)
    clips = [
        Labelled(f"{folder.name}{i}", f"group{i // 10}", int(label), NUM_TICKS)
        for i, label in enumerate(labels_N)
    ]
    return write_arrays(folder, clips, streams)


if __name__ == "__main__":
    main()
