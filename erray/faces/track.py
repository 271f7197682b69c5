"""Frames of a clip to face tracks and aligned crops, in one pass with a bounded buffer.

The detector sees every stride-th frame (key frames) and the last one. Where successive key frames
hold the same faces at almost the same place, the frames between get boxes and landmarks linear in
presentation time; where a face comes, goes or jumps, or the picture is cut, every frame between
is detected too. So stride saves detection, never ticks, and presence is right to the frame except
for a face that comes and goes within one stride.

    key . . . . key . . . . key        both gaps linked: 3 detections for 11 frames
    key . . . . key d d d d key        a face more on the right: its gap is detected
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from erray.errors import UserError
from erray.faces.align import crop_face
from erray.faces.associate import (
    Detections,
    LinkConfig,
    Linker,
    Observation,
    link,
    main_track,
)
from erray.faces.smooth import REACH, smooth
from erray.records import FaceTrack

Detector = Callable[[list[NDArray[np.uint8]]], list[Detections]]

# Measured on clips with known cuts: cuts correlate by at most 0.47 at 27 gray levels or more,
# fast motion by at least 0.67.
CUT_MAX_CORRELATION = 0.55
CUT_MIN_DIFFERENCE = 10.0
THUMBNAIL_SIDE_PX = 24
# Frames wait for the end of a gap or for smoothing, but never more than this many: at a higher
# rate than 160 frames per second the ticks of a long gap keep their boxes and get no crop.
MAX_GAP_TICKS = 64


@dataclass(frozen=True)
class TrackerConfig:
    """How densely frames are detected and how crops are kept.

    Attributes:
        stride: ticks between key frames; 1 detects every frame.
        min_iou, max_gap_s, bridge_iou: see :class:`erray.faces.associate.LinkConfig`.
        steady_iou: overlap of a face in successive key frames below which the frames between are
            detected instead of interpolated. Ignored with stride 1.
        smooth_s: how far in time boxes and landmarks are smoothed, see
            :func:`erray.faces.smooth.smooth`; 0: not at all.
        crop_size_px: side of the aligned crops.
        jpeg_quality: of the crops, 1 to 95.
        crops: ``main`` keeps the crops of the main track, ``all`` of every track.
        block_ticks: frames held for one batched detection; a 1080p frame takes 6 MB.
    """

    stride: int = 5
    min_iou: float = 0.3
    max_gap_s: float = 0.4
    bridge_iou: float = 0.5
    steady_iou: float = 0.7
    smooth_s: float = 0.06
    crop_size_px: int = 112
    jpeg_quality: int = 92
    crops: str = "main"
    block_ticks: int = 30

    def __post_init__(self) -> None:
        self.link_config()
        for name in ("stride", "crop_size_px", "block_ticks"):
            if getattr(self, name) < 1:
                raise UserError(f"faces: expected {name} of 1 or more, found {getattr(self, name)}")
        if not 1 <= self.jpeg_quality <= 95:
            raise UserError(f"faces: expected jpeg_quality from 1 to 95, found {self.jpeg_quality}")
        if self.crops not in ("main", "all"):
            raise UserError(f"faces: expected crops main or all, found {self.crops!r}")
        if not 0.0 <= self.steady_iou <= 1.0:
            raise UserError(f"faces: expected steady_iou from 0 to 1, found {self.steady_iou}")
        if not 0.0 <= self.smooth_s <= 1.0:
            raise UserError(f"faces: expected smooth_s from 0 to 1, found {self.smooth_s}")

    def link_config(self) -> LinkConfig:
        """Return the options that linking reads."""
        return LinkConfig(self.min_iou, self.max_gap_s, self.bridge_iou)


@dataclass(frozen=True)
class ClipFaces:
    """The faces of one clip of T ticks.

    Attributes:
        frame_times_s_T: the clip's clock.
        tracks: one per face, by id; the main one is marked.
        crops: per track id the ticks [N] and as many JPEG files of aligned crops.
        frame_size_px: width and height of the upright frames; (0, 0) without frames.
        num_detected: frames that the detector saw.
    """

    frame_times_s_T: NDArray[np.float64]
    tracks: list[FaceTrack]
    crops: dict[int, tuple[NDArray[np.int32], list[bytes]]]
    frame_size_px: tuple[int, int]
    num_detected: int = 0


class FaceTracker:
    """Tracks the faces of one clip after another; keeps nothing between clips."""

    def __init__(self, detector: Detector, config: TrackerConfig | None = None) -> None:
        self.detector = detector
        self.config = config or TrackerConfig()

    def track(self, frames: Iterable[tuple[float, NDArray[np.uint8]]]) -> ClipFaces:
        """Read all frames (time in seconds, uint8 RGB image) once and return their faces.

        Raises:
            ValueError: frames of different sizes, or times that do not increase.
        """
        progress = _Progress(self.detector, self.config)
        source = iter(frames)
        while block := list(islice(source, self.config.block_ticks)):
            progress.add(block)
        return progress.finish()


@dataclass
class _Frame:
    """A frame in the buffer; ``found`` stays None where the detector is not asked."""

    time_s: float
    image_HWC: NDArray[np.uint8]
    new_shot: bool
    found: Detections | None = None


@dataclass
class _Kept:
    """One track so far: ``raw`` holds every tick with a box, ``settled`` those smoothed."""

    raw: list[Observation] = field(default_factory=list)
    settled: list[Observation] = field(default_factory=list)
    ticks: list[int] = field(default_factory=list)
    jpegs: list[bytes] = field(default_factory=list)


class _Progress:
    """The state of one clip: buffered frames, open tracks, finished ticks."""

    def __init__(self, detector: Detector, config: TrackerConfig) -> None:
        self._detector = detector
        self._config = config
        self._linker = Linker(config.link_config())
        self._buffer: dict[int, _Frame] = {}
        self._times_s: list[float] = []
        self._tracks: dict[int, _Kept] = {}
        self._thumbnail: NDArray[np.float32] | None = None
        self._shape: tuple[int, ...] = ()
        self._last_key = -1
        self._num_detected = 0

    def add(self, block: list[tuple[float, NDArray[np.uint8]]]) -> None:
        """Take the next frames and finish every tick up to the last key frame among them."""
        first_new = len(self._times_s)
        for time_s, image_HWC in block:
            self._append(time_s, image_HWC)
        keys = [t for t in range(first_new, len(self._times_s)) if t % self._config.stride == 0]
        self._advance(keys)

    def finish(self) -> ClipFaces:
        """Detect the last frame, close every track and choose the main one."""
        last_tick = len(self._times_s) - 1
        if last_tick > self._last_key:
            self._advance([last_tick])
        self._settle(set())
        times_s_T = np.array(self._times_s, np.float64)
        tracks = [_as_track(i, kept, len(times_s_T)) for i, kept in self._tracks.items()]
        main = main_track(tracks)
        wanted = [i for i in self._tracks if self._config.crops == "all" or i == main]
        crops = {
            i: (np.array(self._tracks[i].ticks, np.int32), self._tracks[i].jpegs) for i in wanted
        }
        tracks = [replace(track, is_main=track.track_id == main) for track in tracks]
        return ClipFaces(times_s_T, tracks, crops, self._size_px, self._num_detected)

    @property
    def _size_px(self) -> tuple[int, int]:
        return (self._shape[1], self._shape[0]) if self._shape else (0, 0)

    def _append(self, time_s: float, image_HWC: NDArray[np.uint8]) -> None:
        if self._times_s and time_s <= self._times_s[-1]:
            raise ValueError(f"expected a time after {self._times_s[-1]} s, found {time_s} s")
        if self._times_s and image_HWC.shape != self._shape:
            raise ValueError(f"expected frames of {self._shape}, found {image_HWC.shape}")
        self._shape = image_HWC.shape
        thumbnail = _thumbnail(image_HWC)
        new_shot = self._thumbnail is not None and is_cut(self._thumbnail, thumbnail)
        self._thumbnail = thumbnail
        self._buffer[len(self._times_s)] = _Frame(time_s, image_HWC, new_shot)
        self._times_s.append(time_s)

    def _advance(self, keys: list[int]) -> None:
        """Detect these key frames and the gaps before them that need it, then link all."""
        if not keys:
            return
        self._detect(keys)
        bounds = [self._last_key, *keys] if self._last_key >= 0 else keys
        unsteady: list[int] = []
        for before, after in pairwise(bounds):
            if not self._is_steady(before, after):
                unsteady += range(before + 1, after)
        self._detect(unsteady)
        for tick in sorted([*keys, *unsteady]):
            self._link(tick)
        self._last_key = keys[-1]
        self._settle(self._linker.open_tracks())
        self._forget()

    def _detect(self, ticks: list[int]) -> None:
        if not ticks:
            return
        found = self._detector([self._buffer[tick].image_HWC for tick in ticks])
        for tick, detections in zip(ticks, found, strict=True):
            self._buffer[tick].found = detections
        self._num_detected += len(ticks)

    def _is_steady(self, before: int, after: int) -> bool:
        """Tell whether both key frames hold the same faces, hardly moved, in one shot."""
        if any(self._buffer[tick].new_shot for tick in range(before + 1, after + 1)):
            return False
        old, new = self._buffer[before].found, self._buffer[after].found
        assert old is not None and new is not None
        pairs = link(old.boxes_px_N4, new.boxes_px_N4, self._config.steady_iou)
        return len(pairs) == len(old) == len(new)

    def _link(self, tick: int) -> None:
        # a cut makes its gap unsteady, so it always falls on a detected frame
        frame = self._buffer[tick]
        assert frame.found is not None
        steps = self._linker.step(tick, frame.time_s, frame.found, new_shot=frame.new_shot)
        for track_id, before, now in steps:
            kept = self._tracks.setdefault(track_id, _Kept())
            for between in range(tick if before is None else before.tick + 1, tick):
                assert before is not None
                kept.raw.append(before.blend(now, between, self._times_s[between]))
            kept.raw.append(now)

    def _settle(self, open_tracks: set[int]) -> None:
        """Smooth and crop every tick whose neighbours in time are all known."""
        reach_s = self._config.smooth_s * REACH
        for track_id, kept in self._tracks.items():
            for index in range(len(kept.settled), len(kept.raw)):
                known_s = kept.raw[-1].time_s if track_id in open_tracks else np.inf
                if kept.raw[index].time_s + reach_s > known_s:
                    break
                seen = smooth(kept.raw, index, self._config.smooth_s, self._size_px)
                kept.settled.append(seen)
                self._crop(kept, seen)

    def _crop(self, kept: _Kept, seen: Observation) -> None:
        frame = self._buffer.get(seen.tick)
        if frame is None:
            return
        try:
            crop_HWC = crop_face(frame.image_HWC, seen.landmarks_px_52, self._config.crop_size_px)
        except ValueError:
            return  # landmarks on one point: the face is there, but nothing can be aligned
        kept.ticks.append(seen.tick)
        kept.jpegs.append(_jpeg(crop_HWC, self._config.jpeg_quality))

    def _forget(self) -> None:
        """Drop frames of which no face is left to be cropped."""
        unsettled = [
            kept.raw[len(kept.settled)].tick
            for kept in self._tracks.values()
            if len(kept.settled) < len(kept.raw)
        ]
        # a face that was missed may come back and claim the frames since it was last seen
        open_ticks = [self._tracks[i].raw[-1].tick for i in self._linker.open_tracks()]
        oldest = min([self._last_key, *unsettled, *open_ticks])
        oldest = max(oldest, self._last_key - MAX_GAP_TICKS)
        for tick in [tick for tick in self._buffer if tick < oldest]:
            del self._buffer[tick]


def is_cut(before_HW: NDArray[np.float32], after_HW: NDArray[np.float32]) -> bool:
    """Tell whether two successive gray thumbnails belong to different shots.

    Both must hold: the mean difference in gray levels is large, and the pictures do not
    correlate. A flash keeps the picture's structure; fast motion changes less.
    """
    if np.abs(after_HW - before_HW).mean() < CUT_MIN_DIFFERENCE:
        return False
    a, b = before_HW - before_HW.mean(), after_HW - after_HW.mean()
    norm = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return norm == 0.0 or float((a * b).sum()) / norm < CUT_MAX_CORRELATION


def decode_crops(
    rows: Sequence[Mapping[str, Any]],
) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Return ticks [N], rising, and uint8 RGB crops [N, size, size, 3] of rows of a crops table.

    A clip without crops gives N = 0.
    """
    pairs = sorted(
        (
            (int(tick), jpeg)
            for row in rows
            for tick, jpeg in zip(row["ticks"], row["jpegs"], strict=True)
        ),
        key=lambda pair: pair[0],
    )
    if not pairs:
        return np.zeros(0, np.int32), np.zeros((0, 0, 0, 3), np.uint8)
    images = [np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")) for _, jpeg in pairs]
    return np.array([tick for tick, _ in pairs], np.int32), np.stack(images)


def _thumbnail(image_HWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    factor = max(1, min(image_HWC.shape[:2]) // THUMBNAIL_SIDE_PX)
    step = max(1, factor // 6)  # of a large frame's cells every pixel need not be read
    sparse = Image.fromarray(np.ascontiguousarray(image_HWC[::step, ::step]))
    small = sparse.reduce(factor // step).convert("L")
    return np.asarray(small, dtype=np.float32)


def _jpeg(image_HWC: NDArray[np.uint8], quality: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image_HWC).save(file, "JPEG", quality=quality, subsampling=0)
    return file.getvalue()


def _as_track(track_id: int, kept: _Kept, num_ticks: int) -> FaceTrack:
    ticks = [seen.tick for seen in kept.settled]
    present_T = np.zeros(num_ticks, np.bool_)
    present_T[ticks] = True
    boxes_T4 = np.full((num_ticks, 4), np.nan, np.float32)
    boxes_T4[ticks] = [seen.box_px_4 for seen in kept.settled]
    landmarks_T52 = np.full((num_ticks, 5, 2), np.nan, np.float32)
    landmarks_T52[ticks] = [seen.landmarks_px_52 for seen in kept.settled]
    scores_T = np.full(num_ticks, np.nan, np.float32)
    scores_T[ticks] = [seen.score for seen in kept.settled]
    return FaceTrack(track_id, False, present_T, boxes_T4, landmarks_T52, scores_T)
