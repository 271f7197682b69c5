"""Where a study lies: a journal file of Optuna's, or a PostgreSQL database; and who may drive it.

The storage is the truth of a search: every suggestion, epoch and end of a trial is in it before
anything else happens, so that a driver may die at any time.
"""

from __future__ import annotations

import fcntl
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import sqlalchemy
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from erray.credentials import without_credentials
from erray.errors import UserError

JOURNAL = "study.journal"
_CONNECT_S = 10
_LOGGER = logging.getLogger(__name__)
Storage = JournalStorage | RDBStorage


@contextmanager
def open_study(name: str, *, folder: Path, url: str | None) -> Iterator[optuna.Study]:
    """Yield the study ``name``, made if it is not there; nobody else may drive it meanwhile.

    Args:
        folder: of the journal file ``study.journal``, where there is no ``url``.
        url: of a PostgreSQL database (``tune.storage``); None: the journal file.

    Raises:
        UserError: another search drives this study now, or the database cannot be opened.
    """
    with _journal(folder) if url is None else _database(url, name) as storage:
        others = [] if url else [s for s in optuna.get_all_study_names(storage) if s != name]
        study = optuna.create_study(
            storage=storage, study_name=name, direction="maximize", load_if_exists=True
        )
        if others and not study.get_trials(deepcopy=False):
            _LOGGER.warning(
                "%s holds %d earlier stud%s, made with other settings or another version of erray: "
                "kept, and a new one begins beside %s",
                folder / JOURNAL,
                len(others),
                *(("y", "it") if len(others) == 1 else ("ies", "them")),
            )
        yield study


@contextmanager
def _journal(folder: Path) -> Iterator[Storage]:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / JOURNAL
    with (folder / f"{JOURNAL}.driver").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another search writes {path} now: wait for it to end, or give another folder "
                f"with --out"
            ) from None
        _cut_half_line(path)
        yield JournalStorage(JournalFileBackend(str(path)))


def _cut_half_line(path: Path) -> None:
    """Drop what a killed driver wrote of its last line: the next line would be spoilt by it."""
    if not path.is_file():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)


@contextmanager
def _database(url: str, name: str) -> Iterator[Storage]:
    shown = without_credentials(url)
    with _refused(shown), warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        storage = RDBStorage(url)
    # held by this connection alone: the server drops it with the driver, or at the end of the block
    with storage.engine.connect() as connection:
        connection.detach()  # else the pool would keep it open, and locked
        lock = sqlalchemy.text("SELECT pg_try_advisory_lock(:key)")
        if not connection.execute(lock, {"key": int(name[:15], 16)}).scalar():
            raise UserError(
                f"another search drives the study {name} in {shown} now: wait for it to end"
            )
        connection.commit()
        yield storage


def require_storage(url: str) -> None:
    """See that the database of ``tune.storage`` can be opened; nothing is made in it.

    Raises:
        UserError: it cannot.
    """
    with _refused(without_credentials(url)):
        engine = sqlalchemy.create_engine(url, connect_args={"connect_timeout": _CONNECT_S})
        engine.connect().close()
        engine.dispose()


@contextmanager
def _refused(shown: str) -> Iterator[None]:
    """Turn what opening a database raises into one line; ``shown`` is its URL without password."""
    try:
        yield
    except (ArgumentError, ImportError, SQLAlchemyError) as error:
        reason = without_credentials(" ".join(str(error).split()))[:200]
        raise UserError(
            f"tune.storage {shown} cannot be opened: {reason}; start the server, or set "
            f"tune.storage to null for a file"
        ) from None
    except ValueError:  # of the port; its text may quote a part of the password
        raise UserError(
            f"tune.storage {shown} cannot be read: expected a number as port, and @ and : of a "
            f"password percent-encoded"
        ) from None
