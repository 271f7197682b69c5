"""One finished training run on disk: model, history, predictions; and the plain way to get there.

``<folder>/model/`` (weights and description), ``history.json``, ``predictions/`` and ``rejects/``
(every clip of the splits it was scored on is in one of them), ``state.pt`` (to resume from; its
job's fingerprint says of what), and ``by_rule/<rule>/``: model, history and predictions again, as
another clip rule chose the epoch.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from erray.calibration import fit_temperature
from erray.checkpoint import (
    ModelDescription,
    load_state,
    save_model,
    save_state,
)
from erray.errors import UserError
from erray.finite import NotFiniteError
from erray.labels import LabelSet
from erray.metrics import clip_logits
from erray.models.fusion import FusionModel
from erray.records import PREDICTION_SCHEMA, STATUS_SCHEMA
from erray.scoring import prediction_row, rejected_row
from erray.store import Table, write_json
from erray.training.arrays import FeatureArrays
from erray.training.events import EpochFile, OnEpoch, epoch_end, tell_nobody
from erray.training.job import TrainJob
from erray.training.loop import TrainingLoop
from erray.training.validation import rule_key, score_split, selection_key
from erray.windows import UNLABELLED

Logits = dict[str, list[NDArray[np.float32]]]
"""Split to the logits [T, C] of its clips."""

_BY_RULE = "by_rule"


@dataclass(frozen=True)
class TrainingRun:
    """A run's folder; its last part is the run's name (``fusion``, a stream's name, ...)."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def full_name(self) -> str:
        """Name in predictions: the run's, with the clip rule where that chose the epoch."""
        parts = self.folder.parts
        return "/".join(parts[-3:] if parts[-2:-1] == (_BY_RULE,) else parts[-1:])

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
    def epochs(self) -> EpochFile:
        """Where whoever trains it tells of every epoch."""
        return EpochFile(self.folder)

    @property
    def predictions(self) -> Table:
        return Table(str(self.folder / "predictions"), PREDICTION_SCHEMA)

    @property
    def rejects(self) -> Table:
        """Clips of the scored splits without a prediction: their logits are not finite."""
        return Table(str(self.folder / "rejects"), STATUS_SCHEMA)

    def rejected(self) -> dict[str, str]:
        """Clip id to reason of the clips without a prediction."""
        rows = self.rejects.read(columns=["clip_id", "reason"]).to_pylist()
        return {row["clip_id"]: row["reason"] for row in rows}

    def history(self) -> dict[str, Any]:
        """``{"job", "epochs": [row per epoch], "best_epoch", "best_metric"}``, empty before."""
        path = self.folder / "history.json"
        if not path.is_file():
            return {}
        return dict(json.loads(path.read_text(encoding="utf-8")))

    def is_finished(self, job: TrainJob) -> bool:
        """The run holds the result of exactly this job, and it was tracked."""
        return self.holds(job.fingerprint)

    def kept_epochs(self, job: TrainJob) -> int:
        """Epochs of ``job`` that another start does not train again, as its states say."""
        paths = [self.state, *self.folder.glob(f"ray/{job.fingerprint}/*/{self.state.name}")]
        states = [usable_state(job, path) for path in paths]
        return max((state["epoch"] for state in states if state is not None), default=0)

    def holds(self, fingerprint: str) -> bool:
        """As :meth:`is_finished`, of the job with this fingerprint."""
        return self.history().get("job") == fingerprint and self.tracking.is_file()


def all_rejected(runs: Iterable[TrainingRun]) -> dict[str, str]:
    """Clip id to reason of the clips that one of the runs has rejected: no comparison has them."""
    return {clip_id: why for run in runs for clip_id, why in run.rejected().items()}


def train_in_process(
    job: TrainJob,
    run: TrainingRun,
    *,
    device: torch.device | str = "cpu",
    on_epoch: OnEpoch = tell_nobody,
) -> Mapping[str, Any]:
    """Train in this process, resuming from the run's state when it is of this job.

    Args:
        on_epoch: told of every epoch, after the state that holds it is written.

    Returns:
        The final training state (see :meth:`TrainingLoop.state_dict`), on the CPU.
    """
    loop = TrainingLoop(job, device=device)
    state = usable_state(job, run.state)
    if state is not None:
        loop.load_state_dict(state)
    for row in loop.run():
        save_state(run.state, loop.state_dict())
        on_epoch(epoch_end(loop, row, run=run.name))
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

    Before that the same in ``by_rule/<rule>/`` for those that val chose by another clip rule.

    Args:
        state: the final training state of ``job``.
        features: stream name to fingerprint of its features.
        clock_hz: the clips' clock; None: the frames' own times.
        splits: split name to arrays, ``val`` among them, which also decides the temperature; every
            clip of them gets a row in ``predictions``, or in ``rejects``.
    """
    settings, model = job.settings, job.make_model()
    description = ModelDescription(
        model=job.model.name,
        options=job.model.options,
        streams=dict(job.streams),
        labels=labels.name,
        class_names=labels.names,
        features={name: features[name] for name in job.streams},
        window=settings.window,
        hop=settings.hop,
        clip_rule=settings.clip_rule,
        clock_hz=clock_hz,
    )
    shutil.rmtree(run.folder / _BY_RULE, ignore_errors=True)  # of an earlier job
    scored: dict[int, Logits] = {}
    for part, rule, best in _chosen(run, job, state):
        model.load_state_dict(best["weights"])
        if best["epoch"] not in scored:
            scored[best["epoch"]] = _score(model, job, splits)
        logits = scored[best["epoch"]]
        found = replace(description, clip_rule=rule, temperature=_temperature(job, rule, logits))
        save_model(part.model, model, found)
        rows, rejects = _rows(found, splits, logits, name=part.full_name, version=job.fingerprint)
        part.predictions.replace(rows)
        part.rejects.replace(rejects)
        write_json(
            part.folder / "history.json",
            {
                "job": job.fingerprint,
                "metric": best["name"],
                "epochs": list(state["history"]),
                "best_epoch": best["epoch"],
                "best_metric": best["metric"],
            },
        )


def _chosen(
    run: TrainingRun, job: TrainJob, state: Mapping[str, Any]
) -> Iterator[tuple[TrainingRun, str, dict[str, Any]]]:
    """Run, clip rule and what val chose by it; the run itself last: its history ends the job."""
    settings = job.settings
    for rule, best in state["best_by_rule"].items():
        if (rule, best["epoch"]) != (settings.clip_rule, state["best_epoch"]):
            part = TrainingRun(run.folder / _BY_RULE / rule)
            yield part, rule, {**best, "name": rule_key(settings, rule)}
    best = {key: state[f"best_{key}"] for key in ("epoch", "metric", "weights")}
    yield run, settings.clip_rule, {**best, "name": selection_key(settings)}


def _score(model: FusionModel, job: TrainJob, splits: Mapping[str, FeatureArrays]) -> Logits:
    return {
        split: [logits_TC for _, logits_TC in score_split(model, arrays, job)]
        for split, arrays in splits.items()
    }


def _temperature(job: TrainJob, rule: str, logits: Logits) -> float:
    """The temperature of the rule's probabilities by the labelled clips of val; votes have none."""
    clips = [
        i
        for i in job.val_clips
        if job.val.clips[i].label != UNLABELLED and np.isfinite(logits["val"][i]).all()
    ]
    if rule == "majority" or not clips:
        return 1.0
    values_NC = np.array([clip_logits(logits["val"][i], rule) for i in clips])
    return fit_temperature(values_NC, [job.val.clips[i].label for i in clips])


def _rows(
    description: ModelDescription,
    splits: Mapping[str, FeatureArrays],
    logits: Logits,
    *,
    name: str,
    version: str,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of the clips that are predicted, and of those that are not."""
    names, model = description.class_names, {"model_name": name, "model_version": version}
    rows, rejects = [], []
    for split, arrays in splits.items():
        for i, (place, logits_TC) in enumerate(zip(arrays.clips, logits[split], strict=True)):
            try:
                row = prediction_row(
                    logits_TC,
                    clip_id=place.clip_id,
                    split=place.split,
                    group=place.group,
                    label=None if place.label == UNLABELLED else names[place.label],
                    times_s_T=arrays.times_s(i),
                    classes=names,
                    clip_rule=description.clip_rule,
                    temperature=description.temperature,
                    **model,
                )
            except NotFiniteError as why:
                rejects.append(rejected_row(why, clip_id=place.clip_id, **model))
            else:
                rows.append(row)
    return rows, rejects
