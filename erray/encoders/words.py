"""Where words sit on a clip's clock: what every text encoder does with words and their times.

A unit is what an encoder has a vector for: a word, or a piece of one. Units whose times are known
sit where they are spoken; without times they are spread evenly over the clip, as the published code
does it: contiguous blocks whose sizes differ by at most one. Unlike there no unit is lost: of more
units than ticks, neighbours share a tick and count equally in its mean.

    ticks            0  1  2  3  4  5  6  7  8  9
    with times       .  hi hi .  .  .  .  .  there there
    without          hi hi hi hi hi there ............
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from erray.records import Stream, TextSample, Word


def spread(num_units: int, num_ticks: int) -> list[slice]:
    """Return the ticks of every unit without times, in order; together they cover all ticks.

    Blocks of ticks, longer ones first. Of more units than ticks each gets one tick, and the numbers
    of units on a tick differ by at most one. Without ticks every block is empty.
    """
    if num_units <= num_ticks:
        short, num_long = divmod(num_ticks, max(1, num_units))
        sizes = np.full(num_units, short)
        sizes[:num_long] += 1
        ends = np.cumsum(sizes).tolist()
        return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
    firsts = [unit * num_ticks // num_units for unit in range(num_units)]
    return [slice(first, min(first + 1, num_ticks)) for first in firsts]


def share_out(num_units: int, ticks: slice) -> list[slice]:
    """Return the ticks of every piece of a word that is spoken during ``ticks``, in order."""
    within = spread(num_units, ticks.stop - ticks.start)
    return [slice(ticks.start + p.start, ticks.start + p.stop) for p in within]


def ticks_of_word(word: Word, times_s_T: NDArray[np.float64]) -> slice:
    """Return the ticks at which a word is spoken: those in [start_s, end_s).

    A word that falls between two ticks sits on the one before it, a word wholly before the first
    tick on the first one. Sound that goes on after the last tick has its words on the last.
    """
    first = int(np.searchsorted(times_s_T, word.start_s))
    last = int(np.searchsorted(times_s_T, word.end_s))
    if last > first:
        return slice(first, last)
    nearest = max(first, 1)
    return slice(nearest - 1, min(nearest, len(times_s_T)))


def spoken_words(sample: TextSample) -> list[Word]:
    """Return the words with times that have letters; none where times are unknown."""
    return [word for word in sample.words or () if word.text.strip()]


def text_of(sample: TextSample) -> str:
    """Return what is said as one text, so that a model reads words in context.

    The words with times, a space between; without any the transcript, empty where it is unknown.
    """
    words = [word.text.strip() for word in spoken_words(sample)]
    return " ".join(words) or (sample.transcript or "").strip()


def place(values_ND: NDArray[np.floating], places: Sequence[slice], num_ticks: int) -> Stream:
    """Return the stream of N units at their ticks: the mean where several share one.

    A tick without a unit is absent.
    """
    sums_TD = np.zeros((num_ticks, values_ND.shape[1]))
    counts_T = np.zeros(num_ticks)
    for value_D, ticks in zip(values_ND, places, strict=True):
        sums_TD[ticks] += value_D
        counts_T[ticks] += 1
    means_TD = sums_TD / np.maximum(counts_T, 1.0)[:, None]
    return Stream(means_TD.astype(np.float32), counts_T > 0)
