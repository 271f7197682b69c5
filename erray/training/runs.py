"""One finished training run on disk: model, history, predictions; and the plain way to get there.

``<folder>/model/`` (weights and description), ``history.json``, ``predictions/`` (every clip of the
splits it was scored on), ``state.pt`` (to resume from; its job's fingerprint says of what).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from erray.checkpoint import (
    ModelDescription,
    load_model,
    load_state,
    save_model,
    save_state,
)
from erray.errors import UserError
from erray.labels import LabelSet
from erray.records import PREDICTION_SCHEMA
from erray.scoring import prediction_row
from erray.store import Table
from erray.training.arrays import FeatureArrays
from erray.training.job import TrainJob
from erray.training.loop import TrainingLoop
from erray.training.validation import score_split, selection_key
from erray.windows import UNLABELLED

EpochCallback = Callable[[dict[str, float]], None]


@dataclass(frozen=True)
class TrainingRun:
    """A run's folder; its last part is the run's name (``fusion``, a stream's name, ...)."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def state(self) -> Path:
        return self.folder / "state.pt"

    @property
    def tracking(self) -> Path:
        """File with the run's id and its tracking store."""
        return self.folder / "tracking.json"

    @property
    def predictions(self) -> Table:
        return Table(str(self.folder / "predictions"), PREDICTION_SCHEMA)

    def history(self) -> dict[str, Any]:
        """``{"job", "epochs": [row per epoch], "best_epoch", "best_metric"}``, empty before."""
        path = self.folder / "history.json"
        if not path.is_file():
            return {}
        return dict(json.loads(path.read_text(encoding="utf-8")))

    def is_finished(self, job: TrainJob) -> bool:
        """The run holds the result of exactly this job, and it was tracked."""
        return self.history().get("job") == job.fingerprint and self.tracking.is_file()


def train_in_process(
    job: TrainJob,
    run: TrainingRun,
    *,
    device: torch.device | str = "cpu",
    on_epoch: EpochCallback | None = None,
) -> Mapping[str, Any]:
    """Train in this process, resuming from the run's state when it is of this job.

    Returns:
        The final training state (see :meth:`TrainingLoop.state_dict`), on the CPU.
    """
    loop = TrainingLoop(job, device=device)
    state = usable_state(job, run.state)
    if state is not None:
        loop.load_state_dict(state)
    for row in loop.run():
        save_state(run.state, loop.state_dict())
        if on_epoch is not None:
            on_epoch(row)
    return load_state(run.state)


def usable_state(job: TrainJob, path: Path) -> dict[str, Any] | None:
    """Return the training state at ``path`` if it is whole and of this job."""
    if not path.is_file():
        return None
    try:
        state = load_state(path)
    except UserError:
        return None  # cut off while it was written: the run starts over
    return state if state.get("job") == job.fingerprint else None


def finish_run(
    run: TrainingRun,
    job: TrainJob,
    state: Mapping[str, Any],
    *,
    labels: LabelSet,
    features: Mapping[str, str],
    clock_hz: float | None,
    splits: Mapping[str, FeatureArrays],
) -> None:
    """Keep the weights that val chose, score ``splits`` with them, write the history last.

    Args:
        state: the final training state of ``job``.
        features: stream name to fingerprint of its features.
        clock_hz: the clips' clock; None: the frames' own times.
        splits: split name to arrays; every clip of them gets a row in ``predictions``.
    """
    model = job.make_model()
    model.load_state_dict(state["best_weights"])
    description = ModelDescription(
        model=job.model.name,
        options=job.model.options,
        streams=dict(job.streams),
        labels=labels.name,
        class_names=labels.names,
        features={name: features[name] for name in job.streams},
        window=job.settings.window,
        hop=job.settings.hop,
        clip_rule=job.settings.clip_rule,
        clock_hz=clock_hz,
    )
    save_model(run.model, model, description)
    rows = [row for arrays in splits.values() for row in _predictions(run, job, arrays, labels)]
    run.predictions.replace(rows)
    _write_json(
        run.folder / "history.json",
        {
            "job": job.fingerprint,
            "metric": selection_key(job.settings),
            "epochs": list(state["history"]),
            "best_epoch": state["best_epoch"],
            "best_metric": state["best_metric"],
        },
    )


def _predictions(
    run: TrainingRun, job: TrainJob, arrays: FeatureArrays, labels: LabelSet
) -> list[dict[str, Any]]:
    model, _ = load_model(run.model)  # what is scored is what was saved
    rows = []
    for i, logits_TC in score_split(model, arrays, job):
        place = arrays.clips[i]
        rows.append(
            prediction_row(
                logits_TC,
                clip_id=place.clip_id,
                split=place.split,
                group=place.group,
                label=None if place.label == UNLABELLED else labels.names[place.label],
                times_s_T=arrays.times_s(i),
                classes=labels.names,
                clip_rule=job.settings.clip_rule,
                model_name=run.name,
                model_version=job.fingerprint,
            )
        )
    return rows


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(data, indent=1), encoding="utf-8")
    temporary.replace(path)
