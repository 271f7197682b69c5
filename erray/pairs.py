"""The pair rule: a model of basic emotions answers with compound ones.

A compound emotion is a pair of basic ones (:data:`erray.labels.COMPOUND_PAIRS`). Its score at a
tick is the sum, or the product, of the two probabilities that the model gives them; the seven
scores, divided by their sum, are the compound classes' probabilities. The probability that the
model gives Neutral counts for none of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from erray.finite import require_finite
from erray.labels import BASIC_7, CEXPR_7, COMPOUND_PAIRS

SUM, PRODUCT = "sum", "product"

_PLACE = {name.lower(): i for i, name in enumerate(BASIC_7.names)}
_FIRST_C, _SECOND_C = (
    np.array([_PLACE[COMPOUND_PAIRS[name][side]] for name in CEXPR_7.names]) for side in (0, 1)
)


def compound_logits(logits_TC: NDArray[np.floating], rule: str) -> NDArray[np.float32]:
    """Return logits [T, 7] of the compound classes: the logarithms of their probabilities.

    They are of ticks, so that the model's temperature, which is of clips, has no part in them.

    Args:
        logits_TC: of the classes of ``BASIC_7`` in their order.
        rule: ``sum`` or ``product`` of the two probabilities.

    Raises:
        NotFiniteError: a logit that is not finite.
    """
    assert logits_TC.shape[1] == len(BASIC_7), logits_TC.shape
    require_finite(logits_TC, "logits")
    # in logarithms throughout: a probability may be smaller than any float
    basic_TC = log_softmax(np.asarray(logits_TC, np.float64), axis=-1)
    first_TC, second_TC = basic_TC[:, _FIRST_C], basic_TC[:, _SECOND_C]
    if rule == SUM:
        scores_TC = np.logaddexp(first_TC, second_TC)
    else:
        assert rule == PRODUCT, rule
        scores_TC = first_TC + second_TC
    return np.asarray(log_softmax(scores_TC, axis=-1), np.float32)
