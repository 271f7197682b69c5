"""Step 1: clips to features."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from erray.extraction import Extractor
from erray.flow.context import Flow


def extract_step(flow: Flow, *, retry: bool = False) -> dict[str, Any]:
    """Bring the tables up to date; return counts of clips and what was computed."""
    with flow.record.time("extract"):
        extractor = Extractor(
            flow.recipe, flow.clips, str(flow.out), retry=retry, progress=flow.progress
        )
        extracted = extractor.extract()
    counts = {name: getattr(extracted, name) for name in ("wanted", "done", "rejected")}
    flow.record.update(clips=counts)
    return asdict(extracted)
