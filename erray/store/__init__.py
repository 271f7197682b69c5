"""Tables as folders of Parquet shards, on a disk or in object storage."""

from erray.store.folder import Folder
from erray.store.lock import Held, hold
from erray.store.run_folder import RunFolder, row_key
from erray.store.status import ShardPlaces, StatusTable
from erray.store.tables import Table
from erray.store.whole_file import (
    append_line,
    csv_text,
    replacing,
    write_csv,
    write_json,
    write_text,
)

__all__ = [
    "Folder",
    "Held",
    "RunFolder",
    "ShardPlaces",
    "StatusTable",
    "Table",
    "append_line",
    "csv_text",
    "hold",
    "replacing",
    "row_key",
    "write_csv",
    "write_json",
    "write_text",
]
