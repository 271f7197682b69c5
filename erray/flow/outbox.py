"""Finished training runs on their way to the tracking store: kept on disk until they are there.

An entry is a small JSON file in ``<out>/outbox``; metrics, model and history stay in the run's
folder. A store that is away, or a driver that ends, loses nothing: the next step of the run
sends what waits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from erray.credentials import without_credentials
from erray.registry import Registry
from erray.store import write_json
from erray.training.runs import TrainingRun


@dataclass(frozen=True)
class Outbox:
    """What waits to be sent from the run in ``out``."""

    out: Path
    registry: Registry

    def put(
        self, run: TrainingRun, *, params: Mapping[str, Any], tags: Mapping[str, str], parent: str
    ) -> None:
        """Let a finished training run wait; it replaces an earlier entry of the same folder."""
        run.tracking.unlink(missing_ok=True)
        name = run.folder.relative_to(self.out).as_posix()
        entry = {
            "run": name,
            "params": params,
            "tags": tags,
            "parent": parent,
            "store": without_credentials(self.registry.uri),
            "started": None,
        }
        write_json(self._folder / f"{name.replace('/', '--')}.json", entry)

    def waiting(self) -> list[Path]:
        """The entries' files."""
        return sorted(self._folder.glob("*.json"))

    def send(self, parent: str) -> None:
        """Send every entry; each run gets its ``tracking.json`` when all of it has arrived.

        A run that was sent in part is deleted from the store and sent anew: nothing of it is
        there twice.

        Args:
            parent: run that entries belong to whose own parent is in another store.

        Raises:
            StoreAway: the entries that are left wait for the next call.
        """
        for path in self.waiting():
            self._send(path, parent)

    def _send(self, path: Path, parent: str) -> None:
        entry = json.loads(path.read_text(encoding="utf-8"))
        run, registry = TrainingRun(self.out / entry["run"]), self.registry
        store = without_credentials(registry.uri)
        if not registry.is_store(entry["store"], entry["parent"]):
            entry |= {"store": store, "parent": parent, "started": None}
        if entry["started"] is not None:
            registry.discard(entry["started"])
        run_id = registry.start_run(run.name, parent=entry["parent"], tags=entry["tags"])
        write_json(path, {**entry, "started": run_id})
        registry.log_params(run_id, entry["params"])
        registry.log_metrics(run_id, run.history()["epochs"])
        registry.log_folder(run_id, run.model, "model")
        registry.log_file(run_id, run.folder / "history.json")
        registry.finish(run_id)
        write_json(run.tracking, {"run_id": run_id, "uri": store})
        path.unlink()

    @property
    def _folder(self) -> Path:
        return self.out / "outbox"
