"""Runs, metrics, artifacts and model versions in MLflow; the only room that knows MLflow.

The default store is one sqlite file and one artifact folder under ``ERRAY_HOME``. A model version
is a folder of plain files (safetensors, JSON, sha256 sums): it is uploaded and downloaded as
bytes, so that no pickle is ever read. Only the driver talks to this room.
"""

from erray.registry.versions import FetchedModel, Registry, require_valid_names

__all__ = ["FetchedModel", "Registry", "require_valid_names"]
