"""Text stream of hashed character n-grams (Weinberger et al. 2009); needs no weights.

Each word becomes one unit vector: its character n-grams, with marks at both ends, are hashed to a
column and a sign. Words that share letters share columns, and no vocabulary is learned.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from erray.encoders.words import place, spoken_words, spread, ticks_of_word
from erray.errors import UserError
from erray.records import Stream, TextSample


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
            raise UserError(f"expected a width of 1 or more, found {self.width}")
        if not 1 <= self.min_chars <= self.max_chars:
            raise UserError(
                f"expected 1 <= min_chars <= max_chars, found {self.min_chars} and {self.max_chars}"
            )


class HashEncoder:
    """Words of a clip to one vector per tick.

    Words with times sit where they are spoken and other ticks are absent; words without times are
    spread evenly over the clip. Words that share a tick are averaged and scaled to length 1 again.
    Without any word every tick is absent.
    """

    name = "hash"
    version = 1
    modality = "text"
    config_type = HashConfig
    licence: str | None = None
    source: str | None = None
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
        words = spoken_words(sample)
        if words:
            texts = [word.text for word in words]
            places = [ticks_of_word(word, times_s_T) for word in words]
        else:
            texts = (sample.transcript or "").split()
            places = spread(len(texts), len(times_s_T))
        values_ND = np.array([self.embed(text) for text in texts]).reshape(-1, self.width)
        stream = place(values_ND, places, len(times_s_T))
        length_T1 = np.linalg.norm(stream.values_TD, axis=1, keepdims=True)
        values_TD = stream.values_TD / np.where(length_T1 > 0, length_T1, 1)
        return Stream(values_TD.astype(np.float32, copy=False), stream.present_T)

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
