"""A synthetic voice: a source of glottal pulses, vowel formants, and an emotion's way of speaking.

Source and filter are the classical ones (Rosenberg 1971, pulse shape C; Fant 1960, a product
of formant resonances). How an emotion changes pitch, energy, tempo and effort follows the review of
Scherer (2003), exaggerated so that a few seconds are enough to hear it.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Formant centres of an adult's vowels /a e i o u/ (Hz); bandwidths below are shared.
_VOWELS_HZ = ((730, 1190, 2540), (550, 1880, 2550), (310, 2390, 3010), (540, 870, 2410),
              (340, 940, 2300))  # fmt: skip
_BANDWIDTHS_HZ = (80.0, 110.0, 170.0)


@dataclass(frozen=True)
class Prosody:
    """How one emotion is spoken.

    pitch: factor on the speaker's pitch. pitch_range: depth of the accents, in octaves.
    slope: octaves from the first to the last moment of the utterance. syllables_hz: tempo.
    level_db: loudness against a calm voice. open_quotient: share of a period with open glottis;
    small is pressed and bright. breath: noise against voice. tremor: pitch shake in octaves at
    tremor_hz. creak: depth of the alternation between neighbouring periods.
    """

    pitch: float
    pitch_range: float
    slope: float
    syllables_hz: float
    level_db: float
    open_quotient: float
    breath: float = 0.02
    tremor: float = 0.0
    tremor_hz: float = 9.0
    creak: float = 0.0


PROSODY: dict[str, Prosody] = {
    "happiness": Prosody(1.35, 0.45, 0.0, 5.4, 3.0, 0.42),
    "surprise": Prosody(1.45, 0.20, 0.9, 3.0, 1.0, 0.70, breath=0.08),
    "fear": Prosody(1.75, 0.10, 0.1, 6.2, -2.0, 0.70, breath=0.15, tremor=0.10),
    "anger": Prosody(1.10, 0.35, -0.1, 5.2, 8.0, 0.30),
    "disgust": Prosody(0.75, 0.20, -0.35, 2.8, -1.0, 0.45, creak=0.6),
    "sadness": Prosody(0.85, 0.08, -0.25, 2.2, -9.0, 0.90, breath=0.06),
}


@dataclass(frozen=True)
class Speaker:
    """Voice of a group of clips: base pitch, and formants against the average adult's."""

    pitch_hz: float
    formant_scale: float


def draw_speaker(rng: np.random.Generator) -> Speaker:
    return Speaker(pitch_hz=rng.uniform(175, 205), formant_scale=rng.uniform(1.02, 1.14))


def _vary(rng: np.random.Generator, value: float) -> float:
    """A value within 6 %: nobody speaks twice in the same way."""
    return value * rng.uniform(0.94, 1.06)


def _syllable_edges(
    rng: np.random.Generator, prosody: Prosody, num_samples: int, sample_rate_hz: int
) -> NDArray[np.int64]:
    """Sample positions at which syllables begin, and the end of the last one."""
    lead_s, tail_s = rng.uniform(0.08, 0.2), rng.uniform(0.08, 0.2)
    spoken_s = num_samples / sample_rate_hz - lead_s - tail_s
    num_syllables = max(2, round(spoken_s * _vary(rng, prosody.syllables_hz)))
    lengths = rng.uniform(0.75, 1.25, num_syllables)
    edges_s = lead_s + spoken_s * np.concatenate([[0], np.cumsum(lengths)]) / lengths.sum()
    return np.round(edges_s * sample_rate_hz).astype(np.int64)


def _pitch(
    rng: np.random.Generator, prosody: Prosody, speaker: Speaker, edges: NDArray[np.int64],
    times_s: Floats,
) -> Floats:  # fmt: skip
    """Fundamental frequency (Hz) of every sample: an accent per syllable on a sloping line."""
    rate_hz = 1 / (times_s[1] - times_s[0])
    middles_s = (edges[:-1] + edges[1:]) / 2 / rate_hz
    accents = prosody.pitch_range * rng.uniform(-1, 1, len(middles_s))
    octaves = np.interp(times_s, middles_s, accents)
    progress = np.clip((times_s - edges[0] / rate_hz) * rate_hz / (edges[-1] - edges[0]), 0, 1)
    # A question rises late, a lament falls evenly: squaring keeps the start of both calm.
    octaves += prosody.slope * (progress**2 - 1 / 3)
    octaves += prosody.tremor * np.sin(2 * np.pi * prosody.tremor_hz * times_s)
    return speaker.pitch_hz * _vary(rng, prosody.pitch) * 2**octaves


