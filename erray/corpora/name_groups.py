"""Where the person stands in the names of films: a guess, by a rule.

``03-01-05-01-01-01-12.mp4``, ``1001_DFA_ANG_XX.mp4``, ``anna_3.mp4``: one part of the name is the
group. Which one shows when all names are seen together: many films share it, and it is no other
name of their class. The rule is told in ``docs/corpora.md``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import PurePosixPath

_PART, _SEPARATOR = r"[^\W_]+", r"(?:[^\w/]|_)"
_RUN = re.compile(r"\d+|[^\W\d_]+")
_MIN_NUMBERS, _MIN_WORDS = 3, 2  # two of a number are a level (weak, strong), of a word two people


def guess_group(
    class_of: Mapping[str, str], *, other_words: Collection[str] = ()
) -> re.Pattern[str] | None:
    """Return a pattern whose parenthesis finds the group in a film's path without its suffix.

    Args:
        class_of: path of every film to its class.
        other_words: in lower case; a part that has no other values than these names no groups.

    Returns:
        None where no part of the names is shared as a group is.
    """
    films = {PurePosixPath(name): class_ for name, class_ in class_of.items()}
    rows = {film: re.findall(_PART, film.stem) for film in films}
    k = _place_of_group(rows, films, other_words)
    if k is None:
        return _guess_in_runs(films, other_words)
    before = rf"(?:{_PART}{_SEPARATOR}+){{{k}}}" if k else ""
    return re.compile(rf"(?:^|/){_SEPARATOR}*{before}({_PART})[^/]*$")


def _guess_in_runs(
    films: Mapping[PurePosixPath, str], other_words: Collection[str]
) -> re.Pattern[str] | None:
    """The guess for names without separators, such as ``anna3``: letters and digits in turn."""
    rows = {film: _RUN.findall(film.stem) for film in films}
    shapes = {tuple(run.isdecimal() for run in row) for row in rows.values()}
    joined = all("".join(row) == film.stem for film, row in rows.items())
    k = _place_of_group(rows, films, other_words) if joined and len(shapes) == 1 else None
    if k is None:
        return None
    runs = [r"\d+" if is_number else r"[^\W\d_]+" for is_number in shapes.pop()]
    runs[k] = f"({runs[k]})"
    return re.compile(rf"(?:^|/){''.join(runs)}$")


def _place_of_group(
    rows: Mapping[PurePosixPath, Sequence[str]],
    films: Mapping[PurePosixPath, str],
    other_words: Collection[str],
) -> int | None:
    """Which part, of those that every name has, is the first that names groups."""
    folders = {  # test_1.mp4 is numbered as in a folder of test
        film: (film.parent, *(part.lower() for part in row if part.lower() in other_words))
        for film, row in rows.items()
    }
    for k in range(min(map(len, rows.values()), default=0)):
        values = {film: row[k] for film, row in rows.items()}
        is_other = all(value.lower() in other_words for value in values.values())
        if not is_other and _names_groups(values, films, folders):
            return k
    return None


def _names_groups(
    values: Mapping[PurePosixPath, str],
    films: Mapping[PurePosixPath, str],
    folders: Mapping[PurePosixPath, object],
) -> bool:
    if len({(films[film], value) for film, value in values.items()}) == len(set(films.values())):
        return False  # the same in all films, or in all of a class: another name of it
    words = all(value.isalpha() for value in values.values())
    if not words and len({(folders[film], value) for film, value in values.items()}) == len(values):
        return False  # the films of every folder are numbered
    of_value = Counter(values.values())
    num_shared = sum(count for count in of_value.values() if count > 1)
    enough = len(of_value) >= (_MIN_WORDS if words else _MIN_NUMBERS)
    return enough and 2 * num_shared > len(values)
