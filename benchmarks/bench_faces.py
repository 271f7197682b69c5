"""Frames per CPU second of the face stage: what key frames save, what the nets' layout saves.

Clips of the demo corpus are made and decoded first; then only the face stage is timed, on one
thread of the CPU, as an actor of the extraction runs it. CPU time, not wall time: others on the
machine disturb it little. Both variants of a claim run in turns in one process; the ratio is that
of the medians.

    .venv/bin/python benchmarks/bench_faces.py [--repeats N] [--save]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from facenet_pytorch import MTCNN
from numpy.typing import NDArray

from erray.config import Corpus
from erray.corpora.manifest import read_manifest
from erray.demo.corpus import build_demo_corpus
from erray.faces.detect import PROPOSAL_THRESHOLDS, DetectorConfig, MtcnnDetector
from erray.faces.track import FaceTracker, TrackerConfig
from erray.media import VideoReader
from erray.run_record import git_commit

RESULTS = Path(__file__).parent / "results"
NUM_CLIPS = 2
STRIDE = 5
Frames = list[tuple[float, NDArray[np.uint8]]]
Run = Callable[[Frames], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds of every variant")
    parser.add_argument(
        "--save", action="store_true", help="write the result to benchmarks/results"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        clips = demo_frames(Path(folder) / "corpus")
    result = {
        "benchmark": "faces",
        "date": datetime.now(UTC).date().isoformat(),
        "commit": git_commit(Path(__file__).parent),
        "machine": machine(),
        "clips": len(clips),
        "frames": sum(map(len, clips)),
        "frame_size_px": list(clips[0][0][1].shape[1::-1]),
        "repeats": arguments.repeats,
        "claims": [
            compare("key frames", clips, key_frames(), repeats=arguments.repeats),
            compare("layout of the nets", clips, layouts(), repeats=arguments.repeats),
        ],
    }
    json.dump(result, sys.stdout, indent=2)
    sys.stdout.write("\n")
    if arguments.save:
        path = RESULTS / f"faces-{result['date']}.json"
        path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def demo_frames(root: Path) -> list[Frames]:
    """Every clip of a small demo corpus, decoded."""
    build_demo_corpus(root, num_train=NUM_CLIPS, num_val=0, num_test=0, num_challenge=0)
    clips = read_manifest(Corpus(root=str(root))).clips
    return [list(VideoReader(root / clip.media)) for clip in clips]


def key_frames() -> dict[str, Run]:
    """The whole tracker, crops included: every frame detected, and every fifth."""
    detector = MtcnnDetector(DetectorConfig(device="cpu"))
    dense, sparse = (FaceTracker(detector, TrackerConfig(stride=n)) for n in (1, STRIDE))
    return {"stride 1": dense.track, f"stride {STRIDE}": sparse.track}


def layouts() -> dict[str, Run]:
    """The three nets alone, by the layout of their weights."""
    config = DetectorConfig()

    def run(layout: torch.memory_format) -> Run:
        nets = MTCNN(
            keep_all=True,
            min_face_size=config.min_face_px,
            thresholds=[*PROPOSAL_THRESHOLDS, config.confidence],
            select_largest=False,
            device=torch.device("cpu"),
        )
        nets = nets.eval().to(memory_format=layout)
        size = config.batch_size

        def detect(frames: Frames) -> None:
            images = np.stack([image for _, image in frames])
            for first in range(0, len(images), size):
                nets.detect(images[first : first + size], landmarks=True)

        return detect

    return {
        "contiguous": run(torch.contiguous_format),
        "channels last": run(torch.channels_last),
    }


def compare(
    claim: str, clips: list[Frames], variants: Mapping[str, Run], *, repeats: int
) -> dict[str, Any]:
    """Time the variants in turns; the ratio says how much faster the last is than the first."""
    num_frames = sum(map(len, clips))
    rates: dict[str, list[float]] = {name: [] for name in variants}
    for round_ in range(repeats + 1):
        for name, run in variants.items():
            start_s = time.process_time()
            for frames in clips:
                run(frames)
            if round_ > 0:  # the first round warms up
                rates[name].append(num_frames / (time.process_time() - start_s))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    first, *_, last = medians.values()
    return {
        "claim": claim,
        "frames_per_cpu_second": {
            name: {
                "median": round(medians[name], 1),
                "least": round(min(values), 1),
                "most": round(max(values), 1),
            }
            for name, values in rates.items()
        },
        "ratio": round(last / first, 2),
    }


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text(encoding="utf-8").splitlines()
        cpu = next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), cpu)
    return {
        "cpu": cpu,
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    main()