def _glottal_flow(
    rng: np.random.Generator, prosody: Prosody, pitch_hz: Floats, sample_rate_hz: int
) -> Floats:
    """Derivative of Rosenberg's pulse C at the given pitch, with creak and breath."""
    cycles = np.cumsum(pitch_hz) / sample_rate_hz
    phase, period = cycles % 1, np.floor(cycles).astype(np.int64)
    opening = 0.66 * _vary(rng, prosody.open_quotient)
    closing = opening / 2
    rise = 0.5 * (1 - np.cos(np.pi * phase / opening))
    fall = np.cos(0.5 * np.pi * (phase - opening) / closing)
    flow = np.where(phase < opening, rise, np.where(phase < opening + closing, fall, 0.0))
    flow = flow * (1 - prosody.creak * (period % 2))
    noise = prosody.breath * rng.standard_normal(len(flow)) * (0.3 + flow)
    return np.diff(flow, prepend=0.0) + 0.1 * noise


def _vocal_tract(
    frequencies_hz: NDArray[np.floating], formants_hz: tuple[float, ...], speaker: Speaker
) -> NDArray[np.complex128]:
    """Transfer function of a vowel: a product of resonances with gain 1 at 0 Hz."""
    response = np.ones(len(frequencies_hz), dtype=np.complex128)
    for formant_hz, bandwidth_hz in zip(formants_hz, _BANDWIDTHS_HZ, strict=True):
        ratio = frequencies_hz / (formant_hz * speaker.formant_scale)
        response /= 1 - ratio**2 + 1j * ratio * bandwidth_hz / formant_hz
    return response


def _speak_vowels(
    rng: np.random.Generator, source: Floats, edges: NDArray[np.int64], speaker: Speaker,
    sample_rate_hz: int,
) -> Floats:  # fmt: skip
    """Filter the source, one random vowel per syllable."""
    voiced = np.zeros_like(source)
    for begin, end in pairwise(edges):
        # Twice the length: the tail of the filter does not wrap around into the beginning.
        padded = 2 * (end - begin)
        frequencies_hz = np.fft.rfftfreq(padded, 1 / sample_rate_hz)
        formants_hz = _VOWELS_HZ[rng.integers(len(_VOWELS_HZ))]
        spectrum = np.fft.rfft(source[begin:end], padded)
        spectrum *= _vocal_tract(frequencies_hz, formants_hz, speaker)
        vowel = np.fft.irfft(spectrum, padded)[: end - begin]
        # Consonants are dips of energy between vowels.
        envelope = np.sin(np.linspace(0, np.pi, end - begin)) ** 0.6
        voiced[begin:end] = vowel * envelope * rng.uniform(0.7, 1.0)
    return voiced


def speak(
    rng: np.random.Generator, emotion: str, speaker: Speaker, *, num_samples: int,
    sample_rate_hz: int,
) -> NDArray[np.float32]:  # fmt: skip
    """A waveform [num_samples] in [-1, 1] that speaks the whole time as `emotion` does."""
    prosody = PROSODY[emotion]
    times_s = np.arange(num_samples) / sample_rate_hz
    edges = _syllable_edges(rng, prosody, num_samples, sample_rate_hz)
    pitch_hz = _pitch(rng, prosody, speaker, edges, times_s)
    source = _glottal_flow(rng, prosody, pitch_hz, sample_rate_hz)
    voiced = _speak_vowels(rng, source, edges, speaker, sample_rate_hz)
    level = 0.06 * 10 ** ((prosody.level_db + rng.uniform(-1, 1)) / 20)
    voiced *= level / np.sqrt(np.mean(voiced**2))
    room = 0.0005 * rng.standard_normal(num_samples)
    return np.clip(voiced + room, -1, 1).astype(np.float32)
