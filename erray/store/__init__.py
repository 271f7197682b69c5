"""Tables as folders of Parquet shards, on a disk or in object storage."""

from erray.store.json_file import write_json
from erray.store.lock import Held, hold
from erray.store.run_folder import RunFolder, row_key
from erray.store.status import ShardPlaces, StatusTable
from erray.store.tables import Table

__all__ = [
    "Held",
    "RunFolder",
    "ShardPlaces",
    "StatusTable",
    "Table",
    "hold",
    "row_key",
    "write_json",
]
