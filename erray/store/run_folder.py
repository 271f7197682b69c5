"""Where everything of a run lies, and the keys of its rows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from erray.config import Recipe
from erray.records import (
    CLIP_SCHEMA,
    CROP_SCHEMA,
    FEATURE_SCHEMA,
    PREDICTION_SCHEMA,
    STATUS_SCHEMA,
    TRACK_SCHEMA,
    TRANSCRIPT_SCHEMA,
)
from erray.store.folder import Folder
from erray.store.status import StatusTable
from erray.store.tables import Table


@dataclass(frozen=True)
class RunFolder:
    """Places of one run.

    Attributes:
        out: the run's folder: predictions, training runs, report.
        tables: folder or fsspec URL of what an extraction writes; None: ``tables`` in ``out``.
    """

    out: str
    tables: str | None = None

    @classmethod
    def of(cls, recipe: Recipe, out: str | Path) -> RunFolder:
        """Return the places of the recipe's run in the folder ``out``."""
        tables = recipe.extract.tables
        if tables is not None and "://" not in tables:
            tables = str(Path(tables).absolute())  # a worker may stand in another folder
        return cls(str(out), tables)

    def path(self, *parts: str) -> str:
        """Join ``parts`` below the run's folder."""
        return "/".join((self.out.rstrip("/"), *parts))

    @property
    def root(self) -> str:
        """Folder or URL of the tables: who writes to any of them holds its lock."""
        return self.path("tables") if self.tables is None else self.tables.rstrip("/")

    @property
    def clips(self) -> Table:
        return Table(self._table("clips"), CLIP_SCHEMA)

    @property
    def transcripts(self) -> Table:
        return Table(self._table("transcripts"), TRANSCRIPT_SCHEMA)

    @property
    def tracks(self) -> Table:
        return Table(self._table("tracks"), TRACK_SCHEMA)

    @property
    def crops(self) -> Table:
        return Table(self._table("crops"), CROP_SCHEMA)

    @property
    def status(self) -> StatusTable:
        return StatusTable(self._table("status"), STATUS_SCHEMA)

    @property
    def rejects(self) -> Table:
        return Table(self._table("rejects"), STATUS_SCHEMA)

    @property
    def predictions(self) -> Table:
        return Table(self.path("predictions"), PREDICTION_SCHEMA)

    @property
    def prediction_rejects(self) -> Table:
        """Clips that have features and no prediction."""
        return Table(self.path("prediction_rejects"), STATUS_SCHEMA)

    def features(self, encoder: str, fingerprint: str) -> Table:
        return Table(self._table("features", encoder, fingerprint), FEATURE_SCHEMA)

    def create(self) -> RunFolder:
        """Make every folder of the run.

        Raises:
            UserError: a folder cannot be made.
        """
        for table in (self.clips, self.tracks, self.crops, self.status, self.rejects):
            table.create()
        self.predictions.create()
        Folder(self._table("features")).create()
        return self

    def check_writable(self) -> None:
        """Write a small file among the tables and remove it.

        Raises:
            UserError: it cannot be written.
        """
        Folder(self.root).check_writable()

    def _table(self, *parts: str) -> str:
        return "/".join((self.root, *parts))


def row_key(fingerprint: str, *parts: object) -> str:
    """Return the key of a row: what was read (``parts``) and how (``fingerprint``), by content."""
    text = "\x1f".join([fingerprint, *("" if p is None else repr(p) for p in parts)])
    return hashlib.sha256(text.encode()).hexdigest()[:32]
