"""The nouns of erray as frozen records, and the Arrow schema in which each is kept.

Times are seconds on the medium's own presentation clock, boxes are pixels of the upright
(rotated) frame, spans are half-open. Tensors are plain binary with shape and dtype columns:
Parquet files hold no extension types, so that reading one can never run code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

MODALITIES = ("face", "voice", "text")
DONE, REJECTED = "done", "rejected"

WORD_TYPE = pa.struct([("text", pa.string()), ("start_s", pa.float64()), ("end_s", pa.float64())])

CLIP_SCHEMA = pa.schema(
    [
        ("clip_id", pa.string()),
        ("media", pa.string()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("group", pa.string()),
        ("split", pa.string()),
        ("label", pa.string()),
        ("transcript", pa.string()),
        ("words", pa.list_(WORD_TYPE)),
        ("duration_s", pa.float64()),
        ("file_sha256", pa.string()),
    ]
)

STATUS_SCHEMA = pa.schema(
    [
        ("clip_id", pa.string()),
        ("stage", pa.string()),
        ("fingerprint", pa.string()),
        ("key", pa.string()),
        ("state", pa.string()),
        ("reason", pa.string()),
        ("note", pa.string()),
        ("frame_times_s", pa.list_(pa.float64())),
        ("file_sha256", pa.string()),
        ("num_tracks", pa.int32()),
        ("seconds", pa.float64()),
        ("shard", pa.string()),
        ("limits", pa.string()),
    ]
)

TRACK_SCHEMA = pa.schema(
    [
        ("clip_id", pa.string()),
        ("fingerprint", pa.string()),
        ("key", pa.string()),
        ("track_id", pa.int32()),
        ("is_main", pa.bool_()),
        ("times_s", pa.list_(pa.float64())),
        ("present", pa.list_(pa.bool_())),
        ("boxes_px", pa.list_(pa.list_(pa.float32()))),
        ("landmarks_px", pa.list_(pa.list_(pa.float32()))),
        ("scores", pa.list_(pa.float32())),
        ("frame_width_px", pa.int32()),
        ("frame_height_px", pa.int32()),
    ]
)

CROP_SCHEMA = pa.schema(
    [
        ("clip_id", pa.string()),
        ("fingerprint", pa.string()),
        ("key", pa.string()),
        ("track_id", pa.int32()),
        ("ticks", pa.list_(pa.int32())),
        ("size_px", pa.int32()),
        ("jpegs", pa.list_(pa.binary())),
    ]
)

FEATURE_SCHEMA = pa.schema(
    [
        ("clip_id", pa.string()),
        ("fingerprint", pa.string()),
        ("key", pa.string()),
        ("stream", pa.string()),
        ("modality", pa.string()),
        ("view", pa.int32()),
        ("first_tick", pa.int32()),
        ("present", pa.list_(pa.bool_())),
        ("values", pa.binary()),
        ("shape", pa.list_(pa.int32())),
        ("dtype", pa.string()),
    ]
)

TRANSCRIPT_SCHEMA = pa.schema(
    [
        ("clip_id", pa.string()),
        ("fingerprint", pa.string()),
        ("key", pa.string()),
        ("transcript", pa.string()),
        ("words", pa.list_(WORD_TYPE)),
        ("language", pa.string()),
    ]
)

PREDICTION_SCHEMA = pa.schema(
    [
        ("clip_id", pa.string()),
        ("split", pa.string()),
        ("group", pa.string()),
        ("label", pa.string()),
        ("times_s", pa.list_(pa.float64())),
        ("logits", pa.binary()),
        ("shape", pa.list_(pa.int32())),
        ("dtype", pa.string()),
        ("classes", pa.list_(pa.string())),
        ("probabilities", pa.list_(pa.float64())),
        ("predicted", pa.string()),
        ("clip_rule", pa.string()),
        ("model_name", pa.string()),
        ("model_version", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class Word:
    """One spoken word with its time on the medium's clock."""

    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Clip:
    """A labelled time span of a medium.

    ``start_s`` and ``end_s`` None mean the whole file; ``label`` None means unlabelled;
    ``transcript`` None means unknown, the empty string means nothing is said. ``duration_s`` is
    the length that the corpus states, None where it states none: never a cut, and the clip's
    length only where no stream reads the medium.

    Raises:
        ValueError: an empty id, media, split or group, a span that is empty or starts before 0, or
            a length that is not above 0.
    """

    clip_id: str
    media: str
    split: str
    group: str
    start_s: float | None = None
    end_s: float | None = None
    label: str | None = None
    transcript: str | None = None
    words: tuple[Word, ...] | None = None
    duration_s: float | None = None
    file_sha256: str | None = None

    def __post_init__(self) -> None:
        for name in ("clip_id", "media", "split", "group"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty")
        start_s = 0.0 if self.start_s is None else self.start_s
        if not start_s >= 0.0 or not np.isfinite(start_s):
            raise ValueError(f"start_s is {start_s}, expected 0 or more")
        if self.end_s is not None and not self.end_s > start_s:
            raise ValueError(f"end_s is {self.end_s}, expected more than start_s {start_s}")
        if self.duration_s is not None and not 0.0 < self.duration_s < np.inf:
            raise ValueError(f"duration_s is {self.duration_s}, expected more than 0")

    @property
    def stated_s(self) -> float | None:
        """Length of the clip in seconds as the corpus gives it; None: the medium must say."""
        if self.end_s is not None:
            return self.end_s - (self.start_s or 0.0)
        return self.duration_s

    @property
    def heard_until_s(self) -> float | None:
        """End of the last word on the medium's clock; None where no times are known."""
        return max((word.end_s for word in self.words or ()), default=None)

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Clip:
        """Build a clip from a row of the clips table; other columns are ignored."""
        values: dict[str, Any] = {f.name: row.get(f.name) for f in fields(cls)}
        if values["words"] is not None:
            values["words"] = tuple(Word(**word) for word in values["words"])
        return cls(**values)


@dataclass(frozen=True, slots=True)
class FaceTrack:
    """One face through a clip of T ticks; rows of absent ticks are NaN."""

    track_id: int
    is_main: bool
    present_T: NDArray[np.bool_]
    boxes_px_T4: NDArray[np.float32]
    landmarks_px_T52: NDArray[np.float32]
    scores_T: NDArray[np.float32]

    def __post_init__(self) -> None:
        num_ticks = len(self.present_T)
        assert self.present_T.dtype == np.bool_
        assert self.boxes_px_T4.shape == (num_ticks, 4), self.boxes_px_T4.shape
        assert self.landmarks_px_T52.shape == (num_ticks, 5, 2), self.landmarks_px_T52.shape
        assert self.scores_T.shape == (num_ticks,), self.scores_T.shape


@dataclass(frozen=True, slots=True)
class FaceSample:
    """What a face encoder reads of one clip: crops of the main track at ``ticks`` of T ticks."""

    num_ticks: int
    ticks_N: NDArray[np.int32]
    crops_NHWC: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class VoiceSample:
    """What a voice encoder reads of one clip.

    ``waveform_N`` is mono float32 in [-1, 1], its first sample at ``start_s`` of the medium's
    clock; None where the medium has no sound. ``frame_times_s_T`` is the clip's clock.
    """

    frame_times_s_T: NDArray[np.float64]
    waveform_N: NDArray[np.float32] | None
    rate_hz: int
    start_s: float


@dataclass(frozen=True, slots=True)
class TextSample:
    """What a text encoder reads of one clip: transcript, word times if known, the clock."""

    frame_times_s_T: NDArray[np.float64]
    transcript: str | None
    words: tuple[Word, ...] | None = None


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream of one clip: a value per tick, and whether the stream has data there.

    Values of absent ticks are 0 and mean nothing. ``more_views_VTD`` are the same ticks seen in
    other ways (a mirrored face), for training alone; None: there are none.
    """

    values_TD: NDArray[np.float32]
    present_T: NDArray[np.bool_]
    more_views_VTD: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        assert self.values_TD.dtype == np.float32 and self.values_TD.ndim == 2
        assert self.present_T.dtype == np.bool_
        assert self.present_T.shape == self.values_TD.shape[:1]
        if self.more_views_VTD is not None:
            assert self.more_views_VTD.dtype == np.float32
            assert self.more_views_VTD.shape[1:] == self.values_TD.shape

    @property
    def views(self) -> list[NDArray[np.float32]]:
        """Values [T, D] of every view; the first is the one that is evaluated."""
        return [self.values_TD, *([] if self.more_views_VTD is None else self.more_views_VTD)]


def tensor_columns(x: NDArray[Any]) -> dict[str, Any]:
    """Return ``shape`` and ``dtype`` columns and the raw bytes (``values``) of an array.

    The bytes are a view of the array, not a copy: the features of an hour are 200 MB.
    """
    flat = np.ascontiguousarray(x).reshape(-1).view(np.uint8)
    return {"values": flat.data, "shape": list(x.shape), "dtype": x.dtype.str}


def tensor_from_columns(values: bytes, shape: Sequence[int], dtype: str) -> NDArray[Any]:
    """Invert :func:`tensor_columns`; only plain numeric dtypes are accepted.

    Raises:
        ValueError: a dtype that is not a plain number, or bytes that do not fit the shape.
    """
    try:
        kind = np.dtype(dtype)
    except TypeError:
        raise ValueError(f"dtype {dtype!r} is not a plain number") from None
    if kind.kind not in "fiub":
        raise ValueError(f"dtype {dtype!r} is not a plain number")
    return np.frombuffer(values, dtype=kind).reshape(tuple(shape))
