"""The content of a run's tables, to compare two runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

TABLES = ("clips", "tracks", "crops", "status", "rejects", "features")
# what depends on the machine, and on which clips shared a batch
INCIDENTAL = ("seconds", "shard")


def rows(folder: Path) -> list[dict[str, Any]]:
    """Every row of a table, or of several below one folder."""
    shards = sorted(folder.rglob("*.parquet"))
    return [row for shard in shards for row in pq.ParquetFile(shard).read().to_pylist()]


def contents(out: Path) -> dict[str, list[str]]:
    """Every table's rows in an order of their own, without what is incidental."""
    return {
        name: sorted(
            repr({k: v for k, v in row.items() if k not in INCIDENTAL})
            for row in rows(out / "tables" / name)
        )
        for name in TABLES
    }
