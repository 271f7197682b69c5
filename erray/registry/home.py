"""A home that was moved or copied: its database holds the whole address of every file.

MLflow writes the folder of an experiment's files into the experiment, into each run and into each
model version. Left as they are, a moved home would be read from where it was, and written there.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from erray.errors import UserError

DATABASE, ARTIFACTS = "mlflow.db", "artifacts"
_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("logged_models", "artifact_location"),
)
_BUSY_S = 30.0


@dataclass(frozen=True)
class FormerHome:
    """Another home that the database in this one still names.

    Attributes:
        uri: its folder of files as the database has it.
        path: the same folder.
        num_left: runs whose files are there and not in this home.
        has_moved: its files are in this home, or nowhere; else they are still there.
    """

    uri: str
    path: Path
    num_left: int
    has_moved: bool


def former_homes(home: Path) -> list[FormerHome]:
    """Other homes that the database of ``home`` names; nothing is written.

    A folder of files that is not one of a home (somebody chose it for an experiment) is none.
    """
    if not (home / DATABASE).is_file():
        return []
    query = (
        "SELECT e.artifact_location, r.run_uuid FROM experiments e "
        "LEFT JOIN runs r ON r.experiment_id = e.experiment_id"
    )
    runs: dict[str, list[str]] = {}
    try:
        with closing(sqlite3.connect(home / DATABASE, timeout=_BUSY_S)) as store:
            for uri, run in store.execute(query):
                runs.setdefault(uri or "", []).extend([] if run is None else [run])
    except sqlite3.DatabaseError:  # no store of MLflow's: who opens it says so
        return []
    found = (_former_home(home, uri, of_experiment) for uri, of_experiment in runs.items())
    return [former for former in found if former is not None]


def move_addresses(home: Path, former: FormerHome) -> None:
    """Let every address below the former home lead into ``home``, in one transaction.

    Raises:
        UserError: its files are still there and not here, or the database cannot be written.
    """
    root = home / ARTIFACTS
    if not former.has_moved:
        raise UserError(
            f"{home / DATABASE} was made in {former.path.parent}, where its files still are: "
            f"`cp -r {former.path} {root}` brings them here; or set ERRAY_HOME={former.path.parent}"
        )
    try:
        with closing(sqlite3.connect(home / DATABASE, timeout=_BUSY_S)) as store, store:
            store.execute("BEGIN IMMEDIATE")
            tables = {name for (name,) in store.execute("SELECT name FROM sqlite_master")}
            for table, column in _ADDRESSES:
                if table in tables:
                    store.execute(
                        f"UPDATE {table} SET {column} = :new || substr({column}, :after) "
                        f"WHERE {column} = :old OR substr({column}, 1, :after) = :old || '/'",
                        {"new": root.as_uri(), "old": former.uri, "after": len(former.uri) + 1},
                    )
    except sqlite3.OperationalError as error:
        raise UserError(
            f"{home} was moved from {former.path.parent}, and the addresses in {DATABASE} cannot "
            f"be changed ({error}): run any command once where {home} can be written"
        ) from None


def local_path(uri: str) -> Path | None:
    """The folder that an address of files names; None where they are not on a disk."""
    parts = urlsplit(uri)
    return Path(unquote(parts.path)) if parts.scheme == "file" and not parts.netloc else None


def _former_home(home: Path, uri: str, runs: list[str]) -> FormerHome | None:
    root, path = home / ARTIFACTS, local_path(uri)
    if path is None or path == root or path.name != ARTIFACTS:
        return None
    if path.is_dir() and root.is_dir() and path.samefile(root):
        return None  # the same folder by another name
    here = {run for run in runs if (root / run).is_dir()}
    there = {run for run in runs if (path / run).is_dir()}
    is_home = (path.parent / DATABASE).is_file()
    if not here and not is_home and path.parent.exists():
        return None
    return FormerHome(uri, path, len(there - here), bool(here) or not there)
