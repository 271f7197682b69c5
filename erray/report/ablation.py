"""The ablation that `erray ablate` left: every subset of the streams against all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from erray.statistics import Interval, PairedDifference


@dataclass(frozen=True, slots=True)
class Subset:
    """A subset of the streams; ``minus_all`` None: it holds all of them."""

    streams: list[str]
    score: Interval
    minus_all: PairedDifference | None
    val: float


@dataclass(frozen=True)
class Ablation:
    """The subsets, best first.

    Attributes:
        metric: what they are scored by.
        macro_f1_rule: which classes macro F1 is the mean over; None in a table of before it was
            kept, whose intervals and p-values took few groups for many.
    """

    metric: str
    val_metric: str
    num_clips: int
    macro_f1_rule: str | None
    subsets: list[Subset]


def make_ablation(
    found: dict[str, Any] | None, *, streams: Sequence[str], metric: str
) -> Ablation | None:
    """Return the table as the page shows it; None where there is none of just these streams.

    Args:
        found: what ``ablation.json`` holds.
        metric: name in ``erray.metrics.METRICS``.
    """
    if found is None or set(found["streams"]) != set(streams):
        return None
    subsets = [
        Subset(
            streams=row["streams"].split("+"),
            score=Interval(**row[metric]),
            minus_all=row["minus_all"] and PairedDifference(**row["minus_all"][metric]),
            val=row["val"]["value"],
        )
        for row in found["subsets"]
    ]
    first = found["subsets"][0]
    subsets.sort(key=lambda subset: -subset.score.value)
    return Ablation(
        metric, first["val"]["metric"], first["clips"], found.get("macro_f1_rule"), subsets
    )
