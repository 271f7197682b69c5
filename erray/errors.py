"""The two expected failures, and what the system refuses; everything else keeps its traceback."""

from __future__ import annotations

import difflib
import errno
import re
import shutil
from collections.abc import Iterable

_OTHER_PLACE = "change its owner or its mode, or name another place"
_ADVICE = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.EFBIG: "raise the limit with ulimit -f, or name another disk",
    errno.EACCES: _OTHER_PLACE,
    errno.EPERM: _OTHER_PLACE,
    errno.EROFS: "name a place that can be written",
    errno.ENOTDIR: "a part of the path is a file: name another place",
    errno.EISDIR: "name a file",
    errno.EEXIST: "remove it, or name another place",
    errno.ENAMETOOLONG: "name a shorter one",
    errno.EMFILE: "raise the limit with ulimit -n",
    errno.ENFILE: "end other programs, or raise the limit of this machine",
    errno.EIO: "look at the disk",
    errno.ESTALE: "look at the mount",
}


class UserError(ValueError):
    """A mistake of the user: one line that says what was expected, what was found, what to do.

    Several mistakes that were found together have a line each.

    The command line prints the message and exits with code 2.
    """


class MediaError(Exception):
    """A medium that cannot be read: becomes one rejected clip with this reason.

    The first word of the reason is a stable code (``no_media``, ``not_media``, ``no_video`` ...),
    the rest is for people.
    """


def did_you_mean(found: str, known: Iterable[str]) -> str:
    """Return the end of a message about the name ``found``: the known one that is nearest.

    Empty where none is near.
    """
    by_case = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(found.casefold(), by_case, n=1)
    return f"; did you mean {by_case[near[0]]}?" if near else ""


def refusal(error: OSError) -> tuple[str, str] | None:
    """What the system refused, in its words, and what to do; None for what may be a defect here."""
    advice = _ADVICE.get(error.errno or 0)
    return None if advice is None else (error.strerror or str(error), advice)


def refusal_line(error: BaseException | None) -> str | None:
    """:func:`refusal` in one line with the path, None where there is none to tell of.

    Ray hands on what a worker raised as an error of the same class without its number, and with
    the worker's own one as its ``cause``.
    """
    error = getattr(error, "cause", error)
    if isinstance(error, shutil.Error):
        error = _first_of(error)
    if not isinstance(error, OSError) or (found := refusal(error)) is None:
        return None
    place = error.filename if isinstance(error.filename, str) else "the system refused"
    return f"{place}: {found[0]}: {found[1]}"


def _first_of(error: shutil.Error) -> OSError | None:
    """The first of the failures that copying a folder met: it tells all of them in words alone."""
    found = re.search(r"\[Errno (\d+)\] ([^:']*)(?:: '([^']*)')?", str(error))
    return None if found is None else OSError(int(found[1]), found[2], found[3])
