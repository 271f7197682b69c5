"""Where words sit on a clip's clock: what every text encoder does with words and their times.

A unit is what an encoder has a vector for: a word, or a piece of one. Units whose times are known
sit where they are spoken; without times they are spread evenly over the clip, the first as the
published code does it: contiguous blocks whose sizes differ by at most one.

    ticks            0  1  2  3  4  5  6  7  8  9
    with times       .  hi hi .  .  .  .  .  there there
    without          hi hi hi hi hi there ............
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from erray.records import Stream, TextSample, Word


def spread_blocks(num_units: int, num_ticks: int) -> NDArray[np.int64]:
    """Return the sizes of contiguous blocks that spread units without times over all ticks.

    Sizes differ by at most one, longer ones first; of more units than ticks only the first
    ``num_ticks`` get a block, of one tick each.
    """
    num_blocks = min(num_units, num_ticks)
    if num_blocks == 0:
        return np.zeros(0, np.int64)
    sizes = np.full(num_blocks, num_ticks // num_blocks, np.int64)
    sizes[: num_ticks % num_blocks] += 1
    return sizes


def spread(num_units: int, num_ticks: int) -> list[slice]:
    """Return the ticks of every unit without times; empty for units beyond the last tick."""
    ends = np.cumsum(spread_blocks(num_units, num_ticks)).tolist()
    places = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
    return places + [slice(num_ticks, num_ticks)] * (num_units - len(places))


def share_out(num_units: int, ticks: slice) -> list[slice]:
    """Return the ticks of every piece of a word that is spoken during ``ticks``; none is lost.

    Of more pieces than ticks, several neighbours share a tick.
    """
    num_ticks = ticks.stop - ticks.start
    if num_ticks == 0:
        return [ticks] * num_units
    if num_units <= num_ticks:
        within = spread(num_units, num_ticks)
        return [slice(ticks.start + p.start, ticks.start + p.stop) for p in within]
    firsts = [ticks.start + unit * num_ticks // num_units for unit in range(num_units)]
    return [slice(first, first + 1) for first in firsts]


def ticks_of_word(word: Word, times_s_T: NDArray[np.float64]) -> slice:
    """Return the ticks at which a word is spoken: those in [start_s, end_s).

    A word that falls between two ticks sits on the one before it; a word wholly before the first
    tick, or more than a tick's length after the last, on none.
    """
    first = int(np.searchsorted(times_s_T, word.start_s))
    last = int(np.searchsorted(times_s_T, word.end_s))
    if last > first or first == 0:
        return slice(first, max(first, last))
    step_s = float(np.median(np.diff(times_s_T))) if len(times_s_T) > 1 else 0.0
    within = first < len(times_s_T) or word.start_s < times_s_T[-1] + step_s
    return slice(first - 1, first) if within else slice(0, 0)


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
