"""Model and features to predictions, through a pool of actors.

A predictor is a plain class: the model is loaded once per actor, batches of clips come, rows of
the predictions table are written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from erray.checkpoint import load_model
from erray.config import Pool, Recipe
from erray.errors import UserError
from erray.plan import TRACKS, Plan, states
from erray.ray_session import ray_session
from erray.records import CLIP_SCHEMA, DONE, PREDICTION_SCHEMA, Clip, tensor_from_columns
from erray.scoring import prediction_row, score_clips
from erray.store import RunFolder, Table, latest_status
from erray.streaming import plan_pool, stream
from erray.windows import WindowSample, cut

_KEY_PREFIX = "key_"


class Predictor:
    """Predict the clips of a batch with one model; called by an actor or in a plain shell.

    Args:
        model: folder of the checkpoint.
        out: the run's folder, whose features are read and whose predictions are written.
        table: folder of the predictions table.
        model_name: written into every row.
        model_version: written into every row.
    """

    def __init__(
        self, *, model: str, out: str, table: str, model_name: str, model_version: str
    ) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model, self.description = load_model(Path(model))
        self.model.to(self.device)
        self.run, self.table = RunFolder(out), Table(table, PREDICTION_SCHEMA)
        self.model_name, self.model_version = model_name, model_version

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Predict clip rows with ``frame_times_s`` and a key per stream; return clip ids."""
        rows = batch.to_pylist()
        features = {
            name: self._features(name, fingerprint, {row[_KEY_PREFIX + name] for row in rows})
            for name, fingerprint in self.description.features.items()
        }
        windows = (w for i, row in enumerate(rows) for w in self._windows(i, row, features))
        predictions = [
            self._row(rows[i], logits_TC)
            for i, logits_TC in score_clips(self.model, windows, device=self.device)
        ]
        self.table.write_shard(predictions, keys=[row["clip_id"] for row in rows])
        return pa.table({"clip_id": [row["clip_id"] for row in predictions]})

    def _features(self, name: str, fingerprint: str, keys: set[str]) -> dict[str, Any]:
        rows = self.run.features(name, fingerprint).read(keys=keys).to_pylist()
        return {row["key"]: row for row in rows}

    def _windows(
        self, clip: int, row: dict[str, Any], features: dict[str, dict[str, Any]]
    ) -> Iterable[WindowSample]:
        values, present = {}, {}
        for name in self.description.streams:
            found = features[name][row[_KEY_PREFIX + name]]
            values[name] = tensor_from_columns(found["values"], found["shape"], found["dtype"])
            present[name] = np.asarray(found["present"], dtype=np.bool_)
        num_ticks = len(row["frame_times_s"])
        for start, stop in cut(num_ticks, self.description.window, self.description.hop):
            yield WindowSample(
                streams={name: x_TD[start:stop] for name, x_TD in values.items()},
                present={name: mask_T[start:stop] for name, mask_T in present.items()},
                label=-1,
                clip=clip,
                start=start,
            )

    def _row(self, row: dict[str, Any], logits_TC: Any) -> dict[str, Any]:
        return prediction_row(
            logits_TC,
            clip_id=row["clip_id"],
            split=row["split"],
            group=row["group"],
            label=row["label"],
            times_s_T=np.asarray(row["frame_times_s"]),
            classes=self.description.class_names,
            clip_rule=self.description.clip_rule,
            model_name=self.model_name,
            model_version=self.model_version,
        )


def predict_clips(
    recipe: Recipe,
    clips: Sequence[Clip],
    out: str,
    *,
    model: Path,
    model_name: str,
    model_version: str,
) -> pa.Table:
    """Predict ``clips`` from the features in ``out``, replacing the run's predictions.

    Raises:
        UserError: the model was trained on other features than the recipe extracts, or no clip has
            features.
    """
    plan, run = Plan(recipe), RunFolder(out)
    _, description = load_model(model)
    for name, expected in description.features.items():
        found = plan.fingerprints.get(name)
        if found != expected:
            raise UserError(
                f"model {model_name} version {model_version} needs stream {name!r} with "
                f"fingerprint {expected}, the recipe extracts {found}: use the recipe it was "
                f"trained with"
            )
    rows = _rows(plan, run, clips, list(description.streams))
    partial = Table(run.path("predictions", ".partial"), PREDICTION_SCHEMA)
    partial.clear()  # left by a run that was stopped
    settings = {
        "model": str(model),
        "out": out,
        "table": partial.path,
        "model_name": model_name,
        "model_version": model_version,
    }
    _run(recipe, rows, settings, list(description.streams))
    predictions = partial.read()
    lost = {row["clip_id"] for row in rows} - set(predictions["clip_id"].to_pylist())
    if lost:
        raise RuntimeError(f"{len(lost)} clips have no prediction, for instance {min(lost)!r}")
    run.predictions.replace(predictions)
    partial.clear()
    return predictions


def _rows(
    plan: Plan, run: RunFolder, clips: Sequence[Clip], streams: list[str]
) -> list[dict[str, Any]]:
    known = states(run)
    ready = [
        clip
        for clip in clips
        if all(known.get(plan.key(name, clip)) == DONE for name in (TRACKS, *streams))
    ]
    if not ready:
        raise UserError("no clip to predict has features: run `erray extract` with this recipe")
    tracks = {plan.key(TRACKS, clip) for clip in ready}
    clock = latest_status(run.status.read(columns=["key", "state", "frame_times_s"], keys=tracks))
    return [
        asdict(clip)
        | {"frame_times_s": clock[plan.key(TRACKS, clip)]["frame_times_s"]}
        | {_KEY_PREFIX + name: plan.key(name, clip) for name in streams}
        for clip in ready
    ]


def _run(
    recipe: Recipe, rows: list[dict[str, Any]], settings: dict[str, Any], streams: list[str]
) -> None:
    schema = pa.schema(
        [
            *CLIP_SCHEMA,
            ("frame_times_s", pa.list_(pa.float64())),
            *((_KEY_PREFIX + name, pa.string()) for name in streams),
        ]
    )
    size = recipe.extract.shard_clips
    batches = [
        pa.Table.from_pylist(rows[i : i + size], schema=schema) for i in range(0, len(rows), size)
    ]
    pool = recipe.extract.pools.get("predict", Pool())
    with ray_session() as cluster:
        planned = plan_pool(pool, uses_gpu=True, num_batches=len(batches), cluster=cluster)
        for _ in stream(
            batches,
            Predictor,
            settings,
            size=planned,
            max_restarts=recipe.extract.max_restarts,
        ):
            pass
