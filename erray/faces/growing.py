"""A track while its clip is read: what smoothing still needs, and all that is settled."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

import numpy as np

from erray.faces.associate import Observation
from erray.faces.crops import Jpegs
from erray.records import FaceTrack

_TRIM_TICKS = 256
_VALUES = 4 + 10 + 1  # box, landmarks, score


@dataclass
class GrowingTrack:
    """One track so far: ``raw`` holds the last ticks with a box, as smoothing needs them.

    ``num_settled`` of them are smoothed; what all smoothed ticks have lies in plain arrays, since
    objects of a tick each would take a gigabyte in a few hours.
    """

    jpegs: Jpegs
    raw: list[Observation] = field(default_factory=list)
    num_settled: int = 0
    settled_ticks: array[int] = field(default_factory=lambda: array("l"))
    settled_values: array[float] = field(default_factory=lambda: array("f"))
    crop_ticks: array[int] = field(default_factory=lambda: array("l"))

    def settle(self, seen: Observation, reach_s: float) -> None:
        """Keep the next smoothed tick; drop what no later one is smoothed with."""
        self.settled_ticks.append(seen.tick)
        for part in (seen.box_px_4, seen.landmarks_px_52):
            self.settled_values.frombytes(np.ascontiguousarray(part, np.float32).tobytes())
        self.settled_values.append(seen.score)
        self.num_settled += 1
        if self.num_settled < 2 * _TRIM_TICKS:
            return
        # the last one stays for sure: tracks are continued from it
        needed = min(self.num_settled, len(self.raw) - 1)
        while needed > 0 and self.raw[needed - 1].time_s + reach_s >= seen.time_s:
            needed -= 1
        del self.raw[:needed]
        self.num_settled -= needed

    def as_track(self, track_id: int, num_ticks: int) -> FaceTrack:
        """Return the settled ticks as the track of a clip of ``num_ticks``, not main."""
        ticks_N = np.frombuffer(self.settled_ticks, self.settled_ticks.typecode)
        present_T = np.zeros(num_ticks, np.bool_)
        present_T[ticks_N] = True
        values_TV = np.full((num_ticks, _VALUES), np.nan, np.float32)
        values_TV[ticks_N] = np.frombuffer(self.settled_values, np.float32).reshape(-1, _VALUES)
        return FaceTrack(
            track_id,
            False,
            present_T,
            boxes_px_T4=np.ascontiguousarray(values_TV[:, :4]),
            landmarks_px_T52=np.ascontiguousarray(values_TV[:, 4:14]).reshape(num_ticks, 5, 2),
            scores_T=np.ascontiguousarray(values_TV[:, 14]),
        )
