"""A table: a folder of Parquet shards of one schema.

A shard's name comes from the keys it holds, so that a task that runs twice writes the same shard
twice. Readers take whole shards only, never a file that is still being written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from erray.errors import UserError
from erray.store.folder import Folder

_CHUNK_BYTES = 32 * 2**20
_SCAN_ROWS = 8  # of the crops table: 256 pictures each

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """Rows of one schema in the folder (or fsspec URL) ``path``.

    Every method raises UserError when the storage fails (see :class:`Folder`).
    """

    path: str
    schema: pa.Schema

    def create(self) -> None:
        """Make the folder, so that it exists even when no row is ever written."""
        self.folder.create()

    def write_shard(self, rows: Iterable[Row], *, keys: Sequence[str]) -> str | None:
        """Write ``rows`` as the shard named after ``keys``; no rows, no shard.

        Rows become Arrow and Parquet chunk by chunk (a row group of about 32 MB each), so that
        what is written exists once besides ``rows`` however long a clip is. An iterator is kept
        as a list first, since a write that fails begins again.

        Returns:
            The shard's file name, None when there was nothing to write.
        """
        kept = list(rows) if isinstance(rows, Iterator) else rows
        if not any(True for _ in kept):
            return None
        digest = hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest()[:24]
        return self.write(f"shard-{digest}.parquet", lambda: self._chunks(kept))

    def replace(self, rows: pa.Table | Iterable[Row]) -> None:
        """Make ``rows`` the whole content of the table, as one snapshot."""
        if not isinstance(rows, pa.Table):
            rows = pa.Table.from_pylist(list(rows), schema=self.schema)
        whole = rows.cast(self.schema)
        self._snapshot(lambda: [whole])

    def replace_by(self, other: Table) -> None:
        """Make the content of ``other`` the whole content of this one, a row group at a time."""
        self._snapshot(other.row_groups)

    def _snapshot(self, chunks: Callable[[], Iterable[pa.Table]]) -> None:
        snapshot = self.write("snapshot.parquet", chunks)
        others = (path.rsplit("/", 1)[-1] for path in self.shards())
        self.folder.remove([name for name in others if name != snapshot])

    def write(self, name: str, chunks: Callable[[], Iterable[pa.Table]]) -> str:
        """Write the tables that ``chunks()`` yields as the file ``name``, row groups of their own.

        ``chunks`` is called again when the storage fails. Returns ``name``.
        """

        names = [field.name for field in self.schema if pa.types.is_string(field.type)]

        def content(file: Any) -> None:
            with pq.ParquetWriter(
                file,
                self.schema,
                compression="zstd",
                # pictures and tensors do not repeat, and their least and greatest say nothing
                use_dictionary=names,
                write_statistics=names,
            ) as writer:
                for chunk in chunks():
                    writer.write_table(chunk)

        self.folder.write(name, content)
        return name

    def clear(self) -> None:
        """Remove the table and its folder."""
        self.folder.clear()

    def shards(self) -> list[str]:
        """Paths of the finished shards, sorted by name."""
        return [path for path in self.folder.files() if path.endswith(".parquet")]

    def shard(self, name: str) -> str:
        """Path of the shard with this file name."""
        return self.folder.file(name)

    def read(
        self,
        *,
        columns: Sequence[str] | None = None,
        keys: Iterable[str] | None = None,
        shards: Iterable[str] | None = None,
        where: Mapping[str, str] | None = None,
    ) -> pa.Table:
        """Read rows, in the order of the shards' names.

        Args:
            columns: names; None: all of the schema.
            keys: only rows with one of these.
            shards: only rows of these paths.
            where: only rows with these values, by column.
        """
        names = list(columns or self.schema.names)
        empty = pa.schema([self.schema.field(n) for n in names]).empty_table()
        filters: list[tuple[str, str, Any]] = [(n, "=", v) for n, v in (where or {}).items()]
        if keys is not None:
            filters.append(("key", "in", list(keys)))
            if not filters[-1][2]:
                return empty

        def read() -> pa.Table:
            # listed again by every try: a shard may have been merged with others meanwhile
            paths = self.shards() if shards is None else shards
            return pa.concat_tables([empty, *(self._read(p, names, filters) for p in paths)])

        return self.folder.attempt("read", read)

    def scan(self, *, keys: Iterable[str], shards: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Yield the rows with one of ``keys``, a few in memory at a time."""
        wanted = pa.array(set(keys), pa.string())
        for group in self.row_groups(shards):
            yield from group.filter(pc.is_in(group["key"], wanted)).to_pylist()

    def row_groups(self, shards: Iterable[str] | None = None) -> Iterator[pa.Table]:
        """Yield all rows of ``shards`` (None: of the table) in their order, a few at a time."""
        fs, _ = self.folder.storage()
        for path in self.shards() if shards is None else shards:
            with self.folder.attempt("read", partial(fs.open, path, "rb")) as file:
                # read ahead, the whole file would be kept until the last batch
                parquet = pq.ParquetFile(file, pre_buffer=False)
                groups = parquet.iter_batches(batch_size=_SCAN_ROWS)
                step = partial(next, groups, None)
                while (group := self.folder.attempt("read", step)) is not None:
                    yield pa.Table.from_batches([group])

    def shard_of_key(self) -> dict[str, str]:
        """Map every ``key`` to the path of the first shard that holds it; reads every shard."""
        where: dict[str, str] = {}
        for shard in self.shards():
            for key in self.read(columns=["key"], shards=[shard])["key"].to_pylist():
                where.setdefault(key, shard)
        return where

    @property
    def folder(self) -> Folder:
        return Folder(self.path)

    def _read(self, path: str, columns: list[str], filters: list[tuple[str, str, Any]]) -> pa.Table:
        fs, _ = self.folder.storage()
        try:
            return pq.read_table(
                path,
                columns=columns,
                filters=filters or None,
                filesystem=fs,
                partitioning=None,
                schema=self.schema,  # a column that an older shard lacks is null
            )
        except pa.ArrowInvalid as error:
            why = " ".join(str(error).split())
            raise UserError(
                f"{path} is damaged ({why}): put back a copy, or move the run's tables away and "
                f"extract again"
            ) from None

    def _chunks(self, rows: Iterable[Row]) -> Iterator[pa.Table]:
        chunk: list[Row] = []
        num_bytes = 0
        for row in rows:
            chunk.append(row)
            num_bytes += sum(map(_num_bytes, row.values()))
            if num_bytes >= _CHUNK_BYTES:
                yield pa.Table.from_pylist(chunk, schema=self.schema)
                chunk, num_bytes = [], 0
        if chunk:
            yield pa.Table.from_pylist(chunk, schema=self.schema)


def _num_bytes(value: Any) -> int:
    """Size of a cell in Arrow, near enough: 8 bytes for a number, a list by its first item."""
    if isinstance(value, bytes | str | memoryview):
        return len(value)
    if isinstance(value, list) and value:
        if isinstance(value[0], bytes | str):
            return sum(map(len, value))
        return 8 * (sum(map(len, value)) if isinstance(value[0], list) else len(value))
    return 8
