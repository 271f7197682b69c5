"""Clips to tracks to features: each stage of the plan through its pool of actors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any, Protocol

import pyarrow as pa

from erray.config import Pool, Recipe
from erray.plan import TRACKS, Plan, pending, states
from erray.ray_session import ray_session
from erray.records import CLIP_SCHEMA, DONE, REJECTED, STATUS_SCHEMA, Clip
from erray.stages import EncodeStage, TracksStage
from erray.store import RunFolder, latest_status
from erray.streaming import WorkerLostError, plan_pool, stream

WORKER_DIED = "worker_died: the process that worked on this clip ended without an answer"

_TRACKS_SCHEMA = CLIP_SCHEMA.append(pa.field("key", pa.string()))
_ENCODE_SCHEMA = pa.schema(
    [
        *_TRACKS_SCHEMA,
        ("frame_times_s", pa.list_(pa.float64())),
        ("tracks_key", pa.string()),
        ("crops_shard", pa.string()),
    ]
)


@dataclass(frozen=True)
class _Stage:
    name: str
    worker: type
    settings: dict[str, Any]
    uses_gpu: bool


class Progress(Protocol):
    """Who is told how far a stage is."""

    def begin(self, stage: str, total: int) -> None:
        """A stage starts with ``total`` clips to do."""

    def advance(self, stage: str, *, done: int, rejected: int) -> None:
        """So many more clips were done or rejected."""


class NoProgress:
    """Tells nobody."""

    def begin(self, stage: str, total: int) -> None:
        """Ignore."""

    def advance(self, stage: str, *, done: int, rejected: int) -> None:
        """Ignore."""


@dataclass(frozen=True)
class Extracted:
    """What an extraction found and did; ``wanted == done + rejected``, always."""

    wanted: int
    done: int
    rejected: int
    computed: dict[str, int]
    reasons: dict[str, int]


class Extractor:
    """Brings the tables of one run up to date.

    Args:
        recipe: what is wanted.
        clips: every clip of the corpus, with file hashes.
        out: folder of the run, absolute, or an fsspec URL.
        retry: also run again what was rejected before.
        progress: told how far each stage is.
    """

    def __init__(
        self,
        recipe: Recipe,
        clips: list[Clip],
        out: str,
        *,
        retry: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self.recipe, self.clips, self.retry = recipe, clips, retry
        self.plan, self.run = Plan(recipe), RunFolder(out).create()
        self.progress = progress or NoProgress()
        self._ray = ExitStack()
        self._cluster: dict[str, float] = {}

    def extract(self) -> Extracted:
        """Run what is wanted and not there yet; Ray starts only if there is something to do.

        Raises:
            RuntimeError: clips are missing at the end (a defect, never the user's fault).
        """
        self.run.clips.replace([asdict(clip) for clip in self.clips])
        with self._ray:
            computed = {TRACKS: self._tracks()}
            computed |= {name: self._encode(name) for name in self.plan.modalities}
        return self._summary(computed)

    def _tracks(self) -> int:
        wanted = self.plan.wanted(TRACKS, self.clips)
        todo = pending(wanted, states(self.run), retry=self.retry)
        rows = [asdict(clip) | {"key": key} for key, clip in todo.items()]
        settings = {
            "clock_hz": self.recipe.corpus.clock_hz,
            "detector": self.plan.detector,
            "tracker": self.plan.tracker,
        }
        uses_gpu = self.plan.detector is not None
        stage = _Stage(TRACKS, TracksStage, self._settings(TRACKS) | settings, uses_gpu)
        self._run_stage(stage, self._batches(rows, _TRACKS_SCHEMA))
        return len(rows)

    def _encode(self, name: str) -> int:
        known = states(self.run)
        ready = [c for c in self.clips if known[self.plan.key(TRACKS, c)] == DONE]
        todo = pending(self.plan.wanted(name, ready), known, retry=self.retry)
        if not todo:
            return 0
        rows = self._encode_rows(name, todo)
        settings = {"encoder": name, "options": self.recipe.streams[name]}
        stage = _Stage(name, EncodeStage, self._settings(name) | settings, uses_gpu=False)
        # clips whose crops lie in one shard go to one worker, which reads that shard once
        batches = [
            batch
            for _, group in groupby(rows, key=lambda row: row["crops_shard"])
            for batch in self._batches(list(group), _ENCODE_SCHEMA)
        ]
        self._run_stage(stage, batches)
        return len(rows)

    def _settings(self, stage: str) -> dict[str, Any]:
        return {
            "run": self.run,
            "root": self.recipe.corpus.root,
            "fingerprint": self.plan.fingerprints[stage],
        }

    def _encode_rows(self, name: str, todo: dict[str, Clip]) -> list[dict[str, Any]]:
        tracks_keys = {key: self.plan.key(TRACKS, clip) for key, clip in todo.items()}
        clock = latest_status(
            self.run.status.read(
                columns=["key", "state", "frame_times_s"], keys=set(tracks_keys.values())
            )
        )
        is_face = self.plan.modalities[name] == "face"
        shards = self.run.crops.shard_of_key() if is_face else {}
        rows = [
            asdict(clip)
            | {
                "key": key,
                "frame_times_s": clock[tracks_keys[key]]["frame_times_s"],
                "tracks_key": tracks_keys[key],
                "crops_shard": shards.get(tracks_keys[key], ""),
            }
            for key, clip in todo.items()
        ]
        return sorted(rows, key=lambda row: row["crops_shard"])

    def _batches(self, rows: list[dict[str, Any]], schema: pa.Schema) -> list[pa.Table]:
        size = self.recipe.extract.shard_clips
        return [
            pa.Table.from_pylist(rows[i : i + size], schema=schema)
            for i in range(0, len(rows), size)
        ]

    def _run_stage(self, stage: _Stage, batches: list[pa.Table]) -> None:
        if not batches:
            return
        self.progress.begin(stage.name, sum(b.num_rows for b in batches))
        try:
            self._stream(stage, batches)
        except WorkerLostError:
            self._one_by_one(stage, batches)

    def _stream(self, stage: _Stage, batches: list[pa.Table], *, skip_lost: bool = False) -> None:
        if not self._cluster:
            self._cluster = self._ray.enter_context(ray_session())
        size = plan_pool(
            self.recipe.extract.pools.get(stage.name, Pool()),
            uses_gpu=stage.uses_gpu,
            num_batches=len(batches),
            cluster=self._cluster,
        )
        results = stream(
            batches,
            stage.worker,
            stage.settings,
            size=size,
            max_restarts=self.recipe.extract.max_restarts,
            skip_lost=skip_lost,
        )
        for status in results:
            num_done = status["state"].to_pylist().count(DONE)
            self.progress.advance(stage.name, done=num_done, rejected=status.num_rows - num_done)

    def _one_by_one(self, stage: _Stage, batches: list[pa.Table]) -> None:
        """After a lost worker: what is missing again, a clip a batch; who kills it is rejected."""
        singles = list(self._missing(batches))
        if singles:
            self._stream(stage, singles, skip_lost=True)
        rows = [
            {
                "clip_id": row["clip_id"],
                "stage": stage.name,
                "fingerprint": self.plan.fingerprints[stage.name],
                "key": row["key"],
                "state": REJECTED,
                "reason": WORKER_DIED,
                "file_sha256": row["file_sha256"],
            }
            for single in self._missing(singles)
            for row in single.to_pylist()
        ]
        self.run.status.write_shard(rows, keys=[row["key"] for row in rows])
        self.progress.advance(stage.name, done=0, rejected=len(rows))

    def _missing(self, batches: list[pa.Table]) -> Iterator[pa.Table]:
        """One-row slices of what no status row of this run's stage covers yet."""
        known = states(self.run)
        for batch in batches:
            for i, key in enumerate(batch["key"].to_pylist()):
                if key not in known:
                    yield batch.slice(i, 1)

    def _summary(self, computed: dict[str, int]) -> Extracted:
        """Count clips, write the rejects view, and check that no clip was lost."""
        rows = latest_status(self.run.status.read())
        rejects: list[dict[str, Any]] = []
        num_done = 0
        for clip in self.clips:
            verdict = _verdict(self.plan, clip, rows)
            if verdict is None:
                num_done += 1
            else:
                rejects.append(verdict | {"clip_id": clip.clip_id})
        self.run.rejects.replace(pa.Table.from_pylist(rejects, schema=STATUS_SCHEMA))
        reasons = Counter(str(row["reason"]).split(":", 1)[0] for row in rejects)
        return Extracted(len(self.clips), num_done, len(rejects), computed, dict(reasons))


def _verdict(plan: Plan, clip: Clip, rows: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """Return the status row that rejects the clip, None when every stage has done it."""
    for stage in (TRACKS, *plan.modalities):
        row = rows.get(plan.key(stage, clip))
        if row is None:
            raise RuntimeError(f"clip {clip.clip_id!r} was lost in stage {stage!r}")
        if row["state"] == REJECTED:
            return row
    return None
