"""Model and features to predictions, through a pool of actors.

A predictor is a plain class: the model is loaded once per actor, batches of clips come, rows of
the predictions table are written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from erray.checkpoint import load_model
from erray.clip_batches import CLOCKED_SCHEMA, batched, clocked_rows, grouped
from erray.config import Pool, Recipe
from erray.errors import UserError
from erray.feature_rows import joined
from erray.plan import TRACKS, Plan, done_clips
from erray.ray_session import ray_session
from erray.records import PREDICTION_SCHEMA, Clip
from erray.scoring import prediction_row, score_clips
from erray.store import RunFolder, ShardPlaces, Table
from erray.streaming import plan_pool, stream
from erray.windows import WindowSample, cut

_KEY_PREFIX, _SHARD_PREFIX = "key_", "shard_"


class Predictor:
    """Predict the clips of a batch with one model; called by an actor or in a plain shell.

    Args:
        model: folder of the checkpoint.
        run: whose features are read.
        table: folder of the predictions table.
        model_name: written into every row.
        model_version: written into every row.
    """

    def __init__(
        self, *, model: str, run: RunFolder, table: str, model_name: str, model_version: str
    ) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model, self.description = load_model(Path(model))
        self.model.to(self.device)
        self.run, self.table = run, Table(table, PREDICTION_SCHEMA)
        self.model_name, self.model_version = model_name, model_version

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Predict clocked rows with a key and a shard per stream; return clip ids."""
        rows = batch.to_pylist()
        features = {
            name: self._features(name, fingerprint, rows)
            for name, fingerprint in self.description.features.items()
        }
        windows = (w for i, row in enumerate(rows) for w in self._windows(i, row, features))
        predictions = [
            self._row(rows[i], logits_TC)
            for i, logits_TC in score_clips(self.model, windows, device=self.device)
        ]
        self.table.write_shard(predictions, keys=[row["clip_id"] for row in rows])
        return pa.table({"clip_id": [row["clip_id"] for row in predictions]})

    def _features(self, name: str, fingerprint: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
        keys = {row[_KEY_PREFIX + name] for row in rows}
        shards = sorted({row[_SHARD_PREFIX + name] for row in rows})
        table = self.run.features(name, fingerprint).read(keys=keys, shards=shards)
        rows_of_key: dict[str, list[dict[str, Any]]] = {}
        for row in table.to_pylist():
            if not row["view"]:  # view 0 alone; rows of before there were views have none
                rows_of_key.setdefault(row["key"], []).append(row)
        return {key: joined(rows) for key, rows in rows_of_key.items()}

    def _windows(
        self, clip: int, row: dict[str, Any], features: dict[str, Any]
    ) -> Iterable[WindowSample]:
        values, present = {}, {}
        for name in self.description.streams:
            values[name], present[name] = features[name][row[_KEY_PREFIX + name]]
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
            temperature=self.description.temperature,
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
    plan, run = Plan(recipe), RunFolder.of(recipe, out)
    _, description = load_model(model)
    for name, expected in description.features.items():
        found = plan.fingerprints.get(name)
        if found != expected:
            raise UserError(
                f"model {model_name} version {model_version} needs stream {name!r} with "
                f"fingerprint {expected}, the recipe extracts {found}: use the recipe it was "
                f"trained with"
            )
    ready = done_clips(plan, run, clips, (TRACKS, *description.streams))
    if not ready:
        raise UserError("no clip to predict has features: run `erray extract` with this recipe")
    partial = Table(run.path("predictions", ".partial"), PREDICTION_SCHEMA)
    partial.clear()  # left by a run that was stopped
    settings = {
        "model": str(model),
        "run": run,
        "table": partial.path,
        "model_name": model_name,
        "model_version": model_version,
    }
    _run(plan, _rows(plan, run, ready, list(description.streams)), settings)
    predictions = partial.read()
    lost = {clip.clip_id for clip in ready} - set(predictions["clip_id"].to_pylist())
    if lost:
        raise RuntimeError(f"{len(lost)} clips have no prediction, for instance {min(lost)!r}")
    run.predictions.replace(predictions)
    partial.clear()
    return predictions


def _rows(
    plan: Plan, run: RunFolder, clips: Sequence[Clip], streams: list[str]
) -> Iterator[dict[str, Any]]:
    """Clip rows with their clock, and per stream the key and the shard of the features."""
    shards = {name: _shards(plan, run, name, clips) for name in streams}
    of_key: dict[str, list[tuple[str, Clip]]] = {}
    for clip in clips:
        of_key.setdefault(plan.key(TRACKS, clip), []).append((clip.clip_id, clip))
    by_id = {clip.clip_id: clip for clip in clips}
    for row in clocked_rows(run, plan.fingerprints[TRACKS], of_key, with_crops=False):
        for name in streams:
            key = plan.key(name, by_id[row["clip_id"]])
            row |= {_KEY_PREFIX + name: key, _SHARD_PREFIX + name: shards[name][key]}
        yield row


def _shards(plan: Plan, run: RunFolder, name: str, clips: Sequence[Clip]) -> dict[str, str]:
    """Key of a clip in a stream to the path of its shard."""
    places = ShardPlaces(run.features(name, plan.fingerprints[name]))
    keys = {plan.key(name, clip) for clip in clips}
    return {
        row["key"]: places.path(row)
        for part in run.status.scan_done(plan.fingerprints[name], ["num_tracks", "shard"])
        for row in part.to_pylist()
        if row["key"] in keys
    }


def _run(plan: Plan, rows: Iterable[dict[str, Any]], settings: dict[str, Any]) -> None:
    more = [
        pa.field(p + n, pa.string()) for n in plan.modalities for p in (_KEY_PREFIX, _SHARD_PREFIX)
    ]
    schema = pa.schema([*CLOCKED_SCHEMA, *more])
    extract = plan.recipe.extract
    pool = extract.pools.get("predict", Pool())
    with ray_session() as cluster:
        for batches in grouped(batched(rows, extract.shard_clips, schema)):
            planned = plan_pool(pool, uses_gpu=True, num_batches=len(batches), cluster=cluster)
            for _ in stream(
                batches,
                Predictor,
                settings,
                size=planned,
                repeats=extract.max_attempts - 1,
            ):
                pass
