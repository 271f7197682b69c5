"""What one medium may ask for."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

# First words of the reasons that other limits may do away with.
LIMIT_REASONS = ("too_large", "too_long", "no_memory", "timeout", "decoder_died")


@dataclass(frozen=True)
class MediaLimits:
    """Limits of one medium; who passes one is rejected with a reason.

    Attributes:
        max_pixels: width times height of a frame; 8K (7680 x 4320) is above the default.
        max_frames: frames of one span.
        max_duration_s: time between the first and the last frame or sample of one span.
        max_memory_bytes: what a :class:`erray.media.Decoder`'s child may allocate. Frames on their
            way to the parent (the ring) are not counted.
        stall_s: longest wait of a :class:`erray.media.Decoder` for the next frame.
        min_speed: seconds of a medium that must be decoded per second of waiting, on average and
            after the first ``stall_s`` seconds; catches a medium that goes on, but never ends.
    """

    max_pixels: int = 4096 * 2304
    max_frames: int = 400_000
    max_duration_s: float = 2 * 3600.0
    max_memory_bytes: int = 1024**3
    stall_s: float = 60.0
    min_speed: float = 0.05


def limits_print(limits: MediaLimits) -> str:
    """Return 16 hex digits that name the limits."""
    text = json.dumps(asdict(limits), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
