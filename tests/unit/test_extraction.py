"""An extraction of words in this process: what is wanted, done, rejected, repeated and refused.

The pool of actors is tested with a real Ray in the integration tests; here batches go through the
same workers one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import erray.extraction
import erray.stages.tracks
from erray import clip_batches
from erray.config import Recipe
from erray.errors import MediaError
from erray.extraction import Extracted, Extractor
from erray.plan import TRACKS, Plan
from erray.records import Clip
from erray.stages.clock import stated_ticks
from erray.store import RunFolder
from erray.store import status as status_module
from erray.streaming import PoolSize
from tests.unit.made_up_features import tiny_recipe

RECIPE = tiny_recipe(
    streams={"hash": {"width": 8}}, corpus={"clock_hz": 5.0}, extract={"shard_clips": 2}
)


def make_clips(num: int) -> list[Clip]:
    """Clips of words alone; every fifth has no length and is rejected."""
    return [
        Clip(
            clip_id=f"c{i}",
            media=f"c{i}.mp4",
            split="train",
            group="g",
            transcript=f"number {i}",
            start_s=i / 10,
            duration_s=None if i % 5 == 4 else 1.0 + i / 10,
        )
        for i in range(num)
    ]


def stated_or_refused(clip: Clip, clock_hz: float | None) -> Any:
    """Stands for a medium that cannot be read: words alone are never rejected."""
    if clip.duration_s is None:
        raise MediaError("no_media: nothing is there")
    return stated_ticks(clip, clock_hz)


@pytest.fixture
def sizes() -> list[PoolSize]:
    """Every pool that was asked for."""
    return []


@pytest.fixture
def batches(monkeypatch, sizes) -> list[list[str]]:
    """Clip ids of every batch that a worker was given; no Ray starts."""
    given: list[list[str]] = []

    def stream(
        batches: list[pa.Table],
        worker: type,
        settings: dict[str, Any],
        *,
        size: PoolSize,
        repeats: int,
    ) -> Iterator[pa.Table]:
        sizes.append(size)
        for batch in batches:
            given.append(batch["clip_id"].to_pylist())
            yield worker(**settings)(batch)

    monkeypatch.setattr(erray.extraction, "stream", stream)
    monkeypatch.setattr(erray.stages.tracks, "stated_ticks", stated_or_refused)
    monkeypatch.setattr(erray.extraction, "ray_session", lambda: nullcontext({"CPU": 1.0}))
    return given


def extract(out: Path, clips: list[Clip], recipe: Recipe = RECIPE, **options: Any) -> Extracted:
    return Extractor(recipe, clips, str(out), **options).extract()


def feature_rows(run: RunFolder, recipe: Recipe = RECIPE) -> dict[str, Any]:
    rows = run.features("hash", Plan(recipe).fingerprints["hash"]).read().to_pylist()
    return {row["clip_id"]: row for row in rows}


def test_what_is_there_is_not_computed_again(tmp_path, batches):
    clips = make_clips(10)
    first = extract(tmp_path, clips)
    assert (first.wanted, first.done, first.rejected) == (10, 8, 2)
    assert first.computed == {TRACKS: 10, "hash": 8}
    run = RunFolder(str(tmp_path))
    assert set(feature_rows(run)) == {c.clip_id for i, c in enumerate(clips) if i % 5 != 4}
    assert {row["clip_id"] for row in run.rejects.read().to_pylist()} == {"c4", "c9"}
    assert run.clips.read().num_rows == 10
    batches.clear()
    assert extract(tmp_path, clips) == replace(first, computed={TRACKS: 0, "hash": 0})
    assert batches == []
    more = extract(tmp_path, [*clips, *make_clips(12)[10:]])
    assert batches == [["c10", "c11"]] * 2 and (more.wanted, more.done) == (12, 10)


def test_only_rejects_run_again_when_asked(tmp_path, batches):
    clips = make_clips(10)
    first = extract(tmp_path, clips)
    batches.clear()
    again = extract(tmp_path, clips, retry=True)
    assert batches == [["c4", "c9"]]
    assert again == replace(first, computed={TRACKS: 2, "hash": 0})


def test_groups_and_merged_shards_change_no_row(tmp_path, batches, monkeypatch):
    clips = make_clips(23)
    expected = extract(tmp_path / "whole", clips)
    rows = feature_rows(RunFolder(str(tmp_path / "whole")))
    monkeypatch.setattr(clip_batches, "_GROUP_BATCHES", 3)
    monkeypatch.setattr(status_module.StatusTable.merge, "__kwdefaults__", {"least": 4})
    batches.clear()
    assert extract(tmp_path / "parts", clips) == expected
    run = RunFolder(str(tmp_path / "parts"))
    assert feature_rows(run) == rows
    names = [path.rsplit("/", 1)[-1].rpartition("-")[0] for path in run.status.shards()]
    assert names == ["merged-000001", "merged-000002"]
    assert sorted(c for batch in batches for c in batch) == sorted(
        [c.clip_id for c in clips] + list(rows)
    )
    batches.clear()
    assert extract(tmp_path / "parts", clips).computed == {TRACKS: 0, "hash": 0}


def test_clips_of_equal_content_are_computed_once_and_all_counted(tmp_path, batches):
    clips = make_clips(5)
    twins = [replace(clip, clip_id=f"twin-{clip.clip_id}") for clip in clips]
    found = extract(tmp_path, [*clips, *twins])
    assert (found.wanted, found.done, found.rejected) == (10, 8, 2)
    assert found.computed == {TRACKS: 5, "hash": 4}
    rejects = RunFolder(str(tmp_path)).rejects.read().to_pylist()
    assert {row["clip_id"] for row in rejects} == {"c4", "twin-c4"}
    assert len({row["key"] for row in rejects}) == 1 and all(row["reason"] for row in rejects)


@pytest.mark.parametrize(
    ("num_gpus", "fraction", "expected"),
    [
        (0, None, PoolSize(6, 1, 0)),
        (1, None, PoolSize(1, 1, 1)),
        (2, None, PoolSize(2, 1, 1)),
        (4, None, PoolSize(4, 1, 1)),
        (1, 0.5, PoolSize(2, 1, 0.5)),
        (2, 0.5, PoolSize(4, 1, 0.5)),
        (4, 0.5, PoolSize(6, 1, 0.5)),  # the CPUs are used up before the GPUs
        (4, 0, PoolSize(6, 1, 0)),
        (4, 2, PoolSize(2, 1, 2)),
    ],
)
def test_a_stage_with_weights_asks_for_the_gpus_of_the_cluster(
    num_gpus, fraction, expected, tmp_path, batches, sizes, monkeypatch
):
    monkeypatch.setattr(Plan, "uses_gpu", lambda *_: True)
    cluster = {"CPU": 6.0} | ({"GPU": float(num_gpus)} if num_gpus else {})
    monkeypatch.setattr(erray.extraction, "ray_session", lambda: nullcontext(cluster))
    pools = {} if fraction is None else {"hash": {"num_gpus": fraction}}
    recipe = tiny_recipe(
        streams={"hash": {"width": 8}},
        corpus={"clock_hz": 5.0},
        extract={"shard_clips": 1, "pools": pools},
    )
    extract(tmp_path, make_clips(20), recipe)
    # nobody looks for faces: the clock needs no GPU
    assert sizes == [PoolSize(6, 1, 0), expected]


def test_what_joins_the_cluster_is_used_from_the_next_pool_on(
    tmp_path, batches, sizes, monkeypatch
):
    monkeypatch.setattr(Plan, "uses_gpu", lambda *_: True)
    monkeypatch.setattr(clip_batches, "_GROUP_BATCHES", 4)
    clusters = iter([{"CPU": 1.0}] * 4 + [{"CPU": 3.0, "GPU": 2.0}])
    monkeypatch.setattr(erray.extraction, "ray_session", lambda: nullcontext(next(clusters)))
    extract(tmp_path, make_clips(20))
    # 10 batches of clocks and 8 of features, four to a pool
    assert sizes == [PoolSize(1, 1, 0)] * 4 + [PoolSize(2, 1, 1)]


def test_a_clip_that_nobody_answers_for_is_a_defect(tmp_path, batches, monkeypatch):
    monkeypatch.setattr(Extractor, "_run", lambda *_: None)
    with pytest.raises(RuntimeError, match="clip 'c0' was lost in stage 'tracks'"):
        extract(tmp_path, make_clips(2))
