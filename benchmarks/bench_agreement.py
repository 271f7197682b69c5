"""Agreement of the tracks of stride 5 with those of stride 1, on real clips with a face.

Needs the folder ``shared/clips`` beside the repository. Reported per clip, for steady faces (see
agreement.py) and for all: how many, the share with an overlap of the boxes of 0.9 or more, and the
shares whose five landmarks lie within 3 per cent of the distance of the eyes, on the mean and each.

    .venv/bin/python benchmarks/bench_agreement.py [--save]
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from agreement import STEADY_SHARE, Agreement, compare_tracks
from measure import CLIPS, arguments, report

from erray.faces.detect import DetectorConfig, MtcnnDetector
from erray.faces.track import FaceTracker, TrackerConfig
from erray.media import VideoReader

STRIDE = 5
MIN_IOU, MAX_ERROR = 0.9, 0.03
NAMES = (
    "pyfeat_WolfgangLanger.mp4",
    "hamilton_short.mp4",
    "moviepy_chaplin.mp4",
    "pyfeat_single_face.mp4",
    "pyfeat_face_noface.mov",
)


def main() -> None:
    options = arguments(__doc__)
    if not CLIPS.is_dir():
        sys.stderr.write("skipped: the folder shared/clips with real media is missing\n")
        return
    detector = MtcnnDetector(DetectorConfig(device="cpu"))
    clips = [measure(name, detector) for name in NAMES]
    content = {"stride": STRIDE, "steady_share": STEADY_SHARE, "clips": clips}
    report("agreement", content, save=options.save)


def measure(name: str, detector: MtcnnDetector) -> dict[str, Any]:
    dense, sparse = (
        FaceTracker(detector, TrackerConfig(stride=stride)).track(VideoReader(CLIPS / name))
        for stride in (1, STRIDE)
    )
    found = compare_tracks(dense, sparse, STRIDE)
    return {
        "clip": name,
        "frames": len(dense.frame_times_s_T),
        "searched": sparse.num_detected,
        "steady": shares(found, found.steady_F),
        "all": shares(found, np.ones(len(found.iou_F), bool)),
    }


def shares(found: Agreement, of_F: np.ndarray) -> dict[str, float]:
    """Round down: a share of 0.98996 is none of 0.99."""
    if not of_F.any():
        return {"faces": 0}
    parts = {
        "iou": found.iou_F[of_F] >= MIN_IOU,
        "mean_landmark": found.mean_error_F[of_F] <= MAX_ERROR,
        "every_landmark": found.worst_error_F[of_F] <= MAX_ERROR,
    }
    rounded = {name: float(np.floor(part.mean() * 1e4) / 1e4) for name, part in parts.items()}
    return {"faces": int(of_F.sum()), **rounded}


if __name__ == "__main__":
    main()
