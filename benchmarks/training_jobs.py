"""Training jobs of the benchmarks: made-up or ready features as arrays, a run, its predictions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from erray.config import Model, Train
from erray.metrics import clip_prediction
from erray.models.fusion import FusionModel
from erray.training.arrays import ClipPlace, FeatureArrays
from erray.training.job import TrainJob
from erray.training.loop import TrainingLoop
from erray.training.validation import score_split


@dataclass(frozen=True)
class Labelled:
    """What the arrays say of a clip besides its features."""

    clip_id: str
    group: str
    label: int
    num_ticks: int = 1


def write_arrays(
    folder: Path,
    clips: Sequence[Labelled],
    streams: Mapping[str, NDArray[np.floating]],
    *,
    absent: Sequence[str] = (),
    hz: float = 23.976,
) -> FeatureArrays:
    """Write features as ``erray.training.ingest`` leaves them; the folder's name is the split.

    Args:
        folder: made here.
        clips: in the order of their ticks.
        streams: name to values of all ticks, [N, D].
        absent: streams without data at any tick.
        hz: ticks a second.
    """
    folder.mkdir(parents=True)
    lengths = [clip.num_ticks for clip in clips]
    offsets = np.cumsum([0, *lengths]).tolist()
    times_s_N = np.concatenate([np.arange(length) / hz for length in lengths])
    np.save(folder / "times_s.npy", times_s_N)
    for name, values_ND in streams.items():
        assert len(values_ND) == offsets[-1], (name, len(values_ND), offsets[-1])
        np.save(folder / f"{name}.values.npy", values_ND.astype(np.float32, copy=False))
        np.save(folder / f"{name}.present.npy", np.full(offsets[-1], name not in absent))
    places = [
        ClipPlace(clip.clip_id, folder.name, clip.group, clip.label, offset, clip.num_ticks)
        for clip, offset in zip(clips, offsets, strict=False)
    ]
    index = {"streams": list(streams), "clips": [asdict(place) for place in places]}
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")
    return FeatureArrays(folder)


def make_job(
    train: FeatureArrays,
    val: FeatureArrays,
    *,
    model: tuple[str, Mapping[str, Any]],
    settings: Mapping[str, Any],
    num_classes: int,
    streams: Sequence[str] | None = None,
    seed: int = 0,
) -> TrainJob:
    """A job over ``streams`` (None: all) of the arrays; ``settings`` as under a recipe's train."""
    names = streams or train.streams
    return TrainJob(
        train=train,
        val=val,
        streams={name: train.values(name).shape[1] for name in names},
        num_classes=num_classes,
        model=Model(name=model[0], options=dict(model[1])),
        settings=Train.model_validate(settings),
        seed=seed,
    )


def train_best(job: TrainJob) -> FusionModel:
    """Run erray's own loop to its end; return the model that val chose."""
    loop = TrainingLoop(job)
    for _ in loop.run():
        pass
    model = job.make_model()
    model.load_state_dict(loop.best.weights)
    return model.eval()


def predict(model: FusionModel, arrays: FeatureArrays, job: TrainJob) -> NDArray[np.float64]:
    """Probabilities [N, C] of the clips by the job's clip rule, along erray's own path."""
    rule = job.settings.clip_rule
    return np.array([clip_prediction(x_TC, rule)[1] for _, x_TC in score_split(model, arrays, job)])
