import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erray.encoders import logmel
from erray.encoders.logmel import LogmelConfig, LogmelEncoder, log_mel, mel_weights
from erray.errors import UserError
from tests.unit.encoders.voice_samples import sample_of

ASSET = Path(__file__).parents[2] / "assets" / "logmel_reference.npz"


def chirp() -> np.ndarray:
    """Three seconds of a rising tone in a little noise; the numbers to match are of this input."""
    t = np.arange(48000) / 16000
    noise = np.random.default_rng(zlib.crc32(b"waveform")).standard_normal(48000)
    return 0.5 * np.sin(2 * np.pi * (200 * t + 300 * t * t)) + 0.05 * noise


@pytest.mark.reference
def test_parity_with_the_published_front_end():
    with np.load(ASSET) as reference:
        assert np.abs(log_mel(chirp()) - reference["chirp_logmel"]).max() <= 1e-6


@pytest.mark.reference
def test_parity_with_the_values_of_the_vggish_smoke_test():
    """The first second of its 1 kHz tone; 36 values of the first example, as printed."""
    with np.load(ASSET) as reference:
        rows = log_mel(reference["smoke_waveform"])[reference["printed_rows"]]
        found = rows[:, reference["printed_cols"]]
        assert np.abs(found - reference["printed_values"]).max() <= 1e-7


def test_rows_follow_the_definition_term_by_term():
    """One row computed with sums and a slow transform instead of matrices and an FFT."""
    waveform = chirp()[:2000]
    row, n, k = 5, np.arange(400), np.arange(257)[:, None]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * n / 400)
    piece = waveform[row * 160 : row * 160 + 400] * window
    magnitude = np.abs((piece * np.exp(-2j * np.pi * k * n / 512)).sum(axis=1))
    mel_of = 1127 * np.log(1 + np.arange(257) * 16000 / 512 / 700)
    edges = np.linspace(1127 * np.log(1 + 125 / 700), 1127 * np.log(1 + 7500 / 700), 66)
    expected = []
    for band in range(64):
        triangle = np.interp(mel_of, edges[band : band + 3], [0.0, 1.0, 0.0])
        expected.append(np.log(magnitude @ triangle + 0.01))
    np.testing.assert_allclose(log_mel(waveform)[row], expected, rtol=0, atol=1e-9)
    assert mel_weights().shape == (257, 64)


@pytest.mark.parametrize(
    ("num_samples", "num_rows"), [(0, 0), (399, 0), (400, 1), (559, 1), (560, 2)]
)
def test_number_of_rows(num_samples, num_rows):
    assert log_mel(np.zeros(num_samples, np.float32)).shape == (num_rows, 64)
    assert np.all(log_mel(np.zeros(num_samples)) == np.log(0.01))


def test_chunks_change_nothing(monkeypatch):
    whole = log_mel(chirp())
    monkeypatch.setattr(logmel, "ROWS_PER_CHUNK", 7)
    np.testing.assert_allclose(log_mel(chirp()), whole, rtol=0, atol=1e-12)


def test_another_rate_is_refused():
    with pytest.raises(ValueError, match="found 8000 Hz"):
        log_mel(np.zeros(8000), 8000)


def test_no_sound_means_absent():
    stream = LogmelEncoder()([sample_of(np.arange(5) / 25, None)])[0]
    assert not stream.present_T.any() and stream.values_TD.shape == (5, 128)
    assert not LogmelEncoder()([sample_of([0.0, 0.1], np.zeros(0))])[0].present_T.any()


def test_present_exactly_where_sound_is():
    times_s = np.arange(100) / 25
    stream = LogmelEncoder()([sample_of(times_s, np.ones(16000), start_s=1.0)])[0]
    np.testing.assert_array_equal(stream.present_T, (times_s >= 1.0) & (times_s < 2.0))
    assert not stream.values_TD[~stream.present_T].any()


def test_a_tick_holds_the_mean_and_deviation_of_the_rows_around_it():
    config = LogmelConfig(pool_s=0.2)
    stream = LogmelEncoder(config)([sample_of([10.5, 11.0, 12.9], chirp(), start_s=10.0)])[0]
    rows = log_mel(chirp().astype(np.float32))
    for tick, time_s in enumerate([10.5, 11.0, 12.9]):
        centres_s = 10.0 + (np.arange(298) * 160 + 200) / 16000
        near = rows[np.abs(centres_s - time_s) <= 0.1]
        np.testing.assert_allclose(stream.values_TD[tick, :64], near.mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(stream.values_TD[tick, 64:], near.std(axis=0), atol=1e-5)


def test_a_burst_shows_at_its_own_time():
    waveform = np.zeros(32000)
    waveform[16000:16800] = 0.5 * np.sin(np.arange(800))
    times_s = np.arange(50) / 25
    encoder = LogmelEncoder(LogmelConfig(pool_s=0.1, deviation=False))
    stream = encoder([sample_of(times_s, waveform)])[0]
    assert stream.values_TD.shape == (50, 64) and encoder.width == 64
    loud = np.flatnonzero(stream.values_TD.max(axis=1) > np.log(0.01) + 0.5)
    assert times_s[loud].min() >= 0.92 and times_s[loud].max() <= 1.12
    assert abs(times_s[loud].mean() - 1.025) < 0.03


@settings(max_examples=30, deadline=None)
@given(st.floats(-5, 5), st.integers(0, 8000), st.integers(0, 12))
def test_any_place_of_the_sound_gives_a_clean_stream(start_s, num_samples, num_ticks):
    sample = sample_of(np.arange(num_ticks) / 5, np.ones(num_samples), start_s)
    stream = LogmelEncoder()([sample])[0]
    assert np.isfinite(stream.values_TD).all()
    assert not stream.values_TD[~stream.present_T].any()


def test_pool_of_no_length_is_refused():
    with pytest.raises(UserError, match="pool_s"):
        LogmelConfig(pool_s=0.0)
