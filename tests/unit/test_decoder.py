"""The decoder's child process: same frames as without it, and what ends it ends one medium only."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from erray.errors import MediaError
from erray.media import Decoder, MediaLimits, VideoReader, read_waveform
from tests.unit.media_files import cut_file, write_video, write_wav

CLIPS = Path(__file__).parents[3] / "shared" / "clips"
MEDIA = {".mp4", ".mov", ".mkv", ".webm", ".wav", ".flac", ".mp3"}


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    """100 frames, more than the ring holds, and sound."""
    path = tmp_path_factory.mktemp("film") / "a.mkv"
    return write_video(path, [40 * i for i in range(100)], tone=(16000, 1, 0.0, 4.0))


@pytest.fixture(scope="module")
def decoder():
    with Decoder() as decoder:
        yield decoder


def pid_of(decoder: Decoder) -> int:
    assert decoder._child is not None
    return decoder._child._process.pid


def read_both(decoder: Decoder, path: Path, **span):
    """Frames, note or reason: from the child, and from this process."""
    results = []
    for frames in (decoder.frames(path, **span), VideoReader(path, **span)):
        try:
            found = list(frames)
        except MediaError as error:
            results.append(([], str(error)))
        else:
            results.append((found, frames.note))
    return results


def assert_same(decoder: Decoder, path: Path, **span) -> None:
    (a, a_note), (b, b_note) = read_both(decoder, path, **span)
    assert a_note == b_note
    assert [t for t, _ in a] == [t for t, _ in b]
    assert all(np.array_equal(x, y) for (_, x), (_, y) in zip(a, b, strict=True))


def assert_same_sound(decoder: Decoder, path: Path, **span) -> None:
    a, b = decoder.waveform(path, **span), read_waveform(path, **span)
    assert (a is None) == (b is None)
    if a is not None and b is not None:
        np.testing.assert_array_equal(a.samples_N, b.samples_N)
        assert (a.rate_hz, a.start_s, a.note) == (b.rate_hz, b.start_s, b.note)


@pytest.mark.parametrize("span", [{}, {"start_s": 1.0, "end_s": 1.5}, {"start_s": 50.0}])
def test_frames_and_sound_are_those_of_this_process(decoder, film, span):
    assert_same(decoder, film, **span)
    assert_same_sound(decoder, film, **span)


def test_broken_media_give_the_same_reasons_and_notes(decoder, tmp_path):
    whole = write_video(
        tmp_path / "whole.mp4",
        [40 * i for i in range(50)],
        options={"g": "1"},
        container_options={"movflags": "faststart"},
    )
    cut_file(tmp_path / "cut.mp4", whole)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("words")
    write_wav(tmp_path / "tone.wav", np.zeros((1, 8000)), 8000)
    for name in ("cut.mp4", "empty.mp4", "text.mp4", "tone.wav", "missing.mp4"):
        assert_same(decoder, tmp_path / name)
    assert decoder.probe(tmp_path / "tone.wav").num_audio == 1
    with pytest.raises(MediaError, match=r"^not_media"):
        decoder.probe(tmp_path / "text.mp4")


def test_one_child_serves_all_and_a_name_may_hold_anything(decoder, film, tmp_path):
    odd = tmp_path / 'a "b" ü\n\udcff.mkv'
    odd.write_bytes(film.read_bytes())
    first = pid_of(decoder) if decoder._child else None
    assert len(list(decoder.frames(odd))) == 100
    assert decoder.probe(odd).duration_s == pytest.approx(4.0, abs=0.1)
    assert first is None or pid_of(decoder) == first


def test_images_stay_as_they_are_when_later_ones_come(decoder, film):
    kept = [image for _, image in decoder.frames(film)]
    assert all(np.array_equal(x, y) for x, (_, y) in zip(kept, VideoReader(film), strict=True))


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGTERM])
def test_a_crash_costs_one_medium(film, number):
    with Decoder() as decoder:
        frames = iter(decoder.frames(film))
        next(frames)
        os.kill(pid_of(decoder), number)
        with pytest.raises(MediaError, match=rf"^decoder_died: signal {number.name}"):
            list(frames)
        assert len(list(decoder.frames(film))) == 100, "the next medium gets a new child"


def test_a_stall_ends_at_the_limit(film):
    with Decoder(MediaLimits(stall_s=0.5)) as decoder:
        frames = iter(decoder.frames(film))
        next(frames)
        os.kill(pid_of(decoder), signal.SIGSTOP)
        start_s = time.monotonic()
        with pytest.raises(MediaError, match=r"^timeout: decoding came no further than"):
            list(frames)
        assert time.monotonic() - start_s < 5
        assert len(list(decoder.frames(film))) == 100


def test_a_medium_that_goes_on_too_slowly_ends_at_the_limit(film):
    """Every frame comes within the stall limit, but the whole would take for ever."""
    with Decoder(MediaLimits(stall_s=0.6, min_speed=10.0)) as decoder:
        frames = iter(decoder.frames(film))
        next(frames)
        over = threading.Event()
        pid = pid_of(decoder)

        def hold_back() -> None:
            while not over.wait(0.001):
                with suppress(ProcessLookupError):  # ended by the decoder, as it should be
                    os.kill(pid, signal.SIGSTOP)
                    time.sleep(0.3)
                    os.kill(pid, signal.SIGCONT)

        thread = threading.Thread(target=hold_back)
        thread.start()
        try:
            with pytest.raises(MediaError, match=r"^timeout"):
                list(frames)
        finally:
            over.set()
            thread.join()


def test_a_slow_reader_is_no_stall(film):
    with Decoder(MediaLimits(stall_s=1.0)) as decoder:
        for count, _ in enumerate(decoder.frames(film)):
            if count == 20:
                time.sleep(2.0)
        assert count == 99


def test_memory_is_limited_and_the_next_medium_is_read(tmp_path, film):
    large = write_video(
        tmp_path / "large.mkv", [40 * i for i in range(3)], size_px=(2560, 1440), codec="ffv1"
    )
    with Decoder(MediaLimits(max_memory_bytes=90 * 1024**2)) as decoder:
        with pytest.raises(MediaError, match=r"^no_memory"):
            list(decoder.frames(large))
        assert len(list(decoder.frames(film))) == 100
    with Decoder() as decoder:
        assert len(list(decoder.frames(large))) == 3


def test_limits_reject_and_the_child_lives_on(film):
    with Decoder(MediaLimits(max_frames=30)) as decoder:
        found, frames = 0, decoder.frames(film)
        with pytest.raises(MediaError, match=r"^too_long"):
            for _ in frames:
                found += 1
        assert found == 30
        before = pid_of(decoder)
        assert decoder.probe(film).num_video == 1 and pid_of(decoder) == before


def test_frames_that_nobody_waits_for_end_the_child(film):
    with Decoder() as decoder:
        frames = iter(decoder.frames(film))
        next(frames)
        pid = pid_of(decoder)
        frames.close()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert len(list(decoder.frames(film))) == 100


def test_a_child_ends_with_its_parent(film):
    decoder = Decoder()
    decoder.probe(film)
    pid = pid_of(decoder)
    decoder.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_child_sees_no_secrets_and_may_open_one_file_only(film, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    with Decoder() as decoder:
        decoder.probe(film)
        process = Path("/proc", str(pid_of(decoder)))
        assert b"canary" not in (process / "environ").read_bytes()
        limits = (process / "limits").read_text()
        most = int(limits.split("Max open files")[1].split()[0])
        open_files = {int(entry.name) for entry in (process / "fd").iterdir()}
        assert len({*range(most)} - open_files) == 1
        assert "Max file size             0" in limits


@pytest.mark.skipif(not CLIPS.is_dir(), reason="the folder shared/clips with real media is missing")
def test_real_media_are_the_same_through_the_child(decoder):
    paths = sorted(p for p in CLIPS.iterdir() if p.suffix in MEDIA and p.stat().st_size < 500_000)
    assert len(paths) > 10
    for path in paths:
        assert_same(decoder, path, end_s=1.0)
        assert_same_sound(decoder, path, end_s=1.0)
