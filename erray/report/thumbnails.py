"""Face thumbnails: stored crops, made small, as inline JPEG, in equal slots of the time axis."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

NUM_SLOTS = 16
_SIDE_PX = 96
_QUALITY = 74


@dataclass(frozen=True)
class Faces:
    """Stored crops (JPEG bytes) of one face by tick, in order."""

    ticks_N: NDArray[np.int64]
    jpegs: list[bytes]

    @classmethod
    def from_rows(cls, rows: list[dict[str, Any]]) -> Faces:
        """Join the crop rows of one clip."""
        pairs = [pair for row in rows for pair in zip(row["ticks"], row["jpegs"], strict=True)]
        pairs.sort(key=lambda pair: pair[0])
        return cls(np.array([tick for tick, _ in pairs], dtype=np.int64), [j for _, j in pairs])


@dataclass(frozen=True)
class Slot:
    """One place of the strip: the face nearest to its middle, None where no face was found."""

    jpeg: str | None
    time_s: float


def fill_slots(
    faces: Faces, times_s_T: NDArray[np.float64], *, num_slots: int = NUM_SLOTS
) -> list[Slot]:
    """Cut the clip's time in equal slots and give each the crop nearest to its middle.

    A slot without a crop of its own stays empty when a tick of the clip lies in it; where ticks are
    rarer than slots (a short clip) a slot shows what its nearest tick shows.
    """
    duration_s = float(times_s_T[-1]) or 1.0
    middles_s = duration_s * (np.arange(num_slots) + 0.5) / num_slots
    nearest = [int(np.abs(times_s_T - middle).argmin()) for middle in middles_s]
    slot_of_tick = np.minimum((times_s_T / duration_s * num_slots).astype(int), num_slots - 1)
    position = {int(tick): i for i, tick in enumerate(faces.ticks_N)}
    slots: list[Slot] = []
    made: dict[int, str] = {}
    for number, (middle_s, tick) in enumerate(zip(middles_s, nearest, strict=True)):
        own = [int(t) for t in np.flatnonzero(slot_of_tick == number)] or [tick]
        own.sort(key=lambda t: abs(times_s_T[t] - middle_s))
        found = next((t for t in own if t in position), None)
        if found is not None and found not in made:
            made[found] = thumbnail(faces.jpegs[position[found]])
        slots.append(Slot(None if found is None else made[found], float(middle_s)))
    return slots


def thumbnail(jpeg: bytes) -> str:
    """Return the picture as a small JPEG data URI."""
    with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
        small = image.convert("RGB").resize((_SIDE_PX, _SIDE_PX), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
