"""The synthetic voice: pitch, energy and tempo differ as the emotions' table says."""

import numpy as np
import pytest

from erray.demo.voice import PROSODY, Speaker, draw_speaker, speak

RATE_HZ = 16_000
SPEAKER = Speaker(pitch_hz=190.0, formant_scale=1.08)


def _voice(emotion: str, seed: int = 0, duration_s: float = 3.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    num_samples = round(duration_s * RATE_HZ)
    return speak(rng, emotion, SPEAKER, num_samples=num_samples, sample_rate_hz=RATE_HZ)


def _pitch_hz(waveform: np.ndarray) -> float:
    """Median pitch from the autocorrelation of 50 ms frames: knows nothing of the synthesis."""
    pitches = []
    for start in range(0, len(waveform) - 800, 800):
        frame = waveform[start : start + 800] - waveform[start : start + 800].mean()
        if np.abs(frame).max() < 0.2 * np.abs(waveform).max():
            continue
        correlation = np.correlate(frame, frame, "full")[799:]
        lag = 30 + int(np.argmax(correlation[30:200]))
        pitches.append(RATE_HZ / lag)
    return float(np.median(pitches))


@pytest.mark.parametrize("emotion", PROSODY)
def test_waveform_is_finite_bounded_and_as_long_as_asked(emotion: str) -> None:
    waveform = _voice(emotion)
    assert waveform.dtype == np.float32
    assert waveform.shape == (48_000,)
    assert np.isfinite(waveform).all()
    assert np.abs(waveform).max() <= 1
    assert np.mean(np.abs(waveform) > 0.999) < 0.001, "clipping would be a class of its own"


def test_same_random_state_same_voice() -> None:
    assert np.array_equal(_voice("fear", 4), _voice("fear", 4))
    assert not np.array_equal(_voice("fear", 4), _voice("fear", 5))


def test_pitch_follows_the_emotion() -> None:
    measured = {emotion: _pitch_hz(_voice(emotion)) for emotion in ("fear", "sadness", "anger")}
    assert measured["fear"] > 1.25 * measured["anger"]
    assert measured["sadness"] < 0.95 * measured["anger"]
    assert measured["sadness"] == pytest.approx(190 * PROSODY["sadness"].pitch, rel=0.15)


def test_energy_follows_the_emotion() -> None:
    levels_db = {e: 20 * np.log10(np.sqrt(np.mean(_voice(e) ** 2))) for e in PROSODY}
    assert max(levels_db, key=lambda e: levels_db[e]) == "anger"
    assert min(levels_db, key=lambda e: levels_db[e]) == "sadness"
    assert levels_db["anger"] - levels_db["sadness"] == pytest.approx(17, abs=2.5)


def test_tempo_follows_the_emotion() -> None:
    """Speech has a dip of energy between syllables: count the dips."""

    def num_syllables(emotion: str) -> int:
        energy = np.convolve(_voice(emotion) ** 2, np.hanning(1920), "same")[::80]
        middle = energy[1:-1]
        peaks = (middle > energy[:-2]) & (middle >= energy[2:]) & (middle > 0.1 * energy.max())
        return int(peaks.sum())

    assert num_syllables("fear") > 1.5 * num_syllables("sadness")


def test_speakers_differ_but_stay_human() -> None:
    speakers = [draw_speaker(np.random.default_rng(seed)) for seed in range(50)]
    assert len({s.pitch_hz for s in speakers}) == 50
    assert all(150 < s.pitch_hz < 250 and 0.9 < s.formant_scale < 1.25 for s in speakers)
