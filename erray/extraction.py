"""Clips to tracks to features: each stage of the plan through its pool of actors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from erray import interrupt
from erray.clip_batches import (
    CLOCKED_SCHEMA,
    batched,
    clip_row,
    clip_table,
    clocked_rows,
    grouped,
)
from erray.config import Pool, Recipe
from erray.media import limits_print
from erray.plan import TRACKS, Plan, pending
from erray.ray_session import ray_session
from erray.records import CLIP_SCHEMA, DONE, Clip
from erray.rejects import died_row, reasons, reject_rows, write_excluded
from erray.stages import EncodeStage, TracksStage
from erray.store import Held, RunFolder, hold
from erray.streaming import WorkerLostError, plan_pool, stream

_TRACKS_SCHEMA = CLIP_SCHEMA.append(pa.field("key", pa.string()))


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

    def advance(self, stage: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """More clips are done or rejected: their status rows."""


class NoProgress:
    """Tells nobody."""

    def begin(self, stage: str, total: int) -> None:
        """Ignore."""

    def advance(self, stage: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Ignore."""


@dataclass(frozen=True)
class Extracted:
    """What an extraction found and did; ``wanted == done + rejected``, always.

    Attributes:
        computed: clips per stage that were not there yet.
        reasons: rejected clips by the first word of the reason, the most frequent first.
        examples: a clip with its whole reason for each of them.
    """

    wanted: int
    done: int
    rejected: int
    computed: dict[str, int]
    reasons: dict[str, int]
    examples: dict[str, str]


