"""Decoding of local media: frames with presentation times, and their sound as a mono waveform.

Times are the container's presentation time stamps in seconds; nothing is derived from a frame's
index and an average rate, which is wrong for variable-rate and for cut files.

:class:`VideoReader` and :func:`read_waveform` decode in this process. Media that somebody else
made go through a :class:`Decoder`: the same code in a child process with limits, so that a medium
that crashes a codec, never ends or asks for all memory costs that medium and nothing else. The
whole package imports numpy and PyAV only, so that the child stays small.
"""

from erray.media.container import FORMATS
from erray.media.decoder import DecodedFrames, Decoder
from erray.media.facts import MediaFacts, read_facts
from erray.media.limits import LIMIT_REASONS, MediaLimits, limits_print
from erray.media.sound import Waveform, read_waveform
from erray.media.video import VideoReader

__all__ = [
    "FORMATS",
    "LIMIT_REASONS",
    "DecodedFrames",
    "Decoder",
    "MediaFacts",
    "MediaLimits",
    "VideoReader",
    "Waveform",
    "limits_print",
    "read_facts",
    "read_waveform",
]
