"""Peak memory of an actor, by the length of its clip: 720p video with a face in every frame.

The video is one demo clip scaled to 1280x720 and repeated packet by packet, so that an hour is
written in seconds. Every stage runs in a fresh process, as an actor does, on that one clip; what
counts is the peak resident memory of the process and, apart, of its decoder.

    .venv/bin/python benchmarks/bench_memory.py [--minutes 1 10 60] [--save]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
from measure import report
from numpy.typing import NDArray
from PIL import Image
from saving import add_save

from erray.clip_batches import CLOCKED_SCHEMA, clip_row
from erray.config import Recipe, parse_recipe
from erray.corpora import read_corpus
from erray.demo.corpus import build_demo_corpus
from erray.demo.encode import write_mp4
from erray.media import Decoder, VideoReader, read_waveform
from erray.plan import TRACKS, Plan
from erray.records import CLIP_SCHEMA
from erray.stages import EncodeStage, TracksStage
from erray.store import RunFolder

SIZE_PX = (1280, 720)
STREAMS: dict[str, dict[str, Any]] = {"hog": {}, "logmel": {}}
MARK_MB = 1500
PAUSE_S = 0.08  # between two repetitions: sound begins before its first time stamp


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 10, 60])
    add_save(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = write_source(Path(folder))
        lengths = [measure(Path(folder), source, minutes) for minutes in arguments.minutes]
    report("memory", {"mark_mb": MARK_MB, "lengths": lengths}, save=arguments.save)


def write_source(folder: Path) -> Path:
    """One demo clip at 720p with its sound."""
    root = folder / "demo"
    build_demo_corpus(root, num_train=1, num_val=0, num_test=0, num_challenge=0)
    small = next(root.rglob("*.mp4"))
    wave = read_waveform(small)
    assert wave is not None
    write_mp4(folder / "source.mp4", enlarged(small), wave.samples_N)
    return folder / "source.mp4"


def enlarged(path: Path) -> Iterator[NDArray[np.uint8]]:
    for _, image in VideoReader(path):
        yield np.asarray(Image.fromarray(image).resize(SIZE_PX, Image.Resampling.BICUBIC))


def write_repeated(source: Path, target: Path, duration_s: float) -> None:
    """Repeat a medium's packets, each time later by its length, up to ``duration_s``."""
    with av.open(str(source)) as container, av.open(str(target), "w") as copy:
        streams = {s.index: copy.add_stream_from_template(s) for s in container.streams}
        packets = [p for p in container.demux() if p.dts is not None]
        length_s = container.duration / av.time_base + PAUSE_S
        for number in range(int(duration_s / length_s) + 1):
            for packet in packets:
                later = round(number * length_s / packet.time_base)
                repeated = av.Packet(bytes(packet))
                repeated.pts, repeated.dts = packet.pts + later, packet.dts + later
                repeated.time_base, repeated.duration = packet.time_base, packet.duration
                repeated.is_keyframe = packet.is_keyframe
                repeated.stream = streams[packet.stream.index]
                copy.mux(repeated)


def measure(folder: Path, source: Path, minutes: float) -> dict[str, Any]:
    """Run every stage on a clip of so many minutes, each in a process of its own."""
    root = folder / f"corpus-{minutes:g}"
    root.mkdir()
    write_repeated(source, root / "long.mp4", minutes * 60)
    (root / "manifest.csv").write_text("clip_id,media,split\nlong,long.mp4,train\n")
    faces = {"frame_side_px": 320, "min_face_px": 160}
    recipe = parse_recipe({"corpus": {"root": str(root)}, "streams": STREAMS, "faces": faces})
    stages = {}
    for stage in (TRACKS, *STREAMS):
        context = multiprocessing.get_context("spawn")
        answers = context.Queue()
        process = context.Process(target=run, args=(recipe.model_dump(), stage, answers))
        process.start()
        process.join()
        assert process.exitcode == 0, f"{stage} failed"
        stages[stage] = json.loads(answers.get())
    return {"minutes": minutes, "stages": stages}


def run(settings: dict[str, Any], stage: str, answers: Any) -> None:
    """One stage on the corpus' only clip; put peak memory and time in the queue."""
    recipe = parse_recipe(settings)
    plan, folder = Plan(recipe), RunFolder(f"{recipe.corpus.root}/run")
    start_s = time.monotonic()
    status, decoder_mb = stage_on(recipe, plan, folder, stage)
    (row,) = status.to_pylist()
    assert row["state"] == "done", row["reason"]
    answer = {
        "actor_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "decoder_mb": decoder_mb,
        "seconds": round(time.monotonic() - start_s, 1),
    }
    if stage == TRACKS:
        answer |= {"ticks": len(row["frame_times_s"]), "tracks": row["num_tracks"]}
    answers.put(json.dumps(answer))


def stage_on(
    recipe: Recipe, plan: Plan, folder: RunFolder, stage: str
) -> tuple[pa.Table, int | None]:
    """Return the status row and the decoder's peak memory, None where nothing was decoded."""
    (clip,) = read_corpus(recipe.corpus, needs_media=True).clips
    settings = {
        "run": folder,
        "root": recipe.corpus.root,
        "fingerprint": plan.fingerprints[stage],
        "limits": plan.limits,
    }
    row = clip_row(clip) | {"key": plan.key(stage, clip)}
    if stage == TRACKS:
        schema = CLIP_SCHEMA.append(pa.field("key", pa.string()))
        worker = TracksStage(
            **settings, clock_hz=None, detector=plan.detector, tracker=plan.tracker
        )
        return worker(pa.Table.from_pylist([row], schema=schema)), peak_mb(worker.decoder)
    tracks_key = plan.key(TRACKS, clip)
    (clock,) = folder.status.read(keys=[tracks_key]).to_pylist()
    row |= {
        "frame_times_s": clock["frame_times_s"],
        "tracks_key": tracks_key,
        "crops_shard": folder.crops.shard(clock["shard"]),
    }
    encoder = EncodeStage(**settings, encoder=stage, options=STREAMS[stage])
    status = encoder(pa.Table.from_pylist([row], schema=CLOCKED_SCHEMA))
    return status, peak_mb(encoder.decoder)


def peak_mb(decoder: Decoder) -> int | None:
    """Peak resident memory of a decoder's child, the ring included."""
    if decoder._child is None:
        return None
    status = Path("/proc", str(decoder._child._process.pid), "status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024


if __name__ == "__main__":
    main()
