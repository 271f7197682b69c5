"""Data quality: what became of every clip, and in how much of it a face was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from erray.feature_rows import first_tick
from erray.plan import TRACKS, Plan
from erray.records import DONE, Clip
from erray.report.sources import RunData
from erray.report.thumbnails import Faces
from erray.store import ShardPlaces, Table

_NUM_BINS = 10


@dataclass(frozen=True)
class Quality:
    """Counts for the page; ``coverage`` is None where the recipe reads no faces.

    ``coverage`` holds clips per tenth of the share of ticks with the main face.
    """

    splits: list[str]
    composition: list[tuple[str, list[int]]]
    reasons: list[tuple[str, int]]
    rejects: list[dict[str, Any]]
    notes: list[dict[str, Any]]
    coverage: list[int] | None
    median_coverage: float
    num_without_face: int


class Tables:
    """The extraction tables of a run, by the keys that its recipe gives each clip."""

    def __init__(self, data: RunData, plan: Plan) -> None:
        self.run, self.plan, self.clips = data.folder, plan, data.clips
        self._places: dict[str, ShardPlaces] = {}
        self._done = {row["key"]: row for row in data.status if row["state"] == DONE}

    def faces(self, clip: Clip) -> Faces:
        """Return the crops of the clip's main track, none where no face was found."""
        key = self.plan.key(TRACKS, clip)
        return Faces.from_rows(self._rows(self.run.crops, key, ["ticks", "jpegs"]))

    def presence(self, clip: Clip) -> dict[str, NDArray[np.bool_]]:
        """Return per stream at which ticks it has data; streams without a row are left out."""
        found = {}
        for stream, fingerprint in self.plan.fingerprints.items():
            if stream == TRACKS:
                continue
            table = self.run.features(stream, fingerprint)
            columns = ["view", "first_tick", "present"]
            rows = self._rows(table, self.plan.key(stream, clip), columns)
            parts = sorted((row for row in rows if not row["view"]), key=first_tick)
            if parts:
                present = [np.array(row["present"], dtype=bool) for row in parts]
                found[stream] = np.concatenate(present)
        return found

    def _rows(self, table: Table, key: str, columns: list[str]) -> list[dict[str, Any]]:
        """Rows of one key. Only its shard is read: the others may hold gigabytes of crops."""
        places = self._places.setdefault(table.path, ShardPlaces(table))
        shard = places.path(self._done[key]) if key in self._done else ""
        if not shard:
            return []
        return table.read(columns=["key", *columns], keys=[key], shards=[shard]).to_pylist()

    def coverage(self) -> list[float] | None:
        """Return per done clip the share of ticks with its main face; None without faces."""
        if self.plan.detector is None:
            return None
        rows = self.run.tracks.read(columns=["key", "is_main", "present"]).to_pylist()
        share = {row["key"]: float(np.mean(row["present"])) for row in rows if row["is_main"]}
        keys = [self.plan.key(TRACKS, clip) for clip in self.clips.values()]
        return [share.get(key, 0.0) for key in keys if key in self._done]


def assess(data: RunData, tables: Tables, splits_first: tuple[str, ...]) -> Quality:
    """Count clips per split and class, rejects per reason, and face coverage."""
    shares = tables.coverage()
    bins = None
    if shares is not None:
        bins = np.histogram(shares, bins=_NUM_BINS, range=(0.0, 1.0))[0].tolist()
    splits = _splits(data.clips.values(), splits_first)
    reasons = Counter(reason_code(row["reason"]) for row in data.rejects)
    return Quality(
        splits=splits,
        composition=_composition(data.clips.values(), splits, data.shown[0].classes),
        reasons=reasons.most_common(),
        rejects=data.rejects,
        notes=[row for row in data.status if row["note"] and row["stage"] == TRACKS],
        coverage=bins,
        median_coverage=float(np.median(shares)) if shares else 0.0,
        num_without_face=sum(share == 0.0 for share in shares or []),
    )


def reason_code(reason: str | None) -> str:
    """Return the stable first word of a reason."""
    return (reason or "unknown").split(":")[0].split()[0]


def _splits(clips: Iterable[Clip], first: tuple[str, ...]) -> list[str]:
    present = {clip.split for clip in clips}
    return [s for s in first if s in present] + sorted(present - set(first))


def _composition(
    clips: Iterable[Clip], splits: list[str], classes: tuple[str, ...]
) -> list[tuple[str, list[int]]]:
    counts = Counter((clip.label, clip.split) for clip in clips)
    labels: list[str | None] = [*classes, None]
    rows = [(label or "unlabelled", [counts[label, split] for split in splits]) for label in labels]
    return [(name, numbers) for name, numbers in rows if any(numbers)]
