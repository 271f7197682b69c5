"""Values that are not finite (NaN, infinity): no class and no probability is made of them.

``argmax`` of a row of NaN is class 0, without a word. So everything that turns the values of a
clip into a class or a probability asks :func:`require_finite` first, and who works on many clips
turns the error into one rejected clip.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

NOT_FINITE = "not_finite"
"""Code of the reason of a clip that is rejected for such values."""


class NotFiniteError(Exception):
    """Values of a clip that no class can be made of; the message is the reason of its rejection."""


def require_finite(x: npt.NDArray[Any], what: str) -> None:
    """See that every value is finite.

    Args:
        x: an array with a row per tick.
        what: its values, in words.

    Raises:
        NotFiniteError: a value is not.
    """
    finite = np.isfinite(x)
    if not finite.all():
        bad_T = ~finite.reshape(len(x), -1).all(axis=1)
        raise NotFiniteError(
            f"{NOT_FINITE}: {what} of {bad_T.sum()} of {len(x)} ticks are not finite, the first at "
            f"tick {int(bad_T.argmax())}"
        )
