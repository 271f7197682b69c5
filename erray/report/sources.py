"""Reads what a run left in its folder, checked and in memory, for the page to show."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from erray.errors import UserError
from erray.evaluation.clips import stored_logits
from erray.records import PREDICTION_SCHEMA, STATUS_SCHEMA, Clip
from erray.run_record import RunRecord
from erray.store import RunFolder, Table

FUSION, TUNED = "fusion", "tuned"
"""Runs of all streams: by the recipe's own settings, and by those that the study found."""

ABLATION_FILE = "ablation.json"
"""In the run's folder: the table of `erray ablate`."""

_STATUS_COLUMNS = ["clip_id", "stage", "fingerprint", "key", "state", "reason", "note"]
_PLACE_COLUMNS = ["num_tracks", "shard"]


@dataclass(frozen=True)
class ClipPrediction:
    """What a model says of one clip: logits per tick, one class for the clip."""

    clip_id: str
    group: str
    label: str | None
    classes: tuple[str, ...]
    times_s_T: NDArray[np.float64]
    logits_TC: NDArray[np.float32]
    probabilities_C: NDArray[np.float64]
    predicted: str

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> ClipPrediction:
        """Build a prediction from a row of the predictions table.

        Raises:
            UserError: see :func:`erray.evaluation.clips.stored_logits`.
        """
        logits_TC = stored_logits(row)
        assert logits_TC.shape == (len(row["times_s"]), len(row["classes"])), logits_TC.shape
        return cls(
            clip_id=row["clip_id"],
            group=row["group"],
            label=row["label"],
            classes=tuple(row["classes"]),
            times_s_T=np.asarray(row["times_s"], dtype=np.float64),
            logits_TC=logits_TC,
            probabilities_C=np.asarray(row["probabilities"], dtype=np.float64),
            predicted=row["predicted"],
        )

    @property
    def confidence(self) -> float:
        """Probability of the class that was predicted."""
        return float(self.probabilities_C[self.classes.index(self.predicted)])

    @property
    def length_s(self) -> float:
        """Seconds from the first tick to the last."""
        return float(self.times_s_T[-1] - self.times_s_T[0])


@dataclass(frozen=True)
class RunData:
    """A run folder as the report sees it.

    Training runs are keyed by name: ``fusion``, ``tuned``, then single streams. ``main`` is the
    one whose model is registered (validation chose it), ``fusion`` where none is. ``temperatures``
    are those of the runs' models. A test clip that a run has rejected is in none of them, but in
    ``left_out``: clip id to reason.
    """

    folder: RunFolder
    record: RunRecord
    clips: dict[str, Clip]
    test: dict[str, list[ClipPrediction]]
    left_out: dict[str, str]
    challenge: list[ClipPrediction]
    histories: dict[str, dict[str, Any]]
    temperatures: dict[str, float]
    study: dict[str, Any] | None
    ablation: dict[str, Any] | None
    status: list[dict[str, Any]]
    rejects: list[dict[str, Any]]
    submission: bool

    @property
    def main(self) -> str:
        """Name of the run that the page is about."""
        return self.registered or FUSION

    @property
    def registered(self) -> str | None:
        """Name of the run whose model is registered; None where that is none of these."""
        run = None if self.record.model is None else self.record.model.get("run", FUSION)
        return run if run in self.test else None

    @property
    def test_was_searched(self) -> bool:
        """A search over folds chose the main run's settings by clips of test, too."""
        against = self.study["against_recipe"] if self.study and self.main == TUNED else None
        return against is not None and bool(against["test_was_searched"])

    @property
    def holdout_was_searched(self) -> bool:
        """The same of the clips that are set apart."""
        study = self.study if self.main == TUNED else None
        return study is not None and bool(study.get("holdout_was_searched"))

    @property
    def shown(self) -> list[ClipPrediction]:
        """Test predictions of the main run, by clip id."""
        return self.test[self.main]


