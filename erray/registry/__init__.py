"""Runs, metrics, artifacts and model versions in MLflow; the only room that knows MLflow.

The default store is one sqlite file and one artifact folder under ``ERRAY_HOME``. A model version
is a folder of plain files (safetensors, JSON, Parquet, Markdown, sha256 sums): it is uploaded and
downloaded as bytes, so that no pickle is ever read. Only the driver talks to this room.
"""

from erray.registry.aliases import BACK, BETTER, FIRST, FORCED, Move, Registry
from erray.registry.connection import StoreAway
from erray.registry.names import require_valid_names
from erray.registry.runs import COMMIT_TAG, RunFacts
from erray.registry.versions import FetchedModel, Version

__all__ = [
    "BACK",
    "BETTER",
    "COMMIT_TAG",
    "FIRST",
    "FORCED",
    "FetchedModel",
    "Move",
    "Registry",
    "RunFacts",
    "StoreAway",
    "Version",
    "require_valid_names",
]
