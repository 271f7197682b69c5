"""Frames per CPU second of the face stage against the loop that a user would write.

The loop decodes with PyAV and calls facenet-pytorch's MTCNN on every frame, with the same smallest
face and thresholds; ours decodes, tracks, aligns and compresses crops. Real clips where the folder
``shared/clips`` lies beside the repository, else clips of the demo corpus. One thread of the CPU,
as an actor of the extraction runs it. Where torch sees a GPU, the time on the wall there as well.

    .venv/bin/python benchmarks/bench_faces.py [--repeats N] [--save]
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import torch
from facenet_pytorch import MTCNN
from measure import CLIPS, arguments, compare, report, summary

from erray.config import Corpus
from erray.corpora import read_corpus
from erray.demo.corpus import build_demo_corpus
from erray.faces.cascade import PROPOSAL_THRESHOLDS
from erray.faces.detect import DetectorConfig, MtcnnDetector
from erray.faces.track import FaceTracker, TrackerConfig
from erray.media import VideoReader

STRIDE = 5
REAL = ("pyfeat_WolfgangLanger", "hamilton_short", "moviepy_chaplin", "pyfeat_face_noface")
MAX_S = 4.0  # of each clip


@dataclass(frozen=True)
class Span:
    """The start of a medium."""

    path: Path
    end_s: float
    num_frames: int
    size_px: tuple[int, int]


def main() -> None:
    options = arguments(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        spans = real_spans() or demo_spans(Path(folder) / "corpus")
        claims = [on_cpu(span, options.repeats) for span in spans]
        content: dict[str, Any] = {"repeats": options.repeats, "claims": claims}
        if torch.cuda.is_available():
            content["frames_per_second_gpu"] = [on_gpu(span, options.repeats) for span in spans]
    report("faces", content, save=options.save)


def real_spans() -> list[Span]:
    found = [path for name in REAL for path in sorted(CLIPS.glob(f"{name}.*"))]
    return [_span(path) for path in found]


def demo_spans(root: Path) -> list[Span]:
    build_demo_corpus(root, num_train=2, num_val=0, num_test=0, num_challenge=0)
    return [
        _span(root / clip.media)
        for clip in read_corpus(Corpus(root=str(root)), needs_media=False).clips
    ]


def _span(path: Path) -> Span:
    first_s = next(iter(VideoReader(path)))[0]
    frames = list(VideoReader(path, end_s=first_s + MAX_S))
    height_px, width_px = frames[0][1].shape[:2]
    return Span(path, first_s + MAX_S, len(frames), (width_px, height_px))


def on_cpu(span: Span, repeats: int) -> dict[str, Any]:
    detector = MtcnnDetector(DetectorConfig(device="cpu"))
    runs = {
        "loop": loop(span, "cpu"),
        "stride 1": ours(span, detector, 1),
        f"stride {STRIDE}": ours(span, detector, STRIDE),
    }
    claim = compare(span.path.stem, span.num_frames, runs, repeats=repeats)
    rates = {name: rate["median"] for name, rate in claim["frames_per_cpu_second"].items()}
    claim["ratio"] = {name: round(rate / rates["loop"], 2) for name, rate in rates.items()}
    return {**claim, "frame_size_px": span.size_px}


def on_gpu(span: Span, repeats: int) -> dict[str, Any]:
    detector = MtcnnDetector()
    runs = {
        "loop": loop(span, "cuda"),
        "stride 1": ours(span, detector, 1),
        f"stride {STRIDE}": ours(span, detector, STRIDE),
    }
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for round_ in range(repeats + 1):
        for name, run in runs.items():
            start_s = time.perf_counter()
            run()
            if round_ > 0:
                rates[name].append(span.num_frames / (time.perf_counter() - start_s))
    return {
        "clip": span.path.stem,
        "frame_size_px": span.size_px,
        "rates": {name: summary(values) for name, values in rates.items()},
        "ratio": round(
            statistics.median(rates[f"stride {STRIDE}"]) / statistics.median(rates["loop"]), 2
        ),
    }


def loop(span: Span, device: str) -> Callable[[], None]:
    """What a user would write."""
    config = DetectorConfig()
    nets = MTCNN(
        keep_all=True,
        min_face_size=config.min_face_px,
        thresholds=[*PROPOSAL_THRESHOLDS, config.confidence],
        device=torch.device(device),
    )

    def run() -> None:
        with av.open(str(span.path)) as container:
            container.streams.video[0].codec_context.thread_count = 1
            for frame in container.decode(video=0):
                if frame.time >= span.end_s:
                    break
                nets.detect(frame.to_ndarray(format="rgb24"), landmarks=True)

    return run


def ours(span: Span, detector: MtcnnDetector, stride: int) -> Callable[[], Any]:
    tracker = FaceTracker(detector, TrackerConfig(stride=stride))
    return lambda: tracker.track(VideoReader(span.path, end_s=span.end_s))


if __name__ == "__main__":
    main()
