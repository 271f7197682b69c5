"""The extraction tables of a run: faces of a clip, where its streams have data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from erray.feature_rows import first_tick
from erray.plan import TRACKS, Plan
from erray.records import DONE, Clip
from erray.report.sources import RunData
from erray.report.thumbnails import Faces
from erray.store import ShardPlaces, Table


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
        for stream in self.plan.modalities:
            table = self.run.features(stream, self.plan.fingerprints[stream])
            columns = ["view", "first_tick", "present"]
            rows = self._rows(table, self.plan.key(stream, clip), columns)
            parts = sorted((row for row in rows if not row["view"]), key=first_tick)
            if parts:
                present = [np.array(row["present"], dtype=bool) for row in parts]
                found[stream] = np.concatenate(present)
        return found

    def face_shares(self) -> dict[str, float]:
        """Return per done clip the share of its ticks with the main face, 0 where none is."""
        table = self.run.tracks.read(columns=["key", "is_main", "present"])
        share_of_key = _shares(table.filter(table["is_main"]))
        return {
            clip.clip_id: share_of_key.get(key, 0.0)
            for clip in self.clips.values()
            if (key := self.plan.key(TRACKS, clip)) in self._done
        }

    def stream_shares(self, stream: str) -> dict[str, float]:
        """Return per clip with features the share of its ticks at which the stream has data."""
        table = self.run.features(stream, self.plan.fingerprints[stream])
        rows = table.read(columns=["key", "view", "present"])
        share_of_key = _shares(rows.filter(pc.equal(pc.fill_null(rows["view"], 0), 0)))
        return {
            clip.clip_id: share_of_key[key]
            for clip in self.clips.values()
            if (key := self.plan.key(stream, clip)) in share_of_key
        }

    def _rows(self, table: Table, key: str, columns: list[str]) -> list[dict[str, Any]]:
        """Rows of one key. Only its shard is read: the others may hold gigabytes of crops."""
        places = self._places.setdefault(table.path, ShardPlaces(table))
        shard = places.path(self._done[key]) if key in self._done else ""
        if not shard:
            return []
        return table.read(columns=["key", *columns], keys=[key], shards=[shard]).to_pylist()


def _shares(rows: pa.Table) -> dict[str, float]:
    """Key to the share of its ticks that are present; a clip may have several rows.

    In arrays, not row by row: a corpus of hours has millions of ticks.
    """
    present = rows["present"]
    num_N = np.asarray(pc.list_value_length(present), np.int64)
    before = np.concatenate([[0], np.cumsum(np.asarray(pc.list_flatten(present), np.int64))])
    ends_N = np.cumsum(num_N)
    hits_N = before[ends_N] - before[ends_N - num_N]
    sums: dict[str, tuple[int, int]] = {}
    for key, hits, num in zip(rows["key"].to_pylist(), hits_N, num_N, strict=True):
        earlier_hits, earlier_num = sums.get(key, (0, 0))
        sums[key] = (earlier_hits + int(hits), earlier_num + int(num))
    return {key: hits / num for key, (hits, num) in sums.items() if num}
