"""Frames of a clip to face tracks and aligned crops, in one pass with a bounded buffer.

The detector searches every stride-th frame (key frames) and the last one. Where successive key
frames hold the same faces at about the same place, each face is followed through the frames
between: measured around the place that lies between its boxes. Where a face comes, goes, jumps or
is lost on the way, or the picture is cut, every frame between is searched too. So stride saves
searches, never ticks, and presence is right to the frame except for a face that comes and goes
within one stride.

    key f f f f key f f f f key        both gaps followed: 3 searches for 11 frames
    key f f f f key s s s s key        a face more on the right: its gap is searched
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from erray.errors import UserError
from erray.faces.align import crop_face
from erray.faces.associate import LinkConfig, Linker, Observation, main_track
from erray.faces.crops import CropSpool, Jpegs
from erray.faces.growing import GrowingTrack
from erray.faces.keyframes import Detector, Frame, KeyFrames
from erray.faces.smooth import REACH, smooth
from erray.records import FaceTrack

# Frames read at once: of 1080p 17, of 4096x2304 4.
BLOCK_BYTES = 96 * 2**20
# Frames in which a face is missed wait for it to come back: of 1080p 32, of 4096x2304 7. Where it
# is missed for longer its ticks keep their boxes and get no crop, as beyond this many ticks.
GAP_BYTES = 192 * 2**20
MAX_GAP_TICKS = 64


@dataclass(frozen=True)
class TrackerConfig:
    """How densely frames are detected and how crops are kept.

    Attributes:
        stride: ticks between key frames; 1 searches every frame.
        min_iou, max_gap_s, bridge_iou: see :class:`erray.faces.associate.LinkConfig`.
        steady_iou: overlap of a face in successive key frames below which the frames between are
            searched instead of followed. Ignored with stride 1.
        lost_score: score of a followed face below which it is lost. Ignored with stride 1.
        smooth_s: how far in time boxes and landmarks are smoothed, see
            :func:`erray.faces.smooth.smooth`; 0: not at all.
        crop_size_px: side of the aligned crops.
        jpeg_quality: of the crops, 1 to 95.
        block_ticks: frames read for one batched detection, fewer where they are large, see
            ``BLOCK_BYTES``.
    """

    stride: int = 5
    min_iou: float = 0.3
    max_gap_s: float = 0.4
    bridge_iou: float = 0.5
    steady_iou: float = 0.3
    lost_score: float = 0.7
    smooth_s: float = 0.06
    crop_size_px: int = 112
    jpeg_quality: int = 92
    block_ticks: int = 30

    def __post_init__(self) -> None:
        self.link_config()
        for name in ("stride", "crop_size_px", "block_ticks"):
            if getattr(self, name) < 1:
                raise UserError(f"faces: expected {name} of 1 or more, found {getattr(self, name)}")
        if not 1 <= self.jpeg_quality <= 95:
            raise UserError(f"faces: expected jpeg_quality from 1 to 95, found {self.jpeg_quality}")
        for name in ("steady_iou", "lost_score", "smooth_s"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(f"faces: expected {name} from 0 to 1, found {getattr(self, name)}")

    def link_config(self) -> LinkConfig:
        """Return the options that linking reads."""
        return LinkConfig(self.min_iou, self.max_gap_s, self.bridge_iou)


@dataclass(frozen=True)
class ClipFaces:
    """The faces of one clip of T ticks.

    Attributes:
        frame_times_s_T: the clip's clock.
        tracks: one per face, by id; the main one is marked.
        crops: id of every track to ticks [N] and as many JPEG files of aligned crops.
        frame_size_px: width and height of the upright frames; (0, 0) without frames.
        num_detected: frames that were searched; in the others faces were followed.
    """

    frame_times_s_T: NDArray[np.float64]
    tracks: list[FaceTrack]
    crops: Mapping[int, tuple[NDArray[np.int32], Sequence[bytes]]]
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
        for block in _blocks(frames, self.config.block_ticks):
            progress.add(block)
        return progress.finish()


class _Progress:
    """The state of one clip: frames that may still be cropped, open tracks, finished ticks."""

    def __init__(self, detector: Detector, config: TrackerConfig) -> None:
        self._config = config
        self._frames = KeyFrames(
            detector,
            stride=config.stride,
            steady_iou=config.steady_iou,
            lost_score=config.lost_score,
        )
        self._linker = Linker(config.link_config())
        self._buffer: dict[int, Frame] = {}
        self._times_s: list[float] = []
        self._tracks: dict[int, GrowingTrack] = {}
        self._spool = CropSpool()

    def add(self, block: list[tuple[float, NDArray[np.uint8]]]) -> None:
        """Take the next frames and finish what can be finished."""
        self._link(self._frames.add(block))
        self._settle(self._linker.open_tracks())
        self._forget()

    def finish(self) -> ClipFaces:
        """Close every track and choose the main one."""
        self._link(self._frames.finish())
        self._settle(set())
        times_s_T = np.array(self._times_s, np.float64)
        tracks = [kept.as_track(i, len(times_s_T)) for i, kept in self._tracks.items()]
        main = main_track(tracks)
        crops = {
            i: (np.array(kept.crop_ticks, np.int32), kept.jpegs) for i, kept in self._tracks.items()
        }
        tracks = [replace(track, is_main=track.track_id == main) for track in tracks]
        frames = self._frames
        return ClipFaces(times_s_T, tracks, crops, frames.frame_size_px, frames.num_searched)

    def _link(self, frames: list[Frame]) -> None:
        for frame in frames:
            assert frame.found is not None
            self._buffer[frame.tick] = frame
            self._times_s.append(frame.time_s)
            for track_id, before, now in self._linker.step(
                frame.tick, frame.time_s, frame.found, new_shot=frame.new_shot
            ):
                kept = self._tracks.setdefault(track_id, GrowingTrack(Jpegs(self._spool)))
                for missed in range(frame.tick if before is None else before.tick + 1, frame.tick):
                    assert before is not None
                    kept.raw.append(before.blend(now, missed, self._times_s[missed]))
                kept.raw.append(now)

    def _settle(self, open_tracks: set[int]) -> None:
        """Smooth and crop every tick whose neighbours in time are all known."""
        reach_s = self._config.smooth_s * REACH
        for track_id, kept in self._tracks.items():
            while (index := kept.num_settled) < len(kept.raw):
                known_s = kept.raw[-1].time_s if track_id in open_tracks else np.inf
                if kept.raw[index].time_s + reach_s > known_s:
                    break
                seen = smooth(kept.raw, index, self._config.smooth_s, self._frames.frame_size_px)
                kept.settle(seen, reach_s)
                self._crop(kept, seen)

    def _crop(self, kept: GrowingTrack, seen: Observation) -> None:
        frame = self._buffer.get(seen.tick)
        if frame is None:
            return
        try:
            crop_HWC = crop_face(frame.image_HWC, seen.landmarks_px_52, self._config.crop_size_px)
        except ValueError:
            return  # landmarks on one point: the face is there, but nothing can be aligned
        kept.crop_ticks.append(seen.tick)
        kept.jpegs.append(crop_HWC, self._config.jpeg_quality)

    def _forget(self) -> None:
        """Drop frames of which no face is left to be cropped."""
        unsettled = [
            kept.raw[kept.num_settled].tick
            for kept in self._tracks.values()
            if kept.num_settled < len(kept.raw)
        ]
        # a face that was missed may come back and claim the frames since it was last seen
        missed = [self._tracks[i].raw[-1].tick + 1 for i in self._linker.open_tracks()]
        frame_bytes = 3 * int(np.prod(self._frames.frame_size_px))
        num_ticks, num_kept = len(self._times_s), min(MAX_GAP_TICKS, GAP_BYTES // frame_bytes)
        oldest = max(min([num_ticks, *missed]), num_ticks - num_kept)
        oldest = max(min([oldest, *unsettled]), num_ticks - MAX_GAP_TICKS)
        for tick in [tick for tick in self._buffer if tick < oldest]:
            del self._buffer[tick]


def _blocks(
    frames: Iterable[tuple[float, NDArray[np.uint8]]], num_ticks: int
) -> Iterator[list[tuple[float, NDArray[np.uint8]]]]:
    block: list[tuple[float, NDArray[np.uint8]]] = []
    for frame in frames:
        block.append(frame)
        if len(block) >= num_ticks or len(block) * frame[1].nbytes >= BLOCK_BYTES:
            yield block
            block = []
    if block:
        yield block
