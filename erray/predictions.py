"""Model and features to predictions, through a pool of actors that load the model once each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from erray.checkpoint import ModelDescription, load_model
from erray.clip_batches import CLOCKED_SCHEMA, batched, clocked_rows, grouped
from erray.config import Pool, Recipe, Smoothing
from erray.errors import UserError
from erray.labels import BASIC_7, CEXPR_7, CEXPR_8
from erray.plan import TRACKS, Plan, done_clips
from erray.predictor import KEY_PREFIX, SHARD_PREFIX, Predictor
from erray.ray_session import ray_session
from erray.records import PREDICTION_SCHEMA, STATUS_SCHEMA, Clip
from erray.store import RunFolder, ShardPlaces, Table
from erray.streaming import plan_pool, stream
from erray.timelines import Timeline


@dataclass(frozen=True)
class Predictions:
    """What a model said of some clips.

    Attributes:
        table: of the predictions, at least one.
        rejected: clip id to the reason why it has none.
        pair_rule: how the model's basic emotions became compound ones; None: they are its own.
    """

    table: Table
    rejected: dict[str, str]
    pair_rule: str | None

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of the logits."""
        first = next(self.table.row_groups())
        return list(first["classes"][0].as_py())

    @property
    def predicted(self) -> dict[str, str]:
        """Clip id to class."""
        names = self.table.read(columns=["clip_id", "predicted"])
        return dict(zip(*(names[k].to_pylist() for k in names.column_names), strict=True))

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of the table, a few in memory at a time."""
        for group in self.table.row_groups():
            yield from group.to_pylist()

    def timeline(self, row: dict[str, Any], smoothing: Smoothing) -> Timeline:
        """Return the clip of a row over time."""
        return Timeline.of(row, smoothing=smoothing)

    def timelines(self, smoothing: Smoothing) -> Iterator[Timeline]:
        """Yield every clip over time, in the order of the rows."""
        return (self.timeline(row, smoothing) for row in self.rows())


def predict_clips(
    recipe: Recipe,
    clips: Sequence[Clip],
    out: str,
    *,
    model: Path,
    model_name: str,
    model_version: str,
) -> Predictions:
    """Predict ``clips`` from the features in ``out``, replacing the run's predictions.

    A model of basic emotions predicts compound ones where the recipe's corpus has those. A clip
    whose logits are not finite goes to the run's ``prediction_rejects``.

    Raises:
        UserError: the model was trained on other features than the recipe extracts, no clip has
            features, or none could be predicted.
    """
    plan, run = Plan(recipe), RunFolder.of(recipe, out)
    _, description = load_model(model)
    for name, expected in description.features.items():
        found = plan.fingerprints.get(name)
        if found != expected:
            raise UserError(
                f"model {model_name} version {model_version} needs stream {name!r} with "
                f"fingerprint {expected}, the recipe extracts {found or 'no such stream'}: use the "
                f"recipe it was trained with; if this is it, erray computes that stream in another "
                f"way since: train again (`erray pipeline`)"
            )
    ready = done_clips(plan, run, clips, (TRACKS, *description.streams))
    if not ready:
        raise UserError("no clip to predict has features: run `erray extract` with this recipe")
    partial = Table(run.path("predictions", ".partial"), PREDICTION_SCHEMA)
    rejects = Table(run.path("prediction_rejects", ".partial"), STATUS_SCHEMA)
    for left_over in (partial, rejects):  # by a run that was stopped
        left_over.clear()
    settings: dict[str, Any] = {
        "model": str(model),
        "run": run,
        "table": partial.path,
        "rejects": rejects.path,
        "model_name": model_name,
        "model_version": model_version,
        "pair_rule": pair_rule(recipe, description),
    }
    _run(plan, _rows(plan, run, ready, list(description.streams)), settings)
    rejected = _rejected(ready, partial, rejects)
    for table, written in ((run.predictions, partial), (run.prediction_rejects, rejects)):
        table.replace_by(written)
        written.clear()
    if len(rejected) == len(ready):
        clip_id = min(rejected)
        raise UserError(
            f"not one of {len(ready)} clips could be predicted, for instance {clip_id!r}: "
            f"{rejected[clip_id]}; use another model"
        )
    return Predictions(run.predictions, rejected, settings["pair_rule"])


def _rejected(clips: Sequence[Clip], predicted: Table, rejects: Table) -> dict[str, str]:
    """Clip id to reason of the clips without a prediction; every clip is in one of the tables."""
    found = predicted.read(columns=["clip_id"])["clip_id"].to_pylist()
    rejected = rejects.read(columns=["clip_id", "reason"])
    reasons = dict(zip(*(rejected[k].to_pylist() for k in rejected.column_names), strict=True))
    lost = {clip.clip_id for clip in clips} - set(found) - set(reasons)
    if lost:
        raise RuntimeError(f"{len(lost)} clips have no prediction, for instance {min(lost)!r}")
    return reasons


def pair_rule(recipe: Recipe, description: ModelDescription) -> str | None:
    """How the recipe makes compound classes of what this model predicts; None: it does not."""
    asked = recipe.corpus.label_set.name
    if description.labels == BASIC_7.name and asked in (CEXPR_7.name, CEXPR_8.name):
        return recipe.predict.pair_rule
    return None


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
            row |= {KEY_PREFIX + name: key, SHARD_PREFIX + name: shards[name][key]}
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
        pa.field(p + n, pa.string()) for n in plan.modalities for p in (KEY_PREFIX, SHARD_PREFIX)
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
