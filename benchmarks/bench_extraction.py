"""The Ray Data plan against two plain processes on the same files, start-up apart.

Both variants run the same worker (decode, detect, track, crop, write shards) on the same batches of
demo clips, two at a time. A worker is warmed up and waits for its partner before it takes its first
batch; the rate is clips over the time from then to the end of the last batch. What Ray costs is
thus what lies between batches: handing out, replies, its own processes on the same CPUs.

    .venv/bin/python benchmarks/bench_extraction.py [--repeats N] [--save]
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from queue import Empty
from typing import Any

import pyarrow as pa
from measure import arguments, report, summary

from erray.clip_batches import clip_row
from erray.config import Recipe, parse_recipe
from erray.corpora import read_corpus
from erray.demo.corpus import build_demo_corpus
from erray.plan import TRACKS, Plan
from erray.ray_session import ray_session
from erray.records import CLIP_SCHEMA
from erray.stages import TracksStage
from erray.store import RunFolder
from erray.streaming import PoolSize, stream

NUM_WORKERS = 2
CLIPS_PER_BATCH = 4
NUM_CLIPS = 64


class TimedStage(TracksStage):
    """Warms up, waits for its partners, then writes down when its batches began and ended."""

    def __init__(self, *, meeting: str, batch: bytes, **settings: Any) -> None:
        super().__init__(**settings)
        warm_up = pa.ipc.open_stream(batch).read_all()
        super().__call__(warm_up)
        self.times = Path(meeting) / f"{os.getpid()}.times"
        self.times.touch()
        while len(list(Path(meeting).glob("*.times"))) < NUM_WORKERS:
            time.sleep(0.01)

    def __call__(self, batch: pa.Table) -> pa.Table:
        start_s = time.time()
        status = super().__call__(batch)
        with self.times.open("a") as file:
            file.write(f"{start_s} {time.time()}\n")
        return status


def main() -> None:
    options = arguments(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "corpus"
        build_demo_corpus(root, num_train=NUM_CLIPS, num_val=0, num_test=0, num_challenge=0)
        recipe = parse_recipe({"corpus": {"root": str(root)}, "streams": {"hog": {}}})
        rates: dict[str, list[float]] = {"plain processes": [], "Ray Data": []}
        variants: dict[str, Callable[..., None]] = {
            "plain processes": run_plain,
            "Ray Data": run_ray,
        }
        with ray_session(num_cpus=NUM_WORKERS):
            for round_ in range(options.repeats):
                for name, run in variants.items():
                    place = Path(folder) / f"{name.split()[0]}-{round_}"
                    rates[name].append(rate(recipe, place, run))
    plain, ray_data = (statistics.median(values) for values in rates.values())
    facts = {
        "clips": NUM_CLIPS,
        "workers": NUM_WORKERS,
        "repeats": options.repeats,
        "clips_per_minute": {name: summary(values) for name, values in rates.items()},
        "ratio": round(ray_data / plain, 3),
    }
    report("extraction", facts, save=options.save)


def rate(recipe: Recipe, place: Path, run: Callable[..., None]) -> float:
    """Clips per minute of one run, from the meeting of the workers to the last batch's end."""
    meeting = place / "meeting"
    meeting.mkdir(parents=True)
    plan = Plan(recipe)
    clips = read_corpus(recipe.corpus, needs_media=True).clips
    rows = [clip_row(clip) | {"key": plan.key(TRACKS, clip)} for clip in clips]
    schema = CLIP_SCHEMA.append(pa.field("key", pa.string()))
    batches = [
        pa.Table.from_pylist(rows[i : i + CLIPS_PER_BATCH], schema=schema)
        for i in range(0, len(rows), CLIPS_PER_BATCH)
    ]
    settings = {
        "run": RunFolder(str(place / "run")),
        "root": recipe.corpus.root,
        "fingerprint": plan.fingerprints[TRACKS],
        "clock_hz": None,
        "detector": plan.detector,
        "tracker": plan.tracker,
        "meeting": str(meeting),
        "batch": packed(batches[0].slice(0, 1)),
    }
    run(batches, settings)
    spans = [
        [float(time_s) for time_s in line.split()]
        for path in meeting.glob("*.times")
        for line in path.read_text().splitlines()
    ]
    assert len(spans) == len(batches), "every batch ran once"
    return 60 * len(clips) / (max(end for _, end in spans) - min(start for start, _ in spans))


def packed(batch: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_table(batch)
    return sink.getvalue().to_pybytes()


def run_ray(batches: list[pa.Table], settings: dict[str, Any]) -> None:
    size = PoolSize(NUM_WORKERS, 1, 0)
    for _ in stream(batches, TimedStage, settings, size=size, repeats=0):
        pass


def run_plain(batches: list[pa.Table], settings: dict[str, Any]) -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    for batch in batches:
        queue.put(packed(batch))
    workers = [context.Process(target=work, args=(queue, settings)) for _ in range(NUM_WORKERS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0


def work(queue: Any, settings: dict[str, Any]) -> None:
    """A plain worker process: takes batches until there are none."""
    os.environ["OMP_NUM_THREADS"] = "1"  # as Ray gives an actor of one CPU
    import torch  # noqa: PLC0415

    torch.set_num_threads(1)
    stage = TimedStage(**settings)
    while True:
        try:
            batch = queue.get(timeout=1)
        except Empty:
            return
        stage(pa.ipc.open_stream(batch).read_all())


if __name__ == "__main__":
    main()
