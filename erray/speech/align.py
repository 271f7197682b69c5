"""Times for the words of a known transcript, from what a recogniser heard.

A corpus' own transcript is right more often than a recogniser, which in turn knows when something
was said. Words that both have take the recogniser's times; a run of others shares the time between
its neighbours by the number of letters.

    transcript   well   I  never said  that
    heard        .      I  ever  said  that
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import groupby

from erray.records import Word


def timed_words(transcript: str, heard: Sequence[Word]) -> tuple[Word, ...] | None:
    """Return the words of ``transcript`` with times; None where there is nothing to go by."""
    texts = transcript.split()
    if not texts or not heard:
        return None
    matcher = SequenceMatcher(
        None, [_letters(text) for text in texts], [_letters(w.text) for w in heard], autojunk=False
    )
    found: list[Word | None] = [None] * len(texts)
    for block in matcher.get_matching_blocks():
        for i in range(block.size):
            word = heard[block.b + i]
            found[block.a + i] = Word(texts[block.a + i], word.start_s, word.end_s)
    words: list[Word] = []
    for is_heard, run in groupby(range(len(texts)), key=lambda i: found[i] is not None):
        places = list(run)
        if is_heard:
            words += [word for word in (found[i] for i in places) if word is not None]
            continue
        before = words[-1].end_s if words else heard[0].start_s
        after = found[places[-1] + 1] if places[-1] + 1 < len(texts) else None
        end_s = heard[-1].end_s if after is None else after.start_s
        words += _shared([texts[i] for i in places], before, max(before, end_s))
    return tuple(words)


def _shared(texts: Sequence[str], start_s: float, end_s: float) -> list[Word]:
    """Cut [start_s, end_s) by the number of letters of each text."""
    total, read, words = sum(map(len, texts)), 0, []
    for text in texts:
        first_s = start_s + (end_s - start_s) * read / total
        read += len(text)
        words.append(Word(text, first_s, start_s + (end_s - start_s) * read / total))
    return words


def _letters(text: str) -> str:
    """The word without case and punctuation, by which it is compared; all of it if none is left."""
    plain = unicodedata.normalize("NFKC", text.strip()).casefold()
    return "".join(c for c in plain if c.isalnum()) or plain
