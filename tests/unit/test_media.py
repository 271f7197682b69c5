"""Decoding is checked against files written here, whose every frame and time is known."""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from erray.errors import MediaError
from erray.media import MediaLimits, VideoReader, Waveform, read_waveform
from tests.unit.media_files import cut_file, gray_of, write_video, write_wav

CLIPS = Path(__file__).parents[3] / "shared" / "clips"
MANIFEST = json.loads((CLIPS / "manifest.json").read_text()) if CLIPS.is_dir() else {}


def read(path: Path, **options) -> tuple[list[float], list[np.ndarray], str | None]:
    reader = VideoReader(path, **options)
    frames = list(reader)
    return [t for t, _ in frames], [image for _, image in frames], reader.note


def reason(path: Path, **options) -> str:
    with pytest.raises(MediaError) as caught:
        read(path, **options)
    return str(caught.value).split(":")[0]


@pytest.mark.parametrize(
    "times_ms",
    [[40 * i for i in range(30)], [0, 10, 50, 51, 400, 401, 900], [2000, 2100, 2350]],
    ids=["constant", "variable", "late start"],
)
@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_times_and_images_are_those_written(tmp_path, times_ms, suffix):
    path = write_video(tmp_path / f"a{suffix}", times_ms)
    times_s, images, note = read(path)
    assert times_s == pytest.approx([t / 1000 for t in times_ms], abs=1e-4)
    for index, image in enumerate(images):
        assert image.shape == (48, 64, 3) and image.dtype == np.uint8
        assert abs(float(image[-8:, -8:].mean()) - gray_of(index)) < 2
    assert note is None


def test_span_is_half_open_and_equals_the_filtered_whole(tmp_path):
    path = write_video(tmp_path / "a.mp4", [40 * i for i in range(100)])
    whole_s, whole, _ = read(path)
    for start_s, end_s in [(0.0, 0.4), (0.4, 0.8), (2.0, 2.04), (3.0, None), (None, 1.0)]:
        times_s, images, note = read(path, start_s=start_s, end_s=end_s)
        keep = [
            i
            for i, t in enumerate(whole_s)
            if (start_s is None or t >= start_s) and (end_s is None or t < end_s)
        ]
        assert times_s == [whole_s[i] for i in keep]
        assert all(np.array_equal(x, whole[i]) for x, i in zip(images, keep, strict=True))
        assert note is None
    assert reason(path, start_s=50.0, end_s=60.0) == "no_frames"


def test_display_matrix_of_a_stream_is_applied(tmp_path):
    """A quarter turn in the header of an mp4: bytes of its matrix are patched in place."""
    path = write_video(tmp_path / "a.mp4", [0, 40, 80])
    data = path.read_bytes()
    one, w = (0x10000).to_bytes(4, "big"), (0x40000000).to_bytes(4, "big")
    minus, zero = (-0x10000).to_bytes(4, "big", signed=True), bytes(4)
    identity = one + zero * 3 + one + zero * 3 + w
    at = data.index(identity, data.index(b"tkhd"))
    matrices = {  # upright picture -> where its white corner (top left) must be
        "clockwise": (zero + one + zero + minus + zero * 4 + w, (0, -1), (64, 48)),
        "counter-clockwise": (zero + minus + zero + one + zero * 4 + w, (-1, 0), (64, 48)),
        "half turn": (minus + zero * 3 + minus + zero * 3 + w, (-1, -1), (48, 64)),
        "mirror": (minus + zero * 3 + one + zero * 3 + w, (0, -1), (48, 64)),
    }
    for name, (matrix, corner, shape) in matrices.items():
        turned = tmp_path / f"{name}.mp4"
        turned.write_bytes(data[:at] + matrix + data[at + 36 :])
        _, images, _ = read(turned)
        assert images[0].shape[:2] == shape, name
        assert images[0][corner].mean() > 240, name
        assert sum(images[0][y, x].mean() > 240 for y in (0, -1) for x in (0, -1)) == 1, name


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "size_px"),
    [
        ("libx264", "yuv444p", (65, 49)),
        ("libx264", "yuv420p10le", (64, 48)),
        ("ffv1", "gray", (33, 17)),
        ("mpeg4", "yuv420p", (121, 81)),
    ],
)
def test_pixel_formats_and_odd_sizes(tmp_path, codec, pix_fmt, size_px):
    path = write_video(
        tmp_path / "a.mkv", [0, 40, 80], codec=codec, pix_fmt=pix_fmt, size_px=size_px
    )
    _, images, _ = read(path)
    assert [x.shape for x in images] == [(size_px[1], size_px[0], 3)] * 3
    assert abs(float(images[2][-5:, -5:].mean()) - gray_of(2)) < 6


