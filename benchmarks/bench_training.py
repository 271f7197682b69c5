"""Training: speed against the published step, what Ray Train and loading cost, growth with clips.

1. The published step (``published_step.py``) against erray's loop on the same clips: lengths of
   MELD's train split by its CSV at 23.976 frames/s (lengths that cannot be are left out, as by
   the corpus reader), made-up streams of 512, 128 and 768 values, LFAN as published, batches of
   16 windows. Either way an epoch is every real frame once, in as many steps; the published one
   pays for the filling besides. Batch making from mapped files counts on erray's side, the
   published windows lie ready in memory. CPU seconds of one thread, in turns.
2. Within erray's loop: seconds of making a batch and of a step, mapped files warm and dropped from
   the page cache.
3. Ray Train with one worker against the plain loop, the same job: wall seconds from the end of an
   epoch to the end of the next, saving the state included, start-up apart.
4. Short clips with narrow streams: seconds of an epoch and peak memory at 1,000, 10,000 and 100,000
   clips, each in a process of its own.

    .venv/bin/python benchmarks/bench_training.py [--parts step loading ray growth] [--save]

MELD's CSV is read from a folder `shared` beside the repository; without it, lengths are drawn with
MELD's published mean and median.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import HERE, compare, report
from numpy.typing import NDArray
from published_step import HOP, WINDOW, PublishedLfan, PublishedTraining
from saving import add_save
from training_cost import batches_and_steps, one_epoch, ray_train_against_plain, timed_epoch
from training_jobs import Labelled, make_job, write_arrays

from erray.config import Corpus
from erray.corpora import read_corpus
from erray.corpora.meld import MAX_UTTERANCE_S
from erray.models.published import published_names
from erray.ray_session import ray_session
from erray.training.arrays import FeatureArrays
from erray.training.job import TrainJob
from erray.training.loop import TrainingLoop

MELD = HERE.parents[1] / "shared" / "data" / "meld"
FPS, NUM_CLASSES = 23.976, 7
STREAMS = {"face": 512, "voice": 128, "words": 768}
# fewer clips than a group of batches has would be padded more than the corpus is
NUM_STEP_CLIPS, NUM_RAY_CLIPS, RAY_EPOCHS = 1920, 160, 5
GROWTH_CLIPS, GROWTH_TICKS = (1_000, 10_000, 100_000), 10
NARROW = {"face": 16, "voice": 8, "words": 16}
SMALL = {"channels": dict.fromkeys(NARROW, (16, 16))}
SETTINGS = {
    "epochs": RAY_EPOCHS,
    "window": WINDOW,
    "hop": HOP,
    "batch_size": 16,
    "num_workers": 1,
    "num_gpus": 0,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parts = {"step": speed, "loading": loading, "ray": ray_cost, "growth": growth}
    parser.add_argument("--parts", nargs="+", choices=list(parts), default=list(parts))
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds of a variant")
    add_save(parser)
    parser.add_argument("--grow", help=argparse.SUPPRESS)  # the process that is measured
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.grow:
        json.dump(one_epoch(lambda: narrow_job(Path(options.grow))), sys.stdout)
        return
    content: dict[str, Any] = {}
    for name in options.parts:
        with tempfile.TemporaryDirectory() as folder:
            content[name] = parts[name](Path(folder), options.repeats)
        sys.stderr.write(f"{name}: {json.dumps(content[name])}\n")
    report("training", content, save=options.save)


def speed(folder: Path, repeats: int) -> dict[str, Any]:
    """Part 1."""
    arrays = made_up(folder, draw_lengths(NUM_STEP_CLIPS), STREAMS)
    loop = TrainingLoop(job_of(arrays, arrays))
    published = PublishedLfan(STREAMS, NUM_CLASSES)
    same_weights(loop, published)
    clips = [
        (arrays.window(i, 0, place.num_ticks, list(STREAMS)).streams, place.label)
        for i, place in enumerate(arrays.clips)
    ]
    ready = PublishedTraining(published, clips)
    num_frames = sum(place.num_ticks for place in arrays.clips)
    epochs: Iterator[int] = iter(range(1_000_000))
    found = compare(
        "an epoch: the published step, erray's loop",
        num_frames,
        {
            "published": lambda: ready.epoch(next(epochs)),
            "erray": lambda: timed_epoch(loop, loop.feed, next(epochs)),
        },
        repeats=repeats,
    )
    rates = {
        name: round(rate["median"] * len(clips) / num_frames, 1)
        for name, rate in found["frames_per_cpu_second"].items()
    }
    filled = len(ready.label_N) * WINDOW
    return found | {
        "clips": len(clips),
        "lengths": "of MELD" if MELD.is_dir() else "made up",
        "clips_per_cpu_second": rates,
        "frames_with_filling": filled,
        "frames_with_padding": padded_frames(loop),
        "windows": {"published": len(ready.label_N), "erray": len(loop.feed.spans)},
    }


def same_weights(loop: TrainingLoop, published: PublishedLfan) -> None:
    """Give both the same weights, and see that they then compute the same."""
    names, weights = published_names(loop.model), loop.model.state_dict()
    published.load_state_dict({theirs: weights[ours] for ours, theirs in names.items()})
    x = {name: torch.randn(2, 40, width) for name, width in STREAMS.items()}
    there_BT = torch.ones(2, 40, dtype=torch.bool)
    normalised = {name: loop.model.encoders[name].normaliser(x[name]) for name in x}
    published.eval()
    loop.model.eval()
    with torch.no_grad():
        ours = loop.model(x, dict.fromkeys(x, there_BT), there_BT)
        torch.testing.assert_close(published(normalised), ours, rtol=1e-4, atol=1e-5)


def padded_frames(loop: TrainingLoop) -> int:
    """Frames of the batches of an epoch, padding included."""
    steps = loop.feed.start_epoch(0)
    spans = loop.feed.spans
    return sum(len(batch) * max(len(spans[i]) for i in batch) for step in steps for batch in step)


def loading(folder: Path, repeats: int) -> dict[str, Any]:
    """Part 2."""
    arrays = made_up(folder, draw_lengths(NUM_STEP_CLIPS), STREAMS)
    return batches_and_steps(job_of(arrays, arrays), folder, repeats=repeats)


def ray_cost(folder: Path, repeats: int) -> dict[str, Any]:
    """Part 3."""
    train = made_up(folder, draw_lengths(NUM_RAY_CLIPS), STREAMS)
    val = made_up(folder, draw_lengths(16), STREAMS, split="val")
    with ray_session(num_cpus=1):
        found = ray_train_against_plain(job_of(train, val), folder, repeats=repeats)
    return {"clips": NUM_RAY_CLIPS} | found


def growth(folder: Path, repeats: int) -> list[dict[str, Any]]:
    """Part 4: one epoch each, whatever ``repeats`` says."""
    found = []
    for num_clips in GROWTH_CLIPS:
        place = folder / str(num_clips)
        made_up(place, np.full(num_clips, GROWTH_TICKS), NARROW)
        command = [sys.executable, __file__, "--grow", str(place / "train")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        row = json.loads(done.stdout)
        found.append(row | {"epoch_cpu_s_per_1000_clips": row["epoch_cpu_s"] * 1000 / num_clips})
    return found


def narrow_job(train: Path) -> TrainJob:
    """A small model on one split's arrays, in batches of 64."""
    arrays = FeatureArrays(train)
    return make_job(
        arrays,
        arrays,
        model=("lfan", SMALL),
        settings=SETTINGS | {"batch_size": 64},
        num_classes=NUM_CLASSES,
    )