def read_run(folder: RunFolder, *, streams: Sequence[str]) -> RunData:
    """Read what a run left.

    Args:
        folder: of the run.
        streams: of the recipe; each may have a run of its own. A folder that an older recipe left
            behind is none of them, nor are a study and its ``tuned`` run of another recipe.

    Raises:
        UserError: no test predictions of the fused model, or runs that cover other test clips.
    """
    study = _study(folder)
    tuned = [TUNED] if study is not None and study["tuned_job"] == _job(folder, TUNED) else []
    runs = [n for n in (FUSION, *tuned, *streams) if exists(folder.path("training", n))]
    clips = {row["clip_id"]: Clip.from_row(row) for row in folder.clips.read().to_pylist()}
    unpredicted = _unpredicted(folder, runs)
    left_out = {
        row["clip_id"]: row["reason"]
        for row in unpredicted
        if (clip := clips.get(row["clip_id"])) and clip.split == "test" and clip.label is not None
    }
    test = _test(folder, runs, without=left_out)
    histories = {name: read_json(folder.path("training", name, "history.json")) for name in runs}
    models = {
        name: read_json(folder.path("training", name, "model", "model.json")) for name in runs
    }
    return RunData(
        folder=folder,
        record=RunRecord.load(folder.out),
        clips=clips,
        test=test,
        left_out=left_out,
        challenge=_predictions(folder.predictions),
        histories={name: history for name, history in histories.items() if history},
        # a model from before there were temperatures has none
        temperatures={n: model.get("temperature", 1.0) for n, model in models.items() if model},
        study=study,
        ablation=read_json(folder.path(ABLATION_FILE)),
        status=_by_clip(folder.status.latest(columns=_STATUS_COLUMNS + _PLACE_COLUMNS)),
        rejects=_by_clip(folder.rejects.read(columns=_STATUS_COLUMNS)) + unpredicted,
        submission=exists(folder.path("submission.csv")),
    )


def read_json(path: str) -> dict[str, Any] | None:
    """Return the object in a JSON file, None where there is no such file."""
    if not exists(path):
        return None
    with fsspec.open(path, "r", encoding="utf-8") as file:
        data: dict[str, Any] = json.load(file)
    return data


def exists(path: str) -> bool:
    """Whether there is a file or a folder."""
    fs, root = fsspec.core.url_to_fs(path)
    return bool(fs.exists(root))


def _study(folder: RunFolder) -> dict[str, Any] | None:
    """What a search found, where it was of the recipe that trained fusion; None elsewhere."""
    study, job = read_json(folder.path("tune", "study.json")), _job(folder, FUSION)
    same = study is not None and job is not None and study.get("recipe_job") == job
    return study if same else None


def _job(folder: RunFolder, run: str) -> str | None:
    """Fingerprint of the job that a finished training run is the result of."""
    history = read_json(folder.path("training", run, "history.json"))
    return None if history is None else history["job"]


def _unpredicted(folder: RunFolder, runs: Sequence[str]) -> list[dict[str, Any]]:
    """Status rows of the clips that a run, or the registered model, has no prediction for.

    A clip comes once, with the first reason.
    """
    tables = [Table(folder.path("training", run, "rejects"), STATUS_SCHEMA) for run in runs]
    first: dict[str, dict[str, Any]] = {}
    for table in (*tables, folder.prediction_rejects):
        for row in _by_clip(table.read(columns=_STATUS_COLUMNS)):
            first.setdefault(row["clip_id"], row)
    return list(first.values())


def _test(
    folder: RunFolder, runs: Sequence[str], *, without: Collection[str]
) -> dict[str, list[ClipPrediction]]:
    """Run to its predictions of the labelled test clips, the same of each."""
    found = {run: _test_rows(folder, run) for run in runs}
    test = {
        run: [p for p in rows if p.clip_id not in without] for run, rows in found.items() if rows
    }
    if not test.get(FUSION):
        raise UserError(
            f"no labelled test predictions in {folder.path('training', FUSION)}: run `erray train`"
            f" on a corpus with a labelled test split first"
        )
    _check_same_clips(test)
    return test


def _test_rows(folder: RunFolder, run: str) -> list[ClipPrediction]:
    table = Table(folder.path("training", run, "predictions"), PREDICTION_SCHEMA).read()
    keep = pc.and_(pc.equal(table["split"], "test"), pc.is_valid(table["label"]))
    return _sorted(table.filter(keep).to_pylist())


def _predictions(table: Table) -> list[ClipPrediction]:
    return _sorted(table.read().to_pylist())


def _sorted(rows: list[dict[str, Any]]) -> list[ClipPrediction]:
    by_clip = {row["clip_id"]: ClipPrediction.from_row(row) for row in rows}
    return [by_clip[clip_id] for clip_id in sorted(by_clip)]


def _check_same_clips(test: dict[str, list[ClipPrediction]]) -> None:
    """Paired differences need the same clips and labels in every run."""
    wanted = [(p.clip_id, p.label, p.classes) for p in test[FUSION]]
    for name, rows in test.items():
        if [(p.clip_id, p.label, p.classes) for p in rows] != wanted:
            command = "erray tune" if name == TUNED else "erray train"
            raise UserError(
                f"training/{name} predicts {len(rows)} test clips that are not the"
                f" {len(wanted)} of training/{FUSION}: run `{command}` again"
            )


def _by_clip(rows: pa.Table) -> list[dict[str, Any]]:
    return sorted(rows.to_pylist(), key=lambda row: (row["clip_id"], row["stage"]))
