"""``erray predict VIDEO``: seconds per minute of video from a cold start, again, and warm.

A minute of the demo corpus' scenes (240 x 180, 25 frames a second, one face) goes through the demo
recipe's streams and a fusion model whose weights are random: what it costs does not depend on them.

- cold: the command in a new process, with nothing there: Python, Ray, workers, nets are loaded too
- again: the same command; the features are there
- warm: another minute, in a process whose Ray and libraries are up; workers start for each stage
- annotated: what writing the annotated video adds to a warm run

Seconds on the wall: most of the work is in Ray's processes, whose CPU time is not this one's.

    .venv/bin/python benchmarks/bench_predict.py [--repeats N] [--save]
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import arguments, report, summary

from erray.checkpoint import ModelDescription, save_model
from erray.config import load_recipe
from erray.demo.corpus import build_demo_corpus
from erray.demo.encode import FRAME_RATE_HZ, SAMPLE_RATE_HZ, write_mp4
from erray.flow.context import Flow
from erray.flow.media_corpus import MANIFEST, find_media, recipe_of_model, with_manifest
from erray.flow.predict_video import predict_video_step
from erray.labels import CEXPR_7
from erray.media import VideoReader, read_waveform
from erray.plan import Plan
from erray.ray_session import ray_session
from erray.registry import Registry

VIDEO_S = 60
MODEL = "models:/bench/1"


def build_videos(folder: Path, count: int) -> list[Path]:
    """Videos of a minute: the demo's clips, one after the other, each time from another one on."""
    corpus = folder / "corpus"
    build_demo_corpus(corpus, num_train=7, num_val=7, num_test=7, num_challenge=1)
    clips = [
        ([image for _, image in VideoReader(path)], read_waveform(path, rate_hz=SAMPLE_RATE_HZ))
        for path in sorted((corpus / "videos").rglob("*.mp4"))
    ]
    videos = []
    for number in range(count):
        frames: list[np.ndarray] = []
        sound: list[np.ndarray] = []
        while len(frames) < VIDEO_S * FRAME_RATE_HZ:
            images, wave = clips[(number + len(sound)) % len(clips)]
            assert wave is not None
            frames += images
            sound.append(wave.samples_N)
        path = folder / f"minute{number}.mp4"
        waveform_N = np.concatenate(sound)[: VIDEO_S * SAMPLE_RATE_HZ]
        write_mp4(path, frames[: VIDEO_S * FRAME_RATE_HZ], waveform_N)
        videos.append(path)
    return videos


def register(home: Path) -> None:
    """A model of the demo recipe's streams, and the recipe in its run."""
    recipe = load_recipe("demo")
    plan = Plan(recipe)
    description = ModelDescription(
        model=recipe.model.name,
        options=recipe.model.options,
        streams=plan.widths,
        labels=CEXPR_7.name,
        class_names=CEXPR_7.names,
        features={name: plan.fingerprints[name] for name in plan.modalities},
        window=recipe.train.window,
        hop=recipe.train.hop,
        clip_rule=recipe.train.clip_rule,
    )
    save_model(home / "bench", description.build(), description)
    registry = Registry(home)
    run = registry.start_run("bench")
    registry.log_dict(run, recipe.model_dump(mode="json"), "recipe.json")
    registry.register(run, home / "bench", model_name="bench")


def command(home: Path, video: Path, out: Path) -> None:
    """The command line in a process of its own."""
    erray = str(Path(sys.executable).with_name("erray"))
    subprocess.run(
        [erray, "predict", str(video), "--model", MODEL, "--out", str(out)],
        env=os.environ | {"ERRAY_HOME": str(home)},
        check=True,
        capture_output=True,
    )


def in_process(home: Path, video: Path, out: Path, *, annotated: bool = False) -> None:
    """The same in this process, whose Ray is up."""
    files = find_media([video])
    recipe = recipe_of_model(Registry(home), MODEL, [], files)
    files.write_manifest(out / MANIFEST)
    flow = Flow(with_manifest(recipe, out), out, home)
    predict_video_step(flow, MODEL, with_video=annotated)


def seconds(run: Callable[[], None]) -> float:
    start_s = time.monotonic()
    run()
    return time.monotonic() - start_s


def measure(folder: Path, repeats: int) -> dict[str, Any]:
    home = folder / "home"
    home.mkdir()
    register(home)
    videos = build_videos(folder, repeats + 1)
    found: dict[str, list[float]] = {"cold": [], "again": [], "warm": [], "annotated": []}
    for round_ in range(repeats):
        out = folder / f"cold{round_}"
        for name in ("cold", "again"):
            found[name].append(seconds(partial(command, home, videos[0], out)))
    warm = folder / "warm"
    with ray_session():
        in_process(home, videos[0], warm)  # loads the libraries
        for video in videos[1:]:
            found["warm"].append(seconds(partial(in_process, home, video, warm)))
            twice = [
                seconds(partial(in_process, home, video, warm, annotated=drawn))
                for drawn in (False, True)
            ]
            found["annotated"].append(twice[1] - twice[0])
    return {
        "video": f"{VIDEO_S} s, 240 x 180, {FRAME_RATE_HZ} frames a second, one face",
        "streams": list(load_recipe("demo").streams),
        "seconds_per_minute": {name: summary(values) for name, values in found.items()},
        "times_realtime_warm": round(VIDEO_S / statistics.median(found["warm"]), 1),
    }


def main() -> None:
    options = arguments(__doc__, repeats=3)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        report("predict", measure(Path(folder), options.repeats), save=options.save)


if __name__ == "__main__":
    main()
