"""Tables as folders of Parquet shards, on a disk or in object storage.

A shard is either there or not: it is written under a temporary name and renamed. Its name comes
from the keys it holds, so that a task that runs twice writes the same shard twice. Readers take
shards only, never a temporary file.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from erray.records import (
    CLIP_SCHEMA,
    CROP_SCHEMA,
    DONE,
    FEATURE_SCHEMA,
    PREDICTION_SCHEMA,
    STATUS_SCHEMA,
    TRACK_SCHEMA,
)


@dataclass(frozen=True)
class Table:
    """Rows of one schema in the folder (or fsspec URL) ``path``."""

    path: str
    schema: pa.Schema

    def create(self) -> Table:
        """Make the folder, so that it exists even when no row is ever written."""
        fs, root = self._fs()
        fs.makedirs(root, exist_ok=True)
        return self

    def write_shard(self, rows: Iterable[Mapping[str, Any]], *, keys: Sequence[str]) -> str | None:
        """Write ``rows`` as the shard named after ``keys``; no rows, no shard.

        Returns:
            The shard's file name, None when there was nothing to write.
        """
        table = pa.Table.from_pylist(list(rows), schema=self.schema)
        if table.num_rows == 0:
            return None
        digest = hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest()[:24]
        return self._put(table, f"shard-{digest}.parquet")

    def replace(self, rows: pa.Table | Iterable[Mapping[str, Any]]) -> None:
        """Make ``rows`` the whole content of the table, as one snapshot."""
        if not isinstance(rows, pa.Table):
            rows = pa.Table.from_pylist(list(rows), schema=self.schema)
        name = self._put(rows.cast(self.schema), "snapshot.parquet")
        fs, _ = self._fs()
        for shard in self.shards():
            if not shard.endswith(name):
                fs.rm(shard)

    def clear(self) -> None:
        """Remove the table and its folder."""
        fs, root = self._fs()
        if fs.exists(root):
            fs.rm(root, recursive=True)

    def shards(self) -> list[str]:
        """Paths of the finished shards, sorted by name."""
        fs, root = self._fs()
        fs.invalidate_cache(root)  # object storage remembers listings, other processes write
        if not fs.exists(root):
            return []
        return sorted(p for p in fs.ls(root, detail=False) if _is_shard(p))

    def read(
        self,
        *,
        columns: Sequence[str] | None = None,
        keys: Iterable[str] | None = None,
        shards: Sequence[str] | None = None,
    ) -> pa.Table:
        """Read rows, of all or the given shards, optionally only those whose ``key`` is listed."""
        fs, _ = self._fs()
        filters = None if keys is None else [("key", "in", list(keys))]
        names = list(columns or self.schema.names)
        empty = pa.schema([self.schema.field(n) for n in names]).empty_table()
        if keys is not None and not filters[0][2]:  # type: ignore[index]
            return empty
        tables = [
            pq.read_table(
                path,
                columns=names,
                filters=filters,
                filesystem=fs,
                partitioning=None,
                schema=self.schema,  # a column that an older shard lacks is null
            )
            for path in (self.shards() if shards is None else shards)
        ]
        return pa.concat_tables([empty, *(t.cast(empty.schema) for t in tables)])

    def shard_of_key(self) -> dict[str, str]:
        """Map every ``key`` to the first shard that holds it."""
        where: dict[str, str] = {}
        for shard in self.shards():
            for key in self.read(columns=["key"], shards=[shard])["key"].to_pylist():
                where.setdefault(key, shard)
        return where

    def _put(self, table: pa.Table, name: str) -> str:
        fs, root = self._fs()
        fs.makedirs(root, exist_ok=True)
        temporary = f"{root}/.{name}.{uuid.uuid4().hex[:8]}.tmp"
        try:
            with fs.open(temporary, "wb") as file:
                pq.write_table(table, file, compression="zstd")
            fs.mv(temporary, f"{root}/{name}")
        except BaseException:
            if fs.exists(temporary):
                fs.rm(temporary)
            raise
        return name

    def _fs(self) -> tuple[Any, str]:
        fs, root = fsspec.core.url_to_fs(self.path)
        return fs, root


def _is_shard(path: str) -> bool:
    name = path.rsplit("/", 1)[-1]
    return name.endswith(".parquet") and not name.startswith(".")


@dataclass(frozen=True)
class RunFolder:
    """Where the tables of one run lie; ``out`` is a folder or an fsspec URL."""

    out: str

    def path(self, *parts: str) -> str:
        """Join ``parts`` below the run's folder."""
        return "/".join((self.out.rstrip("/"), *parts))

    @property
    def clips(self) -> Table:
        return Table(self.path("tables", "clips"), CLIP_SCHEMA)

    @property
    def tracks(self) -> Table:
        return Table(self.path("tables", "tracks"), TRACK_SCHEMA)

    @property
    def crops(self) -> Table:
        return Table(self.path("tables", "crops"), CROP_SCHEMA)

    @property
    def status(self) -> Table:
        return Table(self.path("tables", "status"), STATUS_SCHEMA)

    @property
    def rejects(self) -> Table:
        return Table(self.path("tables", "rejects"), STATUS_SCHEMA)

    @property
    def predictions(self) -> Table:
        return Table(self.path("predictions"), PREDICTION_SCHEMA)

    def features(self, encoder: str, fingerprint: str) -> Table:
        return Table(self.path("tables", "features", encoder, fingerprint), FEATURE_SCHEMA)

    def create(self) -> RunFolder:
        """Make every folder of the run."""
        for table in (self.clips, self.tracks, self.crops, self.status, self.rejects):
            table.create()
        self.predictions.create()
        Table(self.path("tables", "features"), FEATURE_SCHEMA).create()
        return self


def row_key(fingerprint: str, *parts: object) -> str:
    """Return the key of a row: what was read (``parts``) and how (``fingerprint``), by content."""
    text = "\x1f".join([fingerprint, *("" if p is None else repr(p) for p in parts)])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def latest_status(status: pa.Table) -> dict[str, dict[str, Any]]:
    """Return one status row per key; a clip once done stays done."""
    rows: dict[str, dict[str, Any]] = {}
    for row in status.to_pylist():
        known = rows.get(row["key"])
        if known is None or known["state"] != DONE:
            rows[row["key"]] = row
    return rows
