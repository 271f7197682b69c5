"""The status table: what became of every key, read as columns and kept in few files.

Workers write a status shard per batch. A million clips make tens of thousands of them per stage,
and to open one costs more than to read it, so the driver merges them from time to time: the merged
shard is written before its parts are removed, and rows that are there twice in between say the
same. Its name is its own: of two processes that merged at once neither would overwrite the other's.
Only one may, all the same (:func:`erray.store.lock.hold`); others may read meanwhile.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from erray.errors import UserError
from erray.records import DONE
from erray.store.tables import Table

MERGE_FROM = 100
# tables of before have no letters after the number
_MERGED = re.compile(r"/merged-(\d+)(?:-[0-9a-f]+)?\.parquet$")
_MERGE_SHARDS = 2_000
_MERGE_BYTES = 64 * 2**20
_NUM_READERS, _NUM_AHEAD = 8, 64


@dataclass(frozen=True)
class StatusTable(Table):
    """The table of ``STATUS_SCHEMA``; of several rows of a key a done one counts."""

    def states(self, fingerprint: str, *, limits: str | None = None) -> dict[str, str]:
        """Key to ``done`` or ``rejected`` in the stage with this fingerprint.

        With ``limits`` (their print) what other limits have rejected does not count.
        """
        columns = ["key", "state", *(["limits"] if limits else [])]
        rows = self.read(columns=columns, where={"fingerprint": fingerprint})
        rows = _under(rows, limits)
        keys, states = rows["key"].to_pylist(), rows["state"].to_pylist()
        found = dict(zip(keys, states, strict=True))
        found.update((k, s) for k, s in zip(keys, states, strict=True) if s == DONE)
        return found

    def latest(
        self,
        *,
        columns: Sequence[str],
        where: Mapping[str, str] | None = None,
        limits: str | None = None,
    ) -> pa.Table:
        """Return of the rows with the values ``where`` the one of every key that counts.

        With ``limits`` (their print) what other limits have rejected does not count.
        """
        needed = {"key", "state"} | ({"limits"} if limits else set())
        rows = self.read(columns=[*columns, *(needed - set(columns))], where=where)
        rows = _under(rows, limits)
        place: dict[str, int] = {}
        done = pc.equal(rows["state"], DONE).to_pylist()
        for i, key in enumerate(rows["key"].to_pylist()):
            known = place.get(key)
            if known is None or not done[known]:
                place[key] = i
        return rows.take(pa.array(place.values(), pa.int64())).select(list(columns))

    def scan_done(self, fingerprint: str, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield the done rows of a stage with ``key`` and ``columns``, a shard at a time.

        A key comes once, also where shards are merged meanwhile. Memory: one shard and the keys.
        """
        names, done = ["key", *columns], {"fingerprint": fingerprint, "state": DONE}
        seen: set[str] = set()
        for rows in self._each_shard(names, done):
            kept = []
            for i, key in enumerate(rows["key"].to_pylist()):
                if key not in seen:
                    seen.add(key)
                    kept.append(i)
            if kept:
                yield rows.take(pa.array(kept, pa.int64()))

    def _each_shard(self, columns: list[str], where: Mapping[str, str]) -> Iterator[pa.Table]:
        """Read every shard once; where one is gone, those that are new: its rows are in them."""
        read: set[str] = set()
        while todo := [path for path in self.shards() if path not in read]:
            for path in todo:
                read.add(path)
                try:
                    rows = self.read(columns=columns, where=where, shards=[path])
                except UserError as error:
                    is_gone = isinstance(error.__cause__, FileNotFoundError)
                    if not is_gone or path in self.shards():
                        raise
                    break
                yield rows

    def merge(self, *, least: int = MERGE_FROM) -> None:
        """Merge the shards that workers wrote where there are ``least`` or more of them."""
        paths = [path for path in self.shards() if path.rsplit("/", 1)[-1].startswith("shard-")]
        if len(paths) < least:
            return
        merged = [int(n) for path in self.shards() for n in _MERGED.findall(path)]
        for number, (names, parts) in enumerate(self._groups(paths), max(merged, default=0) + 1):
            # numbers rise and sort before shard-...: what was written later is read later
            name = f"merged-{number:06d}-{uuid.uuid4().hex[:8]}.parquet"
            self.write(name, _by_fingerprint(parts))
            self.folder.remove(names)

    def _groups(self, paths: Sequence[str]) -> Iterator[tuple[list[str], list[pa.Table]]]:
        names: list[str] = []
        parts: list[pa.Table] = []
        num_bytes = 0
        for path, part in self._read_ahead(paths):
            names.append(path.rsplit("/", 1)[-1])
            parts.append(part)
            num_bytes += part.nbytes
            if len(parts) == _MERGE_SHARDS or num_bytes >= _MERGE_BYTES:
                yield names, parts
                names, parts, num_bytes = [], [], 0
        if parts:
            yield names, parts

    def _read_ahead(self, paths: Sequence[str]) -> Iterator[tuple[str, pa.Table]]:
        """Read some shards at a time: each is a few requests where they lie in object storage."""
        with ThreadPoolExecutor(_NUM_READERS) as readers:
            for first in range(0, len(paths), _NUM_AHEAD):
                ahead = paths[first : first + _NUM_AHEAD]
                yield from zip(ahead, readers.map(self._read_whole, ahead), strict=True)

    def _read_whole(self, path: str) -> pa.Table:
        """Read all of one small shard: half the time of a read that can choose rows."""
        fs, _ = self.folder.storage()

        def read() -> pa.Table:
            with fs.open(path, "rb") as file:
                return pq.ParquetFile(file).read(use_threads=False)

        rows = self.folder.attempt("read", read)
        for field in self.schema:
            if field.name not in rows.column_names:  # written before the column was there
                rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
        return rows.select(self.schema.names).cast(self.schema)


class ShardPlaces:
    """Where the rows of a done clip lie in ``table``."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._searched: dict[str, str] | None = None

    def path(self, status: Mapping[str, Any]) -> str:
        """Path of the shard by the columns ``key``, ``num_tracks`` and ``shard``, or ``""``.

        Tables of older versions do not name it: there every shard is searched, once.
        """
        if status["num_tracks"] == 0:
            return ""
        if status["shard"] is not None:
            return self._table.shard(status["shard"])
        if self._searched is None:
            self._searched = self._table.shard_of_key()
        return self._searched.get(status["key"], "")


def _under(rows: pa.Table, limits: str | None) -> pa.Table:
    """Drop what other limits than these have rejected."""
    if limits is None:
        return rows
    others = pc.fill_null(pc.not_equal(rows["limits"], limits), False)
    return rows.filter(pc.invert(others))


def _by_fingerprint(parts: list[pa.Table]) -> Callable[[], Iterator[pa.Table]]:
    """Rows of one fingerprint after the other, so that a read of one skips the others."""
    rows = pa.concat_tables(parts)
    prints = pc.fill_null(rows["fingerprint"], "")

    def chunks() -> Iterator[pa.Table]:
        for value in pc.unique(prints).to_pylist():
            yield rows.filter(pc.equal(prints, value))

    return chunks