def made_up(
    folder: Path, lengths: NDArray[np.int64], streams: Mapping[str, int], *, split: str = "train"
) -> FeatureArrays:
    """Random features and classes for clips of these lengths, in ``folder/<split>``."""
    rng = np.random.default_rng(0)
    labels = rng.integers(NUM_CLASSES, size=len(lengths)).tolist()
    clips = [
        Labelled(f"clip{i}", f"dialogue{i // 10}", labels[i], int(length))
        for i, length in enumerate(lengths)
    ]
    values = {
        name: rng.standard_normal((int(lengths.sum()), width), np.float32)
        for name, width in streams.items()
    }
    return write_arrays(folder / split, clips, values)


def job_of(train: FeatureArrays, val: FeatureArrays) -> TrainJob:
    """LFAN as published, trained as published."""
    return make_job(train, val, model=("lfan", {}), settings=SETTINGS, num_classes=NUM_CLASSES)


def draw_lengths(num_clips: int) -> NDArray[np.int64]:
    """Frames of clips of MELD's train split, drawn by seed."""
    rng = np.random.default_rng(0)
    if MELD.is_dir():
        corpus = Corpus(kind="meld", root=str(MELD))
        seconds = [
            clip.duration_s
            for clip in read_corpus(corpus, needs_media=False).clips
            if clip.split == "train" and clip.duration_s is not None
        ]
        drawn_s = rng.choice(seconds, num_clips, replace=False)
    else:  # a log-normal distribution of MELD's mean and median
        drawn_s = np.minimum(rng.lognormal(np.log(2.46), 0.7, num_clips), MAX_UTTERANCE_S)
    return np.maximum(1, np.rint(drawn_s * FPS)).astype(np.int64)


if __name__ == "__main__":
    main()