class Extractor:
    """Brings the tables of one run up to date, and holds their lock while it does.

    Args:
        recipe: what is wanted.
        clips: every clip to use, with file hashes.
        out: the run's folder, absolute.
        excluded: clips that the corpus leaves out, each with its reason: rejected as they are.
        retry: also run again what was rejected before.
        progress: told how far each stage is.

    Raises:
        UserError: the tables cannot be written.
    """

    def __init__(
        self,
        recipe: Recipe,
        clips: list[Clip],
        out: str,
        *,
        excluded: Sequence[tuple[Clip, str]] = (),
        retry: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self.recipe, self.clips, self.excluded, self.retry = recipe, clips, excluded, retry
        self.plan, self.run = Plan(recipe), RunFolder.of(recipe, out).create()
        self.progress = progress or NoProgress()
        self._ray = ExitStack()
        self._held: Held | None = None
        self._computed: dict[str, int] = {}
        self._rejected: dict[str, tuple[str, str]] = {}

    def extract(self) -> Extracted:
        """Run what is wanted and not there yet; Ray starts only if there is something to do.

        Raises:
            UserError: the tables cannot be written, or another process writes to them.
            RuntimeError: clips are missing at the end (a defect, never the user's fault).
        """
        self.run.check_writable()
        with hold(self.run.root) as self._held:
            return self._extract()

    def _extract(self) -> Extracted:
        self.run.clips.replace(clip_table(self.clips))
        self.run.status.merge()
        with self._ray:
            ready = self._bring_up(TRACKS, self.clips)
            for name in self.plan.modalities:
                self._bring_up(name, ready)
        excluded = write_excluded(self.run, self.excluded)
        rejects = pa.concat_tables([excluded, reject_rows(self.run, self.plan, self._rejected)])
        self.run.rejects.replace(rejects)
        wanted = len(self.clips) + len(self.excluded)
        counts, examples = reasons(rejects)
        num_rejected = rejects.num_rows
        return Extracted(
            wanted, wanted - num_rejected, num_rejected, self._computed, counts, examples
        )

    def _bring_up(self, name: str, clips: list[Clip]) -> list[Clip]:
        """Run a stage on what is pending of ``clips``, note who is rejected, return who is done."""
        fingerprint = self.plan.fingerprints[name]
        limits = limits_print(self.plan.limits)
        keys = [self.plan.key(name, clip) for clip in clips]
        states = self.run.status.states(fingerprint, limits=limits)
        todo = pending(dict(zip(keys, clips, strict=True)), states, retry=self.retry)
        self._computed[name] = len(todo)
        if todo:
            with interrupt.accounts():
                interrupt.account(lambda: self._kept(name, keys))
                self._compute(name, todo)
            self._still_held()
            self.run.status.merge()
            states = self.run.status.states(fingerprint, limits=limits)
        done = []
        for key, clip in zip(keys, clips, strict=True):
            if key not in states:
                raise RuntimeError(f"clip {clip.clip_id!r} was lost in stage {name!r}")
            if states[key] == DONE:
                done.append(clip)
            else:
                self._rejected.setdefault(clip.clip_id, (name, key))
        return done

    def _kept(self, name: str, keys: list[str]) -> str:
        states = self.run.status.states(self.plan.fingerprints[name])
        return f"{len(states.keys() & set(keys))} of {len(set(keys))} clips ({name})"

    def _compute(self, name: str, todo: dict[str, Clip]) -> None:
        self.progress.begin(name, len(todo))
        size = self.recipe.extract.shard_clips
        if name == TRACKS:
            stage, schema = self._tracks_stage(), _TRACKS_SCHEMA
            rows: Iterable[dict[str, Any]] = (clip_row(c) | {"key": k} for k, c in todo.items())
        else:
            stage, schema = self._encode_stage(name), CLOCKED_SCHEMA
            rows = self._clocked_rows(name, todo)
        for batches in grouped(batched(rows, size, schema)):
            self._still_held()
            self._run(stage, batches)

    def _still_held(self) -> None:
        """Write nothing where another process has taken the tables over."""
        assert self._held is not None
        self._held.check()

    def _tracks_stage(self) -> _Stage:
        settings = {
            "clock_hz": self.recipe.corpus.clock_hz,
            "detector": self.plan.detector,
            "tracker": self.plan.tracker,
            "reads_media": self.plan.reads_media,
        }
        uses_gpu = self.plan.detector is not None
        return _Stage(TRACKS, TracksStage, self._settings(TRACKS) | settings, uses_gpu)

    def _encode_stage(self, name: str) -> _Stage:
        settings = {"encoder": name, "options": self.recipe.streams[name]}
        uses_gpu = self.plan.uses_gpu(name)
        return _Stage(name, EncodeStage, self._settings(name) | settings, uses_gpu)

    def _settings(self, stage: str) -> dict[str, Any]:
        return {
            "run": self.run,
            "root": self.recipe.corpus.root,
            "fingerprint": self.plan.fingerprints[stage],
            "limits": self.plan.limits,
        }

    def _clocked_rows(self, name: str, todo: dict[str, Clip]) -> Iterator[dict[str, Any]]:
        clips: dict[str, list[tuple[str, Clip]]] = {}
        for key, clip in todo.items():
            clips.setdefault(self.plan.key(TRACKS, clip), []).append((key, clip))
        with_crops = self.plan.modalities[name] == "face"
        return clocked_rows(self.run, self.plan.fingerprints[TRACKS], clips, with_crops=with_crops)

    def _run(self, stage: _Stage, batches: list[pa.Table]) -> None:
        """Stream the batches; what a lost worker left open again, a clip a batch.

        Who ends its worker every time is rejected.
        """
        lost = _without(batches, self._stream(stage, batches, repeats=0))
        if not lost:
            return
        repeats = self.recipe.extract.max_attempts - 2
        fatal = _without(lost, self._stream(stage, lost, repeats=repeats))
        rows = [
            died_row(row, stage.name, self.plan.fingerprints[stage.name])
            for single in fatal
            for row in single.to_pylist()
        ]
        self.run.status.write_shard(rows, keys=[row["key"] for row in rows])
        self.progress.advance(stage.name, rows)

    def _stream(self, stage: _Stage, batches: list[pa.Table], *, repeats: int) -> set[str]:
        """Return the keys of the clips that were answered."""
        # the first one connects, all others say what the cluster has by now: nodes come and go
        cluster = self._ray.enter_context(ray_session())
        size = plan_pool(
            self.recipe.extract.pools.get(stage.name, Pool()),
            uses_gpu=stage.uses_gpu,
            num_batches=len(batches),
            cluster=cluster,
        )
        answered: set[str] = set()
        with suppress(WorkerLostError):
            for status in stream(batches, stage.worker, stage.settings, size=size, repeats=repeats):
                answered.update(status["key"].to_pylist())
                self.progress.advance(stage.name, status.to_pylist())
        return answered


def _without(batches: list[pa.Table], answered: set[str]) -> list[pa.Table]:
    """One-row slices of the clips that nobody has answered for."""
    return [
        batch.slice(i, 1)
        for batch in batches
        for i, key in enumerate(batch["key"].to_pylist())
        if key not in answered
    ]
