"""Step 1: clips to features."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from erray.corpora.findings import refuse_errors
from erray.extraction import Extracted, Extractor
from erray.flow.context import Flow


def extract_step(flow: Flow, *, retry: bool = False) -> dict[str, Any]:
    """Bring the tables up to date; return counts of clips and what was computed."""
    with flow.record.time("extract"):
        extracted = checked_extraction(flow, retry=retry)
    counts = {name: getattr(extracted, name) for name in ("wanted", "done", "rejected")}
    flow.record.update(clips=counts)
    return asdict(extracted)


def checked_extraction(flow: Flow, *, retry: bool = False) -> Extracted:
    """Extract what is missing from a corpus that has passed its check.

    Raises:
        UserError: the corpus has errors.
    """
    refuse_errors(flow.findings)
    extractor = Extractor(
        flow.recipe,
        flow.clips,
        str(flow.out),
        excluded=flow.corpus.excluded,
        retry=retry,
        progress=flow.progress,
    )
    return extractor.extract()