def test_repeated_time_stamps_are_dropped(tmp_path):
    path = write_video(tmp_path / "a.mkv", [0, 40, 80], codec="mjpeg", pix_fmt="yuvj420p")
    doubled = tmp_path / "b.mkv"
    with av.open(str(path)) as source, av.open(str(doubled), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                packet.pts = packet.dts = 40 if packet.pts == 80 else packet.pts
                out.mux(packet)
    times_s, images, _ = read(doubled)
    assert times_s == [0.0, 0.04]
    assert abs(float(images[1][-5:].mean()) - gray_of(1)) < 6


def test_cut_file_yields_what_is_there_with_a_note(tmp_path):
    path = write_video(
        tmp_path / "a.mp4",
        [40 * i for i in range(50)],
        options={"g": "1"},
        container_options={"movflags": "faststart"},
    )
    cut = cut_file(tmp_path / "cut.mp4", path)
    times_s, _, note = read(cut)
    assert 15 < len(times_s) < 35
    assert note == f"truncated {len(times_s)}/50"
    assert read(cut, end_s=0.2)[2] is None, "the span asked for is complete"


@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".ts", ".mp4"])
def test_cut_media_say_so_in_pictures_and_sound(tmp_path, suffix):
    """Matroska, WebM and MPEG-TS end without an error and count no frames in their header."""
    codec = {"codec": "libvpx"} if suffix == ".webm" else {}
    options = {"movflags": "faststart"} if suffix == ".mp4" else {}
    whole = tmp_path / f"whole{suffix}"
    write_talking(whole, 250, container_options=options, **codec)
    data = whole.read_bytes()
    half = tmp_path / f"half{suffix}"
    half.write_bytes(data[: len(data) // 2])
    assert read(whole)[2] is None and read_waveform(whole).note is None
    if suffix == ".ts":
        return  # its length is where its last packet is: a shorter file is a shorter medium
    times_s, _, note = read(half)
    assert 0 < len(times_s) < 240 and note.startswith("truncated")
    assert read_waveform(half).note.startswith("sound ends at ")
    early = {"start_s": 0.4, "end_s": 1.2}
    assert read(half, **early)[2] is None and read_waveform(half, **early).note is None


def write_talking(path: Path, num_frames: int, **options) -> None:
    """Pictures and sound interleaved, as a camera writes them."""
    rate_hz = 48000
    with av.open(str(path), "w", options=options["container_options"]) as out:
        video = out.add_stream(options.get("codec", "libx264"), rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = out.add_stream("libopus" if path.suffix in {".mkv", ".webm"} else "aac", rate_hz)
        sound.layout = "mono"
        noise = np.random.default_rng(0)
        for i in range(num_frames):
            picture = noise.integers(0, 255, (48, 64, 3), dtype=np.uint8)
            out.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            samples = (0.1 * noise.standard_normal((1, rate_hz // 25))).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = rate_hz, i * rate_hz // 25
            frame.time_base = Fraction(1, rate_hz)
            out.mux(sound.encode(frame))
        out.mux(video.encode(None))
        out.mux(sound.encode(None))


def test_a_picture_track_that_ends_before_the_sound_is_whole(tmp_path):
    path = write_video(tmp_path / "a.mkv", [40 * i for i in range(25)], tone=(16000, 1, 0.0, 4.0))
    assert read(path)[2] is None and read_waveform(path).note is None


def test_sound_before_the_span_does_not_count_for_the_limit(tmp_path):
    path = write_video(tmp_path / "a.mkv", [40 * i for i in range(200)], tone=(16000, 1, 0.0, 8.0))
    wave = read_waveform(path, start_s=4.0, end_s=6.9, limits=MediaLimits(max_duration_s=3.0))
    assert wave is not None and len(wave.samples_N) == round(2.9 * 16000)
    with pytest.raises(MediaError, match=r"^too_long"):
        read_waveform(path, start_s=4.0, end_s=7.9, limits=MediaLimits(max_duration_s=3.0))


def test_what_cannot_be_read_has_a_stable_reason(tmp_path):
    video = write_video(tmp_path / "video.mp4", [0, 40])
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("nothing but words")
    (tmp_path / "concat.mp4").write_text(f"ffconcat version 1.0\nfile {video}\n")
    (tmp_path / "list.mp4").write_text(f"#EXTM3U\n#EXTINF:1,\n{video}\n#EXT-X-ENDLIST\n")
    (tmp_path / "head.mp4").write_bytes(video.read_bytes()[:100])
    assert reason(tmp_path / "missing.mp4") == "no_media"
    assert reason(tmp_path) == "no_media"
    assert reason(Path(f"concat:{video}")) == "no_media"
    assert reason(tmp_path / "empty.mp4") == "empty"
    for name in ("text.mp4", "concat.mp4", "list.mp4", "head.mp4"):
        assert reason(tmp_path / name) == "not_media", name
    tone = write_wav(tmp_path / "tone.wav", np.zeros((1, 8000)), 8000)
    assert reason(tone) == "no_video"


def test_limits(tmp_path):
    path = write_video(tmp_path / "a.mp4", [0, 40, 80, 5000])
    assert reason(path, limits=MediaLimits(max_pixels=64 * 48 - 1)) == "too_large"
    assert reason(path, limits=MediaLimits(max_frames=3)) == "too_long"
    assert reason(path, limits=MediaLimits(max_duration_s=4.0)) == "too_long"
    assert len(read(path, limits=MediaLimits(64 * 48, 4, 5.0))[0]) == 4
    wav = write_wav(tmp_path / "a.wav", np.zeros((1, 8000)), 8000)
    with pytest.raises(MediaError, match=r"^too_long"):
        read_waveform(wav, limits=MediaLimits(max_duration_s=0.5))


@pytest.mark.parametrize(("rate_hz", "channels"), [(16000, 1), (8000, 2), (44100, 2), (48000, 6)])
def test_sound_is_the_mean_of_the_channels_at_the_wanted_rate(tmp_path, rate_hz, channels):
    t = np.arange(rate_hz) / rate_hz
    tones = [0.1 * (c + 1) * np.sin(2 * np.pi * 300 * t) for c in range(channels)]
    wave = read_waveform(write_wav(tmp_path / "a.wav", np.stack(tones), rate_hz))
    assert isinstance(wave, Waveform) and wave.samples_N.dtype == np.float32
    assert (wave.rate_hz, wave.start_s, wave.note) == (16000, 0.0, None)
    assert abs(len(wave.samples_N) - 16000) <= 1
    expected = 0.1 * (channels + 1) / 2 * np.sin(2 * np.pi * 300 * np.arange(15000) / 16000)
    # the first and last milliseconds hold the resampling filter's ends
    assert np.abs(wave.samples_N[200:14800] - expected[200:14800]).max() < 2e-3


def test_sound_keeps_its_place_beside_the_picture(tmp_path):
    path = write_video(tmp_path / "a.mkv", [40 * i for i in range(50)], tone=(16000, 2, 0.75, 1.5))
    whole = read_waveform(path)
    assert whole is not None and whole.start_s == pytest.approx(0.75, abs=1e-3)
    assert len(whole.samples_N) == 12000
    part = read_waveform(path, start_s=1.0, end_s=1.25)
    assert part is not None and (part.start_s, len(part.samples_N)) == (1.0, 4000)
    np.testing.assert_array_equal(part.samples_N, whole.samples_N[4000:8000])
    early = read_waveform(path, start_s=0.0, end_s=1.0)
    assert early is not None and (early.start_s, len(early.samples_N)) == (0.75, 4000)
    late = read_waveform(path, start_s=1.75)
    assert late is not None and len(late.samples_N) == 0


def test_no_sound_stream_is_none_and_no_media_is_an_error(tmp_path):
    assert read_waveform(write_video(tmp_path / "a.mp4", [0, 40])) is None
    with pytest.raises(MediaError, match=r"^no_media"):
        read_waveform(tmp_path / "missing.wav")


def test_hole_between_time_stamps_becomes_silence(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=16000, layout="mono")
        for start in (0, 16000):  # half a second of sound, half a second of nothing, again
            samples = np.full((1, 8000), 8000, np.int16)
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 16000, start, Fraction(1, 16000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    wave = read_waveform(path)
    assert wave is not None and len(wave.samples_N) == 24000
    assert not wave.samples_N[8000:16000].any()
    assert (wave.samples_N[:8000] > 0.2).all() and (wave.samples_N[16000:] > 0.2).all()


def test_flipped_bytes_end_in_frames_or_a_reason(tmp_path):
    path = write_video(tmp_path / "a.mp4", [40 * i for i in range(10)], tone=(8000, 1, 0.0, 0.4))
    data = np.frombuffer(path.read_bytes(), np.uint8)
    generator = np.random.default_rng(0)
    for trial in range(60):
        changed = data.copy()
        at = generator.integers(0, len(data), 12)
        changed[at] = generator.integers(0, 256, 12)
        broken = tmp_path / f"{trial}.mp4"
        broken.write_bytes(changed.tobytes())
        try:
            times_s, _, _ = read(broken)
        except MediaError as error:
            assert str(error).split(":")[0] in {
                *("not_media", "no_video", "no_decoder", "no_frames", "no_clock"),
                *("decode_failed", "too_large", "too_long"),
            }
        else:
            assert times_s and np.all(np.diff(times_s) > 0)


def test_imports_stay_small_for_a_child_process():
    code = "import sys, erray.media; print({'torch', 'ray', 'mlflow', 'pyarrow'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.skipif(not MANIFEST, reason="the folder shared/clips with real media is missing")
@pytest.mark.parametrize("name", sorted(MANIFEST))
def test_real_media_as_measured(name):
    facts = MANIFEST[name]
    video, audio = facts.get("video"), facts.get("audio")
    wave = read_waveform(CLIPS / name)
    assert (wave is None) == (audio is None)
    if wave is not None:
        assert len(wave.samples_N) / 16000 == pytest.approx(audio["decoded_s"], abs=0.02)
    if video is None or video["first_pts_s"] is None:
        assert reason(CLIPS / name) == "no_video"
        return
    times_s, images, note = read(CLIPS / name)
    assert len(times_s) == video["frames_decoded"]
    assert times_s[0] == pytest.approx(video["first_pts_s"], abs=1e-3)
    width, height = map(int, video["size"].split("x"))
    if video["rotation_deg"][0] % 180:
        width, height = height, width
    assert {x.shape for x in images} == {(height, width, 3)}
    assert note == ("truncated 28/50" if name == "decord_corrupted.mp4" else None)


@pytest.mark.skipif(not MANIFEST, reason="the folder shared/clips with real media is missing")
@pytest.mark.parametrize(
    "name", ["moviepy_chaplin.mp4", "pyfeat_face_noface.mov", "moviepy_no_duration.webm"]
)
def test_span_of_real_media_equals_the_filtered_whole(name):
    whole = list(VideoReader(CLIPS / name))
    part = list(VideoReader(CLIPS / name, start_s=2.2, end_s=3.1))
    expected = [(t, x) for t, x in whole if 2.2 <= t < 3.1]
    assert [t for t, _ in part] == [t for t, _ in expected]
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(part, expected, strict=True))
