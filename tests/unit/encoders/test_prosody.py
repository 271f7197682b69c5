"""Sounds whose pitch, level, tilt and tempo are known, and two speakers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import freqz, lfilter

from erray.encoders.pitch import track_pitch
from erray.encoders.prosody import (
    COLUMNS,
    OCTAVES,
    ProsodyConfig,
    ProsodyEncoder,
    find_onsets,
    levels_and_tilts,
    measure,
)
from erray.errors import UserError
from erray.media import read_waveform
from tests.unit.encoders.voice_samples import noise, sample_of, voice
from tests.unit.test_media import CLIPS


def columns(stream):
    """Column name to values [T]."""
    return dict(zip(COLUMNS, stream.values_TD.T, strict=True))


def pitch_of(waveform):
    return track_pitch(waveform, min_hz=65.0, max_hz=600.0)


@pytest.mark.parametrize("hz", [70, 110, 123.4, 220, 440, 590])
@pytest.mark.parametrize("harmonics", [1, 5])
def test_pitch_of_a_tone(hz, harmonics):
    pitch_hz, periodicity = pitch_of(voice(hz, 1.0, harmonics) + 0.001 * noise(1.0))
    inner = slice(4, -4)
    assert np.abs(12 * np.log2(pitch_hz[inner] / hz)).max() < 0.1
    assert periodicity[inner].min() > 0.95


def test_pitch_without_its_fundamental():
    phase = 2 * np.pi * 150 * np.arange(16000) / 16000
    pitch_hz, _ = pitch_of(0.1 * (np.sin(2 * phase) + np.sin(3 * phase) + np.sin(4 * phase)))
    assert np.abs(pitch_hz[4:-4] - 150).max() < 1


def test_pitch_of_a_glide_is_at_its_own_time():
    hz = 100 * 2 ** (np.arange(32000) / 32000)  # an octave in 2 s
    pitch_hz, _ = pitch_of(voice(hz, 2.0))
    inner = np.arange(4, 196)
    assert np.abs(12 * np.log2(pitch_hz[inner] / hz[inner * 160])).max() < 0.15


def test_noise_and_silence_have_no_pitch():
    for waveform in (noise(2.0), np.zeros(32000), np.full(32000, 0.5)):
        pitch_hz, periodicity = pitch_of(waveform)
        assert len(pitch_hz) == 200 and np.isnan(pitch_hz).mean() > 0.98
        assert periodicity.max() < 0.5


def test_what_is_far_below_the_loudest_is_no_voice():
    loud, soft = voice(200, 1.0), 0.005 * voice(200, 1.0)
    pitch_hz, _ = pitch_of(np.concatenate([loud, soft]))
    assert np.isfinite(pitch_hz[4:96]).all() and np.isnan(pitch_hz[108:]).all()


@pytest.mark.parametrize("pole", [0.0, 0.5, 0.999], ids=["white", "warm", "brown"])
def test_tilt_of_noise_is_that_of_its_filter(pole):
    _, tilt = levels_and_tilts(0.1 * lfilter([1.0], [1.0, -pole], noise(5.0)))
    hz, response = freqz([1.0], [1.0, -pole], worN=8000, fs=16000)
    means = [np.mean(np.abs(response[(hz >= low) & (hz < 2 * low)]) ** 2) for low in OCTAVES]
    expected = np.polyfit(range(len(means)), 10 * np.log10(means), 1)[0]
    assert tilt[5:-5].mean() == pytest.approx(expected, abs=0.4)
    assert (expected == pytest.approx(0, abs=1e-9)) == (pole == 0.0)


def test_level_is_that_of_the_mean_square():
    for amplitude in (1.0, 0.1, 0.001):
        tone = amplitude * np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
        level_db, _ = levels_and_tilts(tone)
        assert level_db[3:-3] == pytest.approx(20 * np.log10(amplitude) - 3.01, abs=0.05)
    level_db, tilt = levels_and_tilts(np.zeros(1600))
    assert len(level_db) == 10 and (level_db == -100).all()
    np.testing.assert_allclose(tilt, 0, atol=1e-9)


@pytest.mark.parametrize("per_second", [2, 4, 6])
def test_onsets_are_counted(per_second):
    beat = np.sin(np.pi * per_second * np.arange(48000) / 16000) ** 2
    found = np.flatnonzero(find_onsets(levels_and_tilts(beat * noise(3.0))[0])) / 100
    expected = (np.arange(3 * per_second) + 0.5) / per_second
    assert len(found) == len(expected) and np.abs(found - expected).max() < 0.06


def test_a_steady_or_a_silent_sound_has_no_tempo():
    assert find_onsets(levels_and_tilts(voice(200, 2.0))[0]).sum() <= 1
    assert not find_onsets(levels_and_tilts(np.zeros(32000))[0]).any()


def test_columns_of_a_glide_then_silence():
    hz = 110 * 2 ** (np.arange(32000) / 32000)
    waveform = np.concatenate([voice(hz, 2.0), np.zeros(32000)])
    stream = ProsodyEncoder()([sample_of(20 + np.arange(0, 5, 0.5), waveform, 20.0)])[0]
    assert stream.present_T.tolist() == [True] * 8 + [False] * 2
    found = columns(stream)
    assert found["pitch_st"][2] == pytest.approx(24 + 6, abs=0.1)  # 110 Hz is 24 above 27.5 Hz
    assert found["pitch_slope_st_per_s"][1:4] == pytest.approx(6.0, abs=0.2)
    # evenly spread over half a second of 6 semitones per second
    assert found["pitch_deviation_st"][1:4] == pytest.approx(3 / 12**0.5, abs=0.05)
    assert found["voiced_fraction"][1:4] == pytest.approx(1.0)
    assert (found["periodicity"][1:4] > 0.95).all()
    assert found["level_db"][1:4] == pytest.approx(
        10 * np.log10(np.mean(waveform[:32000] ** 2)), abs=0.3
    )
    for name in COLUMNS[:5]:
        assert not found[name][5:8].any()
    assert found["level_db"][5:8] == pytest.approx(-100)
    assert not stream.values_TD[8:].any()


def test_speech_like_noise_bursts_have_their_tempo_at_every_inner_tick():
    beat = np.sin(np.pi * 4 * np.arange(80000) / 16000) ** 2
    stream = ProsodyEncoder()([sample_of(np.arange(1, 4, 0.125), beat * noise(5.0))])[0]
    assert columns(stream)["onsets_hz"] == pytest.approx(4.0, abs=0.55)


@settings(max_examples=25, deadline=None)
@given(st.floats(-1, 1), st.integers(0, 4000), st.integers(0, 12), st.integers(0, 9))
def test_any_place_of_the_sound_gives_a_clean_stream(start_s, num_samples, num_ticks, seed):
    waveform = noise(1.0, seed)[:num_samples]
    stream = ProsodyEncoder()([sample_of(np.arange(num_ticks) / 5, waveform, start_s)])[0]
    assert np.isfinite(stream.values_TD).all()
    assert not stream.values_TD[~stream.present_T].any()


def test_no_sound_means_absent():
    stream = ProsodyEncoder()([sample_of([0.0, 0.1], None)])[0]
    assert not stream.present_T.any() and stream.values_TD.shape == (2, len(COLUMNS))


def test_longer_than_a_chunk_changes_nothing():
    """Frames come in chunks of 1024 and more; 25 s of the same voice as 1 s."""
    assert pitch_of(voice(150, 25.0))[0][100:-100] == pytest.approx(150, abs=0.3)


@pytest.mark.skipif(not CLIPS.is_dir(), reason="the folder of shared clips is not there")
@pytest.mark.parametrize("name", ["audio_LJ050-0131.wav", "audio_jfk.flac"])
def test_speakers_have_a_plausible_pitch_and_tempo(name):
    waveform = read_waveform(CLIPS / name, rate_hz=16000).samples_N
    frames = measure(waveform, ProsodyConfig())
    pitch_hz = 27.5 * 2 ** (frames.pitch_st_F / 12)
    low, middle, high = np.nanpercentile(pitch_hz, [5, 50, 95])
    assert 100 < low < 190 and 150 < middle < 260 and 230 < high < 350
    assert 0.4 < np.isfinite(pitch_hz).mean() < 0.8
    # read text has some four syllables per second, a slow public speech about half of that
    assert 1.5 < frames.onset_F.sum() / (len(waveform) / 16000) < 5.5


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"pool_s": 0.0}, "pool_s"),
        ({"tempo_s": 60.0}, "tempo_s"),
        ({"min_pitch_hz": 10.0}, "min_pitch_hz"),
        ({"min_pitch_hz": 300.0, "max_pitch_hz": 200.0}, "found 300.0 and 200.0"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, match):
    with pytest.raises(UserError, match=match):
        ProsodyConfig(**options)


def test_another_rate_is_refused():
    sample = sample_of([0.1], noise(0.5))
    with pytest.raises(ValueError, match="8000 Hz"):
        ProsodyEncoder()([type(sample)(sample.frame_times_s_T, sample.waveform_N, 8000, 0.0)])
