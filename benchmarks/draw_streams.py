"""Draw pitch, log-mel, presence and words of one speech: the picture of docs/encoders.md.

The sound is the beginning of Kennedy's inaugural address of 1961, in the public domain. Its words
were placed by hand on the level of the sound, to about a tenth of a second.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from measure import CLIPS, HERE

from erray.encoders import make_encoder
from erray.encoders.logmel import log_mel, mel_weights
from erray.encoders.prosody import COLUMNS, REFERENCE_HZ
from erray.media import Waveform, read_waveform
from erray.records import Stream, TextSample, VoiceSample, Word

TICKS_PER_S, LENGTH_S = 25.0, 12.0  # a second more than the sound, as if pictures went on
WORDS = tuple(
    Word(text, start_s, end_s)
    for text, start_s, end_s in (
        ("And", 0.32, 0.52),
        ("so", 0.56, 0.98),
        ("my", 1.00, 1.25),
        ("fellow", 1.26, 1.68),
        ("Americans,", 1.70, 2.12),
        ("ask", 3.26, 3.74),
        ("not", 4.00, 4.32),
        ("what", 5.40, 5.56),
        ("your", 5.64, 5.84),
        ("country", 5.94, 6.42),
        ("can", 6.48, 6.68),
        ("do", 6.69, 6.92),
        ("for", 6.99, 7.12),
        ("you,", 7.13, 7.56),
        ("ask", 8.17, 8.56),
        ("what", 8.62, 8.76),
        ("you", 8.88, 9.04),
        ("can", 9.05, 9.18),
        ("do", 9.24, 9.40),
        ("for", 9.44, 9.64),
        ("your", 9.70, 9.84),
        ("country.", 9.85, 10.36),
    )
)
INK, ACCENT, QUIET = "#1f2933", "#c2410c", "#d5dbe1"


def draw(wave: Waveform, target: Path) -> None:
    times_s_T = np.arange(0, LENGTH_S, 1 / TICKS_PER_S)
    voice = VoiceSample(times_s_T, wave.samples_N, wave.rate_hz, wave.start_s)
    transcript = " ".join(word.text for word in WORDS)
    prosody = make_encoder("prosody", {"pool_s": 0.1})([voice])[0]
    presence = {
        "logmel, prosody": make_encoder("logmel", {})([voice])[0],
        "hash, word times": make_encoder("hash", {})([TextSample(times_s_T, None, WORDS)])[0],
        "hash, spread": make_encoder("hash", {})([TextSample(times_s_T, transcript)])[0],
    }
    figure, axes = plt.subplots(
        4, 1, figsize=(12, 7.2), sharex=True, height_ratios=[2.2, 3, 1.5, 1.7], layout="constrained"
    )
    _pitch(axes[0], times_s_T, prosody)
    _mel(axes[1], wave)
    _presence(axes[2], times_s_T, presence)
    _words(axes[3], times_s_T, transcript)
    axes[3].set(xlim=(0, LENGTH_S), xlabel="time in the medium (s)")
    axes[3].set_xticks(np.arange(0, LENGTH_S + 1))
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(target, dpi=110)


def _pitch(axis: Axes, times_s_T: np.ndarray, prosody: Stream) -> None:
    values = dict(zip(COLUMNS, prosody.values_TD.T, strict=True))
    voiced_T = prosody.present_T & (values["voiced_fraction"] > 0.5)
    pitch_hz_T = np.where(voiced_T, REFERENCE_HZ * 2 ** (values["pitch_st"] / 12), np.nan)
    axis.plot(times_s_T, pitch_hz_T, ".", color=ACCENT, markersize=5)
    axis.set(ylabel="pitch (Hz)", yscale="log", ylim=(70, 600), yticks=[100, 200, 400])
    axis.set_yticks([], minor=True)
    axis.set_yticklabels(["100", "200", "400"])
    level = axis.twinx()
    level_db_T = np.where(prosody.present_T, values["level_db"], np.nan)
    level.fill_between(times_s_T, -60, level_db_T, color=QUIET, linewidth=0)
    level.set(ylabel="level (dB)", ylim=(-60, 0), yticks=[-60, -40, -20])
    level.spines[["top", "left"]].set_visible(False)
    axis.set_zorder(level.get_zorder() + 1)
    axis.patch.set_visible(False)


def _mel(axis: Axes, wave: Waveform) -> None:
    rows_RD = log_mel(wave.samples_N, wave.rate_hz)
    edges_s = wave.start_s + np.arange(len(rows_RD) + 1) * 0.01 + 0.0075
    axis.pcolormesh(edges_s, np.arange(rows_RD.shape[1] + 1), rows_RD.T, cmap="magma")
    centres_hz = mel_weights().argmax(axis=0) * 8000 / 256
    shown_hz = np.array([250, 500, 1000, 2000, 4000])
    axis.set_yticks(np.interp(shown_hz, centres_hz, np.arange(len(centres_hz)) + 0.5))
    axis.set_yticklabels([f"{hz}" for hz in shown_hz])
    axis.set(ylabel="log-mel (Hz)")


def _presence(axis: Axes, times_s_T: np.ndarray, streams: dict[str, Stream]) -> None:
    for row, stream in enumerate(streams.values()):
        bars = [(t, 1 / TICKS_PER_S) for t in times_s_T]
        colours = [INK if present else QUIET for present in stream.present_T]
        axis.broken_barh(bars, (row + 0.15, 0.7), facecolors=colours)
    axis.set_yticks(np.arange(len(streams)) + 0.5, list(streams))
    axis.set(ylim=(len(streams), 0))
    axis.tick_params("y", length=0)


def _words(axis: Axes, times_s_T: np.ndarray, transcript: str) -> None:
    """Where each word sits by its times, and where it would be without."""
    texts = transcript.split()
    share_s = LENGTH_S / len(texts)
    for i, word in enumerate(WORDS):
        middle_s = (word.start_s + word.end_s) / 2
        axis.barh(1.75, word.end_s - word.start_s, 0.3, left=word.start_s, color=INK)
        axis.text(
            middle_s,
            2.0,
            word.text,
            rotation=50,
            rotation_mode="anchor",
            fontsize=8,
            va="bottom",
            ha="left",
            color=INK,
        )
        axis.barh(0.35, share_s * 0.94, 0.3, left=i * share_s, color=QUIET)
        axis.text(
            (i + 0.5) * share_s, 0.35, word.text.strip(",."), fontsize=7, va="center", ha="center"
        )
        axis.plot([middle_s, (i + 0.5) * share_s], [1.6, 0.5], color=QUIET, linewidth=0.8)
    axis.set(ylim=(0.1, 3.6), yticks=[0.35, 1.75], yticklabels=["words, spread", "words, by time"])
    axis.tick_params("y", length=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sound", type=Path, default=CLIPS / "audio_jfk.flac")
    parser.add_argument(
        "--out", type=Path, default=HERE.parent / "docs" / "images" / "encoders-speech.png"
    )
    options = parser.parse_args()
    wave = read_waveform(options.sound, rate_hz=16_000)
    if wave is None:
        parser.error(f"{options.sound} has no sound")
    draw(wave, options.out)


if __name__ == "__main__":
    main()
