"""What is told of scores and differences, and what is left untold with few groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from erray.statistics.p_values import LEVEL, holm

MIN_GROUPS = 6
"""Groups below which nothing is told: of five, swaps give no two-sided p-value below 2 / 2^5."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A score, and the interval around it; None with fewer than ``MIN_GROUPS`` groups."""

    value: float
    low: float | None
    high: float | None
    num_groups: int | None = None
    """What a resample draws; None in files of before it was kept."""


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Score of a minus score of b on the same clips.

    Interval and p-values are None with fewer than ``MIN_GROUPS`` groups.
    """

    difference: float
    low: float | None
    high: float | None
    p_value: float | None
    """Two-sided, of swapping the models' answers in groups."""
    num_groups: int | None = None
    """None in files of before it was kept, whose p-value is that of a bootstrap."""
    p_holm: float | None = None
    """Corrected for the other comparisons of one table; None where it stands for itself."""

    @property
    def better(self) -> bool | None:
        """Whether a is better, False: b is, at ``LEVEL``; None where the test does not tell."""
        p = self.p_value if self.p_holm is None else self.p_holm
        if self.num_groups is None or p is None or p >= LEVEL:
            return None
        return self.difference > 0


def corrected(differences: Sequence[PairedDifference]) -> list[PairedDifference]:
    """Give the differences of one table their ``p_holm``; those without a p-value do not count."""
    left = iter(holm([gap.p_value for gap in differences if gap.p_value is not None]))
    return [gap if gap.p_value is None else replace(gap, p_holm=next(left)) for gap in differences]


def p_text(p_value: float) -> str:
    """A p-value as people read it: never 0, which no test gives."""
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def undecided(num_groups: int) -> str:
    """What stands in the place of an interval or a p-value of fewer than ``MIN_GROUPS`` groups."""
    return f"undecided ({num_groups} group{'' if num_groups == 1 else 's'})"
