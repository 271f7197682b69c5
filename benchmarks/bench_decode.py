"""Frames per CPU second of decoding and of the whole face stage, by the size of the frames.

A portrait moves over a moving pattern, as H.264 in mp4 at 25 frames/s; decoded in this process,
then through the child process that extractions use (its CPU seconds counted, its start-up too),
then with faces tracked as delivered. One thread each.

    .venv/bin/python benchmarks/bench_decode.py [--repeats N] [--save]
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import av
import numpy as np
from measure import arguments, compare, report
from numpy.typing import NDArray
from PIL import Image
from skimage.data import astronaut

from erray.faces.detect import DetectorConfig, MtcnnDetector
from erray.faces.track import FaceTracker
from erray.media import Decoder, VideoReader

HEIGHTS_PX = (360, 720, 1080)
NUM_FRAMES = 200
RATE_HZ = 25


def main() -> None:
    options = arguments(__doc__)
    detector = MtcnnDetector(DetectorConfig(device="cpu"))
    with tempfile.TemporaryDirectory() as folder:
        claims = [
            measure(Path(folder) / f"{height_px}.mp4", height_px, detector, options.repeats)
            for height_px in HEIGHTS_PX
        ]
    report("decode", {"repeats": options.repeats, "claims": claims}, save=options.save)


def measure(path: Path, height_px: int, detector: MtcnnDetector, repeats: int) -> dict[str, Any]:
    write_film(path, height_px)

    def through_child() -> None:
        with Decoder() as decoder:
            read(decoder.frames(path))

    def faces() -> None:
        with Decoder() as decoder:
            FaceTracker(detector).track(decoder.frames(path))

    runs = {
        "in this process": lambda: read(VideoReader(path)),
        "through the child": through_child,
        "faces": faces,
    }
    claim = compare(f"{height_px}p", NUM_FRAMES, runs, repeats=repeats)
    del claim["ratio"]
    return claim


def read(frames: Iterable[tuple[float, NDArray[np.uint8]]]) -> None:
    num_frames = sum(1 for _ in frames)
    assert num_frames == NUM_FRAMES, num_frames


def write_film(path: Path, height_px: int) -> None:
    width_px = height_px * 16 // 9
    face_px = height_px // 2
    portrait = Image.fromarray(astronaut()[0:240, 90:330]).resize((face_px, face_px))
    y, x = np.mgrid[:height_px, :width_px] * (360 / height_px)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=RATE_HZ)
        stream.width, stream.height, stream.pix_fmt = width_px, height_px, "yuv420p"
        stream.options = {"preset": "veryfast", "threads": "1"}
        for i in range(NUM_FRAMES):
            waves = 90 + 50 * np.sin(x / 23 + i / 9) * np.cos(y / 17 - i / 13)
            image = np.repeat(waves.astype(np.uint8)[..., None], 3, axis=-1)
            left = int((width_px - face_px) * (0.5 + 0.3 * np.sin(i / 30)))
            top = int((height_px - face_px) * (0.5 + 0.3 * np.cos(i / 25)))
            image[top : top + face_px, left : left + face_px] = np.asarray(portrait)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


if __name__ == "__main__":
    main()
