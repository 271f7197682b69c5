"""The two expected failures; everything else is a bug and keeps its traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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
