"""The reliability diagram: how often clips are right against how sure the model is of them."""

from __future__ import annotations

import math

from erray.calibration import ReliabilityBin
from erray.evaluation.scores import Calibration
from erray.report.charts import Chart, Dot, Scale, Tick, line

_UNIT = Scale(0, 1)
_LARGEST_PX, _SMALLEST_PX = 22.0, 6.0


def make_reliability(found: Calibration) -> Chart:
    """Draw accuracy against confidence, a mark per bin; a calibrated model lies on the diagonal.

    The area of a mark is the share of clips in its bin, so that a bin of one clip, which is all
    right or all wrong, does not look like a finding.
    """
    shown = {"best": found.bins_after}
    if found.temperature != 1:
        shown = {"quiet": found.bins_before, **shown}
    ticks = [Tick(_UNIT.at(value), f"{value:g}") for value in (0, 0.25, 0.5, 0.75, 1)]
    return Chart(
        title="Share of clips that are right",
        x_title="confidence",
        x_ticks=ticks,
        y_ticks=ticks,
        lines=[line("as sure as right", "diagonal", [(0, 0), (1, 1)], x=_UNIT, y=_UNIT)],
        dots=[dot for tone, bins in shown.items() for dot in _dots(bins, tone)],
    )


def _dots(bins: list[ReliabilityBin], tone: str) -> list[Dot]:
    largest = max(part.count for part in bins)
    return [
        Dot(
            x=_UNIT.at(part.confidence),
            y=_UNIT.at(part.accuracy),
            tone=f"bin-{tone}",
            text=f"{part.count} clips, confidence {part.confidence:.2f}, right {part.accuracy:.2f}",
            size_px=max(_SMALLEST_PX, round(_LARGEST_PX * math.sqrt(part.count / largest), 1)),
        )
        for part in bins
        if part.confidence is not None and part.accuracy is not None
    ]
