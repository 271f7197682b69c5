"""How sure a score is: intervals by group, tests of a paired difference, and their correction."""

from erray.statistics.intervals import Resamples, bootstrap_interval, paired_difference
from erray.statistics.p_values import EXACT_BELOW, LEVEL, McNemar, Metric, holm, mcnemar
from erray.statistics.results import (
    MIN_GROUPS,
    Interval,
    PairedDifference,
    corrected,
    p_text,
    undecided,
)

__all__ = [
    "EXACT_BELOW",
    "LEVEL",
    "MIN_GROUPS",
    "Interval",
    "McNemar",
    "Metric",
    "PairedDifference",
    "Resamples",
    "bootstrap_interval",
    "corrected",
    "holm",
    "mcnemar",
    "p_text",
    "paired_difference",
    "undecided",
]
