"""Text stream of hashed character n-grams (Weinberger et al. 2009); needs no weights.

Each word becomes one unit vector: its character n-grams, with marks at both ends, are hashed to a
column and a sign. Words that share letters share columns, and no vocabulary is learned.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from erray.errors import UserError
from erray.records import Stream, TextSample, Word


@dataclass(frozen=True)
class HashConfig:
    """Size of the vectors and of the n-grams.

    Attributes:
        width: columns; fewer columns mean more collisions.
        min_chars: shortest n-gram, end marks included.
        max_chars: longest n-gram; the whole word with its marks is kept besides.
    """

    width: int = 256
    min_chars: int = 3
    max_chars: int = 5

    def __post_init__(self) -> None:
        if self.width < 1:
            raise UserError(f"hash: expected a width of 1 or more, found {self.width}")
        if not 1 <= self.min_chars <= self.max_chars:
            raise UserError(
                "hash: expected 1 <= min_chars <= max_chars, "
                f"found {self.min_chars} and {self.max_chars}"
            )


def spread_blocks(num_tokens: int, num_ticks: int) -> NDArray[np.int64]:
    """Return the sizes of contiguous blocks that spread tokens without times over all ticks.

    Sizes differ by at most one, longer ones first; of more tokens than ticks only the first
    ``num_ticks`` get a block, of one tick each.
    """
    num_blocks = min(num_tokens, num_ticks)
    if num_blocks == 0:
        return np.zeros(0, np.int64)
    sizes = np.full(num_blocks, num_ticks // num_blocks, np.int64)
    sizes[: num_ticks % num_blocks] += 1
    return sizes


def ticks_of_word(word: Word, times_s_T: NDArray[np.float64]) -> slice:
    """Return the ticks at which a word is spoken: those in [start_s, end_s).

    A word that falls between two ticks sits on the one before it; a word wholly before the first
    tick, or more than a tick's length after the last, on none.
    """
    first = int(np.searchsorted(times_s_T, word.start_s))
    last = int(np.searchsorted(times_s_T, word.end_s))
    if last > first or first == 0:
        return slice(first, last)
    step_s = float(np.median(np.diff(times_s_T))) if len(times_s_T) > 1 else 0.0
    within = first < len(times_s_T) or word.start_s < times_s_T[-1] + step_s
    return slice(first - 1, first) if within else slice(0, 0)


class HashEncoder:
    """Words of a clip to one vector per tick.

    Words with times sit where they are spoken and other ticks are absent; words that share a tick
    are averaged and scaled to length 1 again. Words without times are spread evenly over the
    clip. Without any word every tick is absent.
    """

    name = "hash"
    version = 1
    modality = "text"
    config_type = HashConfig
    weights_sha256: str | None = None

    def __init__(self, config: HashConfig | None = None) -> None:
        self.config = config or HashConfig()

    @property
    def width(self) -> int:
        """Values per tick."""
        return self.config.width

    def __call__(self, batch: list[TextSample]) -> list[Stream]:
        return [self._stream(sample) for sample in batch]

    def _stream(self, sample: TextSample) -> Stream:
        times_s_T = sample.frame_times_s_T
        if sample.words:
            values_TD = self._at_their_times(sample.words, times_s_T)
        else:
            values_TD = self._spread((sample.transcript or "").split(), len(times_s_T))
        # a word's vector has length 1, so a row of zeros is a tick without a word
        return Stream(values_TD.astype(np.float32), np.asarray(values_TD.any(axis=1)))

    def _spread(self, texts: Sequence[str], num_ticks: int) -> NDArray[np.float64]:
        values_TD = np.zeros((num_ticks, self.width))
        end = 0
        for text, size in zip(texts, spread_blocks(len(texts), num_ticks), strict=False):
            start, end = end, end + size
            values_TD[start:end] = self.embed(text)
        return values_TD

    def _at_their_times(
        self, words: Sequence[Word], times_s_T: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        sums_TD = np.zeros((len(times_s_T), self.width))
        for word in words:
            if word.text.strip():
                sums_TD[ticks_of_word(word, times_s_T)] += self.embed(word.text)
        length_T1 = np.linalg.norm(sums_TD, axis=1, keepdims=True)
        return sums_TD / np.where(length_T1 > 0, length_T1, 1.0)

    def embed(self, text: str) -> NDArray[np.float64]:
        """Return the unit vector of one word, equal on every machine and in every process."""
        marked = f"<{unicodedata.normalize('NFKC', text.strip()).casefold()}>"
        sizes = range(self.config.min_chars, self.config.max_chars + 1)
        grams = {marked} | {marked[i : i + n] for n in sizes for i in range(len(marked) - n + 1)}
        vector_D = np.zeros(self.width)
        for gram in sorted(grams):
            code = int.from_bytes(blake2b(gram.encode(), digest_size=8).digest(), "little")
            vector_D[(code >> 1) % self.width] += 1.0 if code & 1 else -1.0
        if not vector_D.any():  # opposite signs may cancel when the width is tiny
            vector_D[0] = 1.0
        return vector_D / np.linalg.norm(vector_D)
