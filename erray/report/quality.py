"""Data quality: what became of every clip, and in how much of it each stream has data."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from erray.records import Clip
from erray.report.coverage import Coverage, measure_coverage
from erray.report.sources import RunData
from erray.report.tables import Tables

UNLABELLED = "unlabelled"


@dataclass(frozen=True)
class Counts:
    """A table of counts: names of columns, then name and counts of each row."""

    columns: list[str]
    rows: list[tuple[str, list[int]]]

    @property
    def totals(self) -> list[int]:
        """Sum of every column."""
        return [sum(counts[i] for _, counts in self.rows) for i in range(len(self.columns))]


@dataclass(frozen=True)
class Quality:
    """Counts for the page.

    Attributes:
        composition: clips by class (rows) and split (columns).
        num_groups: of each of those splits.
        reasons: rejected clips by reason (rows) and stage (columns).
        notes: rows of the status table of clips that are done, but not as they should be.
        note_counts: how often each kind of note is there.
        coverage: of the main face and of every stream; empty where nothing was extracted.
    """

    composition: Counts
    num_groups: list[int]
    reasons: Counts
    rejects: list[dict[str, Any]]
    notes: list[dict[str, Any]]
    note_counts: list[tuple[str, int]]
    coverage: list[Coverage]


def assess(data: RunData, tables: Tables, splits_first: tuple[str, ...]) -> Quality:
    """Count clips per split and class, rejects per reason and stage, and what is covered."""
    clips = list(data.clips.values())
    splits = _splits(clips, splits_first)
    notes = [row for row in data.status if row["note"]]
    return Quality(
        composition=_composition(clips, splits, data.shown[0].classes),
        num_groups=[len({clip.group for clip in clips if clip.split == s}) for s in splits],
        reasons=_reasons(data.rejects),
        rejects=data.rejects,
        notes=notes,
        note_counts=Counter(_kind(row["note"]) for row in notes).most_common(),
        coverage=measure_coverage(tables, splits),
    )


def reason_code(reason: str | None) -> str:
    """Return the stable first word of a reason."""
    return (reason or "unknown").split(":")[0].split()[0]


def _kind(note: str) -> str:
    """A note without its numbers: ``truncated`` of ``truncated 28/50``."""
    return re.split(r"\s+\d", note)[0]


def _splits(clips: Iterable[Clip], first: tuple[str, ...]) -> list[str]:
    present = {clip.split for clip in clips}
    return [s for s in first if s in present] + sorted(present - set(first))


def _composition(clips: Iterable[Clip], splits: list[str], classes: Sequence[str]) -> Counts:
    counts = Counter((clip.label, clip.split) for clip in clips)
    labels: list[str | None] = [*classes, None]
    rows = [(label or UNLABELLED, [counts[label, split] for split in splits]) for label in labels]
    return Counts(splits, [(name, numbers) for name, numbers in rows if any(numbers)])


def _reasons(rejects: Iterable[dict[str, Any]]) -> Counts:
    """Reasons, most clips first; stages in the order of their names."""
    found = Counter((reason_code(row["reason"]), row["stage"]) for row in rejects)
    stages = sorted({stage for _, stage in found})
    rows = [
        (reason, [found[reason, stage] for stage in stages])
        for reason in dict.fromkeys(reason for reason, _ in found)
    ]
    return Counts(stages, sorted(rows, key=lambda row: (-sum(row[1]), row[0])))
