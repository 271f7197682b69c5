"""What surrounds the steps of a training: making batches, Ray Train, and growth with the clips."""

from __future__ import annotations

import os
import shutil
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from erray.training.arrays import FeatureArrays
from erray.training.bad_values import BadWindows
from erray.training.distributed import train_distributed
from erray.training.feed import Feed
from erray.training.job import TrainJob
from erray.training.loop import TrainingLoop
from erray.training.runs import TrainingRun, train_in_process

_POLL_S = 0.01


def batches_and_steps(job: TrainJob, folder: Path, *, repeats: int) -> dict[str, Any]:
    """Wall seconds of an epoch's batches and of its steps, the mapped files cold and warm.

    Cold are copies that nobody has mapped yet, dropped from the page cache.
    """
    loop = TrainingLoop(job)
    found: dict[str, dict[str, list[float]]] = {"cold": {}, "warm": {}}
    for epoch in range(repeats):
        copy = shutil.copytree(job.train.folder, folder / f"copy{epoch}")
        for path in copy.iterdir():
            drop_from_cache(path)
        feed = Feed(replace(job, train=FeatureArrays(copy)), loop.workers)
        for kept in found.values():  # the second epoch over the same copy finds it warm
            for name, seconds in timed_epoch(loop, feed, epoch).items():
                kept.setdefault(name, []).append(seconds)
        shutil.rmtree(copy)
    medians = {
        state: {name: statistics.median(seconds) for name, seconds in spent.items()}
        for state, spent in found.items()
    }
    return {
        state: {f"{name}_s": round(x, 3) for name, x in spent.items()}
        | {"share_of_batches": round(spent["batches"] / sum(spent.values()), 4)}
        for state, spent in medians.items()
    }


def timed_epoch(loop: TrainingLoop, feed: Feed, epoch: int) -> dict[str, float]:
    bad = BadWindows(feed.job.train, 0, loop.workers)
    loop.model.train()
    spent = {"batches": 0.0, "steps": 0.0}
    for step in feed.start_epoch(epoch):
        start = time.perf_counter()
        batches = [feed.batch(positions) for positions in step]
        between = time.perf_counter()
        loop.stepper.step(batches, bad)
        spent["batches"] += between - start
        spent["steps"] += time.perf_counter() - between
    return spent


def drop_from_cache(path: Path) -> None:
    """Make the next reader of a file wait for the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)  # only clean pages can be dropped
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def ray_train_against_plain(job: TrainJob, folder: Path, *, repeats: int) -> dict[str, Any]:
    """Wall seconds from the end of one epoch to the end of the next, in turns; Ray is connected."""
    seconds: dict[str, list[float]] = {"plain": [], "ray_train": []}
    for round_ in range(repeats):
        for name, train in (("plain", epoch_ends), ("ray_train", ray_epoch_ends)):
            # the first epochs warm up, the last of Ray Train ends with its own end
            ends = train(job, TrainingRun(folder / f"{name}{round_}"))[1:]
            seconds[name] += [b - a for a, b in pairwise(ends)]
    plain, ray_train = (statistics.median(values) for values in seconds.values())
    return {
        "epochs_measured": {name: len(values) for name, values in seconds.items()},
        "seconds_per_epoch": {
            name: {
                "median": round(statistics.median(values), 3),
                "least": round(min(values), 3),
                "most": round(max(values), 3),
            }
            for name, values in seconds.items()
        },
        "added_s": round(ray_train - plain, 3),
        "added_share": round(ray_train / plain - 1, 4),
    }


def epoch_ends(job: TrainJob, run: TrainingRun) -> list[float]:
    """Times at which the plain loop's epochs ended, the state on disk."""
    run.folder.mkdir(parents=True)
    ends: list[float] = []
    train_in_process(job, run, on_epoch=lambda event: ends.append(time.perf_counter()))
    return ends


def ray_epoch_ends(job: TrainJob, run: TrainingRun) -> list[float]:
    """Times at which Ray Train's checkpoints of the epochs lay on disk, by watching the folder."""
    seen: dict[str, float] = {}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_POLL_S):
            for path in run.folder.glob("ray/*/checkpoint_*/state.pt"):
                seen.setdefault(path.parent.name, time.perf_counter())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        train_distributed(job, run)
    finally:
        over.set()
        watcher.join()
    assert len(seen) == job.settings.epochs, (len(seen), job.settings.epochs)
    return sorted(seen.values())


def one_epoch(make: Callable[[], TrainJob]) -> dict[str, float]:
    """Seconds and memory of this process: a job made, then one epoch of it."""
    before = memory_mb()
    start = time.process_time()
    loop = TrainingLoop(make())
    made = time.process_time()
    spent = timed_epoch(loop, loop.feed, 0)
    return {
        "clips": len(loop.job.train.clips),
        "start_cpu_s": round(made - start, 2),
        "epoch_cpu_s": round(time.process_time() - made, 2),
        "share_of_batches": round(spent["batches"] / sum(spent.values()), 3),
        "peak_memory_mb": memory_mb()["VmHWM"],
        "of_which_libraries_mb": before["VmRSS"],
        "of_which_mapped_files_mb": memory_mb()["RssFile"] - before["RssFile"],
    }


def memory_mb() -> dict[str, int]:
    """What this process holds (VmRSS, of which files RssFile) and held at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    rows = (line.split() for line in lines if line.startswith(("VmHWM", "VmRSS", "RssFile")))
    return {row[0].rstrip(":"): int(row[1]) // 1024 for row in rows}
