"""Media that go wrong, each in one way, and what must become of them."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.unit.media_files import cut_file, mux_tone, write_video, write_wav

TIMES_MS = [40 * i for i in range(50)]
# file name -> (writes it, state, first word of the reason or None, note or None)
Expected = tuple[Callable[[Path], object], str, str | None, str | None]


def empty(path: Path) -> None:
    path.touch()


def text(path: Path) -> None:
    path.write_text("Not a film.\n", encoding="utf-8")


def play_list(path: Path) -> None:
    """Lists another file of the corpus: must not be followed."""
    path.write_text("ffconcat version 1.0\nfile plain.mp4\n", encoding="utf-8")


def stream_list(path: Path) -> None:
    path.write_text("#EXTM3U\n#EXTINF:1,\nplain.mp4\n#EXT-X-ENDLIST\n", encoding="utf-8")


def plain(path: Path) -> None:
    write_video(path, TIMES_MS, tone=(16000, 1, 0.0, 2.0))


def cut(path: Path) -> None:
    whole = path.with_name("whole-of-cut.tmp.mp4")
    write_video(whole, TIMES_MS, options={"g": "1"}, container_options={"movflags": "faststart"})
    cut_file(path, whole)
    whole.unlink()


def cut_webm(path: Path) -> None:
    write_video(path, [40 * i for i in range(250)], codec="libvpx", size_px=(320, 240))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])


def flipped(path: Path) -> None:
    """Frames of noise in the middle of the stream."""
    write_video(path, TIMES_MS, codec="mjpeg", pix_fmt="yuvj420p")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 400] = np.random.default_rng(0).bytes(400)
    path.write_bytes(data)


def sound_only(path: Path) -> None:
    write_wav(path, np.zeros((1, 16000)), 16000)


def pictures_only(path: Path) -> None:
    write_video(path, TIMES_MS)


def one_frame(path: Path) -> None:
    write_video(path, [0])


def huge_8k(path: Path) -> None:
    write_video(path, [0], size_px=(7680, 4320), codec="mjpeg", pix_fmt="yuvj420p")


def no_size(path: Path) -> None:
    """The header says 0 x 0 pixels."""
    write_video(path, TIMES_MS, codec="rawvideo", size_px=(64, 48))
    data = path.read_bytes()
    at = data.index(b"strf") + 8  # an AVI's bitmap header: size, width, height
    path.write_bytes(data[: at + 4] + bytes(8) + data[at + 12 :])


def turned(path: Path) -> None:
    write_video(path, TIMES_MS)
    data = path.read_bytes()
    one, w = (0x10000).to_bytes(4, "big"), (0x40000000).to_bytes(4, "big")
    minus, zero = (-0x10000).to_bytes(4, "big", signed=True), bytes(4)
    identity = one + zero * 3 + one + zero * 3 + w
    at = data.index(identity, data.index(b"tkhd"))
    quarter = zero + one + zero + minus + zero * 4 + w
    path.write_bytes(data[:at] + quarter + data[at + 36 :])


def ten_bit(path: Path) -> None:
    write_video(path, TIMES_MS, pix_fmt="yuv420p10le")


def odd_size(path: Path) -> None:
    write_video(path, TIMES_MS, size_px=(65, 49), pix_fmt="yuv444p")


def two_sounds(path: Path) -> None:
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sounds = [out.add_stream("aac", rate=16000, layout="mono") for _ in range(2)]
        for _ in range(50):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), format="rgb24")
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        for sound in sounds:
            mux_tone(out, sound, 16000, 1, 0.0, 2.0)


def negative_times(path: Path) -> None:
    """The first frames and sounds lie before zero, as encoders with a delay write them."""
    options = {"avoid_negative_ts": "disabled"}
    write_video(path, [t - 400 for t in TIMES_MS], container_options=options)


def sound_at(rate_hz: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        write_video(path, TIMES_MS, tone=(rate_hz, 1, 0.0, 2.0))

    return write


def variable_rate(path: Path) -> None:
    write_video(path, [0, 10, 50, 51, 400, 401, 900])


def pcm_sound(path: Path) -> None:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=192000, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 192000), np.int16), format="s16", layout="mono"
        )
        frame.sample_rate, frame.pts, frame.time_base = 192000, 0, Fraction(1, 192000)
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


ODD_MEDIA: dict[str, Expected] = {
    "plain.mp4": (plain, "done", None, None),
    "empty.mp4": (empty, "rejected", "empty", None),
    "text.mp4": (text, "rejected", "not_media", None),
    "play_list.mp4": (play_list, "rejected", "not_media", None),
    "stream_list.mp4": (stream_list, "rejected", "not_media", None),
    "cut.mp4": (cut, "done", None, "truncated"),
    "cut.webm": (cut_webm, "done", None, "truncated"),
    "flipped.mkv": (flipped, "done", None, "any"),
    "sound_only.wav": (sound_only, "rejected", "no_video", None),
    "pcm_192k.wav": (pcm_sound, "rejected", "no_video", None),
    "pictures_only.mp4": (pictures_only, "done", None, None),
    "one_frame.mp4": (one_frame, "done", None, None),
    "huge_8k.mov": (huge_8k, "rejected", "too_large", None),
    "no_size.avi": (no_size, "rejected", "too_large", None),
    "turned.mp4": (turned, "done", None, None),
    "ten_bit.mp4": (ten_bit, "done", None, None),
    "odd_size.mkv": (odd_size, "done", None, None),
    "two_sounds.mp4": (two_sounds, "done", None, None),
    "negative_times.ts": (negative_times, "done", None, None),
    "sound_8k.mp4": (sound_at(8000), "done", None, None),
    "sound_192k.mkv": (sound_at(192000), "done", None, None),
    "variable_rate.mp4": (variable_rate, "done", None, None),
}
