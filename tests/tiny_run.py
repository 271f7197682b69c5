"""A tiny corpus with sound and damaged media, a recipe for it, and the real command on both."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import yaml

from erray.demo.corpus import build_demo_corpus
from erray.demo.encode import FRAME_RATE_HZ, SAMPLE_RATE_HZ, write_mp4

REPOSITORY = Path(__file__).parents[1]
NUM_SOUND_CLIPS = {"train": 7, "val": 4, "test": 4, "challenge": 2}
# Clips added to the demo corpus: a cut and a faceless file are done, the others are rejected.
CUT, FACELESS, EMPTY, TEXT = "cut", "faceless", "empty", "text"
NUM_CLIPS = sum(NUM_SOUND_CLIPS.values()) + 4

RECIPE: dict[str, Any] = {
    "name": "tiny",
    "streams": {"hog": {}, "logmel": {}, "hash": {}},
    "model": {
        "name": "lfan",
        "options": {"leader": "hog", "channels": {"hog": [8], "logmel": [8], "hash": [8]}},
    },
    "train": {
        "epochs": 2,
        "window": 75,
        "hop": 50,
        "optimiser": {"name": "adamw", "lr": 3e-3},
    },
    "tune": {"num_trials": 2, "epochs": 2, "grace_epochs": 2, "seeds": [0]},
    "tracking": {"experiment": "tiny", "model_name": "tiny"},
    "predict": {"split": "challenge", "frame_list": "challenge_frames.txt"},
    "report": {"num_timelines": 2, "num_bootstrap": 100},
}


def build_tiny_corpus(root: Path) -> Path:
    """Build a demo corpus of a few clips in the folder ``root``, with four odd ones added."""
    counts = {f"num_{split}": count for split, count in NUM_SOUND_CLIPS.items()}
    manifest = build_demo_corpus(root, **counts)
    with manifest.open(newline="", encoding="utf-8") as file:
        whole = next(row for row in csv.DictReader(file) if row["split"] == "val")
    odd = root / "videos" / "odd"
    odd.mkdir()
    write_cut_copy(root / whole["media"], odd / f"{CUT}.mp4")
    write_faceless(odd / f"{FACELESS}.mp4")
    (odd / f"{EMPTY}.mp4").touch()
    (odd / f"{TEXT}.mp4").write_text("Not a film.\n", encoding="utf-8")
    label, said = whole["label"], whole["transcript"]
    with manifest.open("a", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(
            [name, f"videos/odd/{name}.mp4", "", "", group, split, label, said]
            for name, group, split in (
                (CUT, whole["group"], "val"),
                (FACELESS, "odd_test", "test"),
                (EMPTY, "odd_test", "test"),
                (TEXT, "odd_train", "train"),
            )
        )
    return root


def write_cut_copy(source: Path, target: Path) -> None:
    """Copy a medium with its index in front, then drop the last 40 % of its bytes."""
    with (
        av.open(str(source)) as container,
        av.open(str(target), "w", options={"movflags": "faststart"}) as copy,
    ):
        streams = {s.index: copy.add_stream_from_template(s) for s in container.streams}
        for packet in container.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                copy.mux(packet)
    content = target.read_bytes()
    target.write_bytes(content[: len(content) * 6 // 10])


def write_faceless(path: Path, *, num_frames: int = 30) -> None:
    """Write a slowly brightening slope and a tone: pictures and sound, but nobody to see."""
    slope_HW = np.linspace(0, 150, 320, dtype=np.float32)[None].repeat(240, axis=0)
    frames = (
        np.repeat((slope_HW + 2 * i).astype(np.uint8)[..., None], 3, axis=2)
        for i in range(num_frames)
    )
    times_s_N = np.arange(num_frames * SAMPLE_RATE_HZ // FRAME_RATE_HZ) / SAMPLE_RATE_HZ
    write_mp4(path, frames, 0.3 * np.sin(2 * np.pi * 220 * times_s_N).astype(np.float32))


def write_recipe(path: Path, corpus: Path, **sections: Any) -> Path:
    """Write :data:`RECIPE` for ``corpus`` with whole ``sections`` replaced."""
    data = RECIPE | {"corpus": {"root": str(corpus)}} | sections
    path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return path


@dataclass(frozen=True)
class TinyRun:
    """Where a run of the tiny recipe reads and writes, and how its command is started."""

    corpus: Path
    recipe: Path
    out: Path
    home: Path
    ray_dir: Path

    def command(self, step: str, *options: str) -> list[str]:
        erray = str(Path(sys.executable).with_name("erray"))
        return [erray, step, "-r", str(self.recipe), "--out", str(self.out), *options]

    @property
    def environment(self) -> Mapping[str, str]:
        outer = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        return outer | {"ERRAY_HOME": str(self.home), "RAY_TMPDIR": str(self.ray_dir)}

    def json(self, step: str, *options: str, timeout_s: float = 240) -> Any:
        """Run a step to its end and return the one JSON object it prints."""
        done = subprocess.run(
            self.command(step, *options, "--json"),
            env=self.environment,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)
