"""Users and passwords in URLs: what is shown goes without them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

# an @ after a slash or a blank that a user part may hold, or a password that its query cuts off
_UNENCODED = re.compile(
    r"""://(?:[^:/]*:.*[/\s]|[^/]*\s).*@|password=[^&]*[\s"'][^&]*""", re.DOTALL
)
# http takes a token for a user; a database's user is no secret
_SECRET = re.compile(r"://[^/\s:@]*:[^/\s]*@|https?://[^/\s]*@|password=[^&\s]")


def without_credentials(text: str) -> str:
    """Replace the user and password of every URL in ``text``, its query too, by ``***``.

    A slash or a blank ends the user part of a URL: :func:`has_unencoded_credentials` finds those
    that are within one.
    """
    text = re.sub(r"(?<=password=)[^&\s\"']+", "***", text)
    return re.sub(r"(?<=://)[^/\s]*@", "***@", text)


def masked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings, as JSON takes them, without the credentials of the URLs in them."""
    text = without_credentials(json.dumps(settings))
    return dict(json.loads(text))


def has_unencoded_credentials(url: str) -> bool:
    """Whether :func:`without_credentials` may leave a part of the password of ``url``."""
    return _UNENCODED.search(url) is not None


def has_secret(text: str) -> bool:
    """Whether a URL in ``text`` holds a password or a token; a database's user alone is none."""
    return has_unencoded_credentials(text) or _SECRET.search(text) is not None
