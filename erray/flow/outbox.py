"""Training runs on their way to the tracking store: kept on disk until all of them is there.

An entry is a small JSON file in ``<out>/outbox``, and beside it a line per epoch with the time when
it ended; model and history stay in the run's folder. Epochs are sent as they end. A store that is
away, or a driver that ends, loses nothing: what has not arrived is sent with a later epoch, or by
the next step of the run. An epoch is always sent with the time that it was first told with, and a
store keeps equal values once, so that nothing is there twice.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from erray.credentials import without_credentials
from erray.registry import Registry, StoreAway
from erray.store import append_line, write_json
from erray.training.events import EpochEnd
from erray.training.runs import TrainingRun

_PAUSE_S = 5.0  # between two tries while the store is away


@dataclass(frozen=True, slots=True)
class _Told:
    """A row of the history, and when its epoch ended, in seconds since 1970."""

    row: Mapping[str, float]
    time_s: float


class Outbox:
    """What waits to be sent from the run in ``out``."""

    def __init__(self, out: Path, registry: Registry) -> None:
        self.out, self.registry = out, registry
        self._told: dict[Path, dict[int, _Told]] = {}
        self._opened: dict[Path, str] = {}
        self._next_try_s = 0.0

    def begin(
        self, run: TrainingRun, *, params: Mapping[str, Any], tags: Mapping[str, str], parent: str
    ) -> None:
        """The training of a run begins, or goes on: from now on its epochs are sent."""
        self._write(run, params=params, tags=tags, parent=parent, done=False)

    def epoch(self, run: TrainingRun, event: EpochEnd) -> None:
        """Keep an epoch and send it; a store that is away gets it with a later one.

        What is told twice, since a lost worker's epochs are trained again, is kept once.
        """
        path = self._path(run)
        told = self._told_of(path)
        if event.epoch in told:
            return
        self._keep(path, event.epoch, _Told(event.row, event.time_s))
        if time.monotonic() < self._next_try_s:
            return
        rows = [told[event.epoch]] if path in self._opened else list(told.values())
        try:
            with self.registry.patience(0):
                run_id = self._open(path, run)
        except StoreAway:
            self._next_try_s = time.monotonic() + _PAUSE_S
            return
        self.registry.log_metrics(run_id, [r.row for r in rows], times_s=[r.time_s for r in rows])

    def put(
        self, run: TrainingRun, *, params: Mapping[str, Any], tags: Mapping[str, str], parent: str
    ) -> None:
        """Let a finished training run wait; it replaces an earlier entry of the same folder."""
        run.tracking.unlink(missing_ok=True)
        self._write(run, params=params, tags=tags, parent=parent, done=True)

    def waiting(self) -> list[Path]:
        """The files of the entries whose training has ended."""
        return [path for path in self._paths() if _read(path).get("done", True)]

    def send(self, parent: str) -> None:
        """Send every finished run; each gets its ``tracking.json`` when all of it has arrived.

        Args:
            parent: run that entries belong to whose own parent is in another store.

        Raises:
            StoreAway: the entries that are left wait for the next call.
        """
        for path in self.waiting():
            self._send(path, parent)

    def interrupt(self) -> None:
        """Close the runs whose training was begun here and did not end; it may go on later."""
        for path, run_id in self._opened.items():
            if path.is_file():
                self._fail(run_id)
        self._opened.clear()

    def _write(
        self,
        run: TrainingRun,
        *,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        parent: str,
        done: bool,
    ) -> None:
        path = self._path(run)
        known = _read(path) if path.is_file() else {}
        entry = {
            "run": run.folder.relative_to(self.out).as_posix(),
            "params": params,
            "tags": tags,
            "parent": parent,
            "store": without_credentials(self.registry.uri),
            "started": None,
            "done": done,
        }
        same = known.get("tags") == dict(tags) and "done" in known
        here = bool(known) and self.registry.is_store(known["store"], known["parent"])
        if same and here:
            entry |= {"started": known["started"], "parent": known["parent"]}
        if not same:
            if here and known["started"] is not None:
                self._fail(known["started"])  # of another job, which nobody goes on with
            self._forget(path)
        write_json(path, entry)

    def _open(self, path: Path, run: TrainingRun) -> str:
        """The id of the entry's run in the store, which is started where it is not yet."""
        if path in self._opened:
            return self._opened[path]
        entry = _read(path)
        if entry["started"] is None:
            run_id = self.registry.start_run(run.name, parent=entry["parent"], tags=entry["tags"])
            write_json(path, {**entry, "started": run_id})
            self.registry.log_params(run_id, entry["params"])
        else:
            run_id = entry["started"]
            self.registry.reopen(run_id)
        self._opened[path] = run_id
        return run_id

    def _send(self, path: Path, parent: str) -> None:
        entry = _read(path)
        run, registry = TrainingRun(self.out / entry["run"]), self.registry
        store = without_credentials(registry.uri)
        if not registry.is_store(entry["store"], entry["parent"]):
            entry |= {"store": store, "parent": parent, "started": None}
        if entry["started"] is not None and "done" not in entry:
            # of an earlier erray, which kept no times: what is there would be there twice
            registry.discard(entry["started"])
            entry["started"] = None
        write_json(path, {**entry, "done": True})
        run_id = self._open(path, run)
        registry.log_params(run_id, entry["params"])
        history = run.history()
        rows = self._rows(path, history["epochs"])
        registry.log_metrics(run_id, [r.row for r in rows], times_s=[r.time_s for r in rows])
        best = history["best_epoch"]
        registry.log_metrics(run_id, [best_scores(history)], times_s=[rows[best].time_s])
        registry.log_folder(run_id, run.model, "model")
        registry.log_file(run_id, run.folder / "history.json")
        registry.finish(run_id)
        write_json(run.tracking, {"run_id": run_id, "uri": store})
        self._forget(path)
        path.unlink()

    def _fail(self, run_id: str) -> None:
        try:
            with self.registry.patience(0):
                self.registry.finish(run_id, failed=True)
        except StoreAway:
            return  # it stays open in the store

    def _rows(self, path: Path, epochs: list[dict[str, float]]) -> list[_Told]:
        """Every row of a history as it was told; one that was not told gets its time now."""
        told = self._told_of(path)
        for number, row in enumerate(epochs):
            if number not in told:
                self._keep(path, number, _Told(row, time.time()))
        return [told[number] for number in range(len(epochs))]

    def _told_of(self, path: Path) -> dict[int, _Told]:
        if path not in self._told:
            found: dict[int, _Told] = {}
            file = _epochs_file(path)
            for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
                try:
                    epoch, time_s, row = json.loads(line)
                except ValueError:
                    continue  # between two lines, or cut off with its driver
                found[epoch] = _Told(row, time_s)
            self._told[path] = found
        return self._told[path]

    def _keep(self, path: Path, epoch: int, told: _Told) -> None:
        self._told_of(path)[epoch] = told
        append_line(_epochs_file(path), json.dumps([epoch, told.time_s, told.row]))

    def _forget(self, path: Path) -> None:
        self._told.pop(path, None)
        self._opened.pop(path, None)
        _epochs_file(path).unlink(missing_ok=True)

    def _paths(self) -> list[Path]:
        return sorted((self.out / "outbox").glob("*.json"))

    def _path(self, run: TrainingRun) -> Path:
        name = run.folder.relative_to(self.out).as_posix()
        return self.out / "outbox" / f"{name.replace('/', '--')}.json"


def best_scores(history: Mapping[str, Any]) -> dict[str, float]:
    """Val scores of the epoch that val chose, named ``best_val_...``, as one row of its epoch.

    A store shows the last value of a series, which is the last epoch's.
    """
    best = history["best_epoch"]
    scores = history["epochs"][best]
    found = {f"best_{name}": value for name, value in scores.items() if name.startswith("val_")}
    return {"epoch": best, "best_epoch": best, **found}


def _epochs_file(path: Path) -> Path:
    return path.with_suffix(".epochs.jsonl")


def _read(path: Path) -> dict[str, Any]:
    entry: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return entry
