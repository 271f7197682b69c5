"""Time and memory to find that nothing is left to do: a whole extraction over a finished table.

The status table of a finished extraction of three streams is made up with erray's own writer, a
shard per batch of 12 clips and stage as workers leave them, and merged after every stage as the
driver does. Then a fresh process is given the clips, hashes of the media included, and runs the
extraction: it writes the clips table, computes every key, reads every state, finds nothing
pending, checks that no clip is lost, and must not start Ray. Memory is the process' peak; the
clips themselves, which any caller holds, are part of it and stated apart.

The table of a million clips is 333,336 files before they are merged: a quarter of an hour.

    .venv/bin/python benchmarks/bench_pending.py [--clips 10000 1000000] [--save]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from saving import add_save

import erray.extraction
from erray.config import Recipe, parse_recipe
from erray.extraction import Extractor
from erray.plan import TRACKS, Plan
from erray.records import DONE, Clip
from erray.store import RunFolder

CLIPS = (10_000,)
TICKS = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, nargs="+", default=CLIPS, help="sizes of the table")
    add_save(parser)
    parser.add_argument("--extract", help=argparse.SUPPRESS)  # the process that is measured
    arguments = parser.parse_args()
    if arguments.extract:
        json.dump(extract(arguments.extract, arguments.clips[0]), sys.stdout)
        return
    from measure import report  # noqa: PLC0415 torch would count among the memory measured

    content = {
        "streams": list(recipe().streams),
        "ticks_per_clip": TICKS,
        "tables": [measure(num_clips) for num_clips in arguments.clips],
    }
    report("pending", content, save=arguments.save)


def measure(num_clips: int) -> dict[str, Any]:
    """Make the table, then run the extraction in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        made = make_table(folder, num_clips)
        command = [sys.executable, __file__, "--clips", str(num_clips), "--extract", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {"clips": num_clips, "table": made, "extraction": json.loads(done.stdout)}


def recipe() -> Recipe:
    return parse_recipe(
        {"corpus": {"root": "/none"}, "streams": {"hog": {}, "logmel": {}, "hash": {}}}
    )


def clips(num_clips: int) -> Iterator[Clip]:
    """Short clips as in a corpus of dialogues, ten to a group."""
    for i in range(num_clips):
        yield Clip(
            clip_id=f"train/dia{i // 10}_utt{i % 10}",
            media=f"train/dia{i // 10}_utt{i % 10}.mp4",
            split="train",
            group=f"train/dia{i // 10}",
            label="Happily Surprised",
            transcript=f"That is what he said to number {i}.",
            file_sha256=f"{i:064x}",
        )


def make_table(out: str, num_clips: int) -> dict[str, Any]:
    """Write a status row per clip and stage; return what it took."""
    plan, run = Plan(recipe()), RunFolder(out).create()
    size = plan.recipe.extract.shard_clips
    rows = list(clips(num_clips))
    writing_s = merging_s = 0.0
    num_shards = 0
    for stage in (TRACKS, *plan.modalities):
        start_s = time.perf_counter()
        for first in range(0, num_clips, size):
            batch = [status(plan, stage, clip) for clip in rows[first : first + size]]
            run.status.write_shard(batch, keys=[row["key"] for row in batch])
            num_shards += 1
        writing_s += time.perf_counter() - start_s
        start_s = time.perf_counter()
        run.status.merge()
        merging_s += time.perf_counter() - start_s
    return {
        "status_shards_written": num_shards,
        "status_shards_merged": len(run.status.shards()),
        "writing_s": round(writing_s, 1),
        "merging_s": round(merging_s, 1),
    }


def status(plan: Plan, stage: str, clip: Clip) -> dict[str, Any]:
    key = plan.key(stage, clip)
    row = {
        "clip_id": clip.clip_id,
        "stage": stage,
        "fingerprint": plan.fingerprints[stage],
        "key": key,
        "state": DONE,
        "file_sha256": clip.file_sha256,
        "seconds": 0.5,
        "shard": f"shard-{key[:24]}.parquet",
    }
    if stage == TRACKS:
        row |= {"frame_times_s": [i / 25 for i in range(TICKS)], "num_tracks": 1}
    return row


def extract(out: str, num_clips: int) -> dict[str, Any]:
    """Run the extraction that has nothing to do."""
    erray.extraction.ray_session = no_ray
    given = list(clips(num_clips))
    before_mb, start_s, start_cpu_s = peak_mb(), time.perf_counter(), time.process_time()
    extracted = Extractor(recipe(), given, out).extract()
    wall_s, cpu_s = time.perf_counter() - start_s, time.process_time() - start_cpu_s
    assert extracted.done == num_clips and not any(extracted.computed.values()), extracted
    return {
        "wall_s": round(wall_s, 2),
        "cpu_s": round(cpu_s, 2),
        "peak_memory_mb": peak_mb(),
        "of_which_before_mb": before_mb,
    }


def no_ray() -> None:
    raise AssertionError("Ray was started, so something was pending")


def peak_mb() -> int:
    """Most memory that this process held; getrusage would count its parent's at the start, too."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024


if __name__ == "__main__":
    main()
