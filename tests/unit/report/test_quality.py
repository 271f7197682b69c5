"""Coverage, composition and rejects of a made-up run against counts by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from erray.plan import Plan
from erray.records import Clip
from erray.report.coverage import coverage
from erray.report.quality import Quality, assess
from erray.report.sources import RunData, read_run
from erray.report.tables import Tables, _shares
from erray.store import RunFolder
from tests.unit.report.conftest import Built

SPLITS = ("train", "val", "test", "challenge")


def open_run(built: Built, out: str) -> tuple[RunData, Tables]:
    recipe = built.run.recipe
    data = read_run(RunFolder.of(recipe, out), streams=list(recipe.streams))
    return data, Tables(data, Plan(recipe))


@pytest.fixture(scope="module")
def quality(built: Built) -> Quality:
    return assess(*open_run(built, built.run.out), SPLITS)


def rows_of(built: Built, table: str, stream: str) -> dict[str, list[bool]]:
    """Clip id to presence, straight from the made-up tables."""
    folder, plan = RunFolder(built.run.out), Plan(built.run.recipe)
    if table == "tracks":
        return {row["clip_id"]: row["present"] for row in folder.tracks.read().to_pylist()}
    features = folder.features(stream, plan.fingerprints[stream])
    return {row["clip_id"]: row["present"] for row in features.read().to_pylist()}


@pytest.mark.parametrize(
    ("name", "table"), [("main face", "tracks"), ("hog", ""), ("logmel", ""), ("hash", "")]
)
def test_coverage_is_the_share_of_present_ticks(built, quality, name, table) -> None:
    found = next(c for c in quality.coverage if c.name == name)
    present, clips = rows_of(built, table, name), {c.clip_id: c for c in built.run.clips}
    if table:  # a clip without a face has no track, and counts
        done = rows_of(built, "", "hog")
        present = {clip_id: present.get(clip_id, [False]) for clip_id in done}
    shares = {clip_id: float(np.mean(ticks)) for clip_id, ticks in present.items()}
    assert found.num_clips == len(shares) == 63
    assert found.median == pytest.approx(np.median(list(shares.values())))
    assert found.num_without == sum(share == 0 for share in shares.values()) > 0
    tenths = [min(int(10 * share + 1e-9), 9) for share in shares.values()]
    assert found.histogram == np.bincount(tenths, minlength=10).tolist()
    for split, part in zip(SPLITS, found.splits, strict=True):
        own = [share for clip_id, share in shares.items() if clips[clip_id].split == split]
        assert part is not None and part.num_clips == len(own)
        assert part.mean == pytest.approx(np.mean(own))
        assert part.num_without == sum(share == 0 for share in own)


def test_modalities_are_named(quality) -> None:
    assert [(c.name, c.modality) for c in quality.coverage] == [
        ("main face", "face"), ("hog", "face"), ("logmel", "voice"), ("hash", "text"),
    ]  # fmt: skip


def test_rows_of_one_key_are_added_and_empty_ones_count_for_nothing() -> None:
    table = pa.table(
        {
            "key": ["long", "short", "long", "none"],
            "present": [[True, False, True], [False], [True], []],
        },
        schema=pa.schema([("key", pa.string()), ("present", pa.list_(pa.bool_()))]),
    )
    assert _shares(table) == {"long": 0.75, "short": 0.0}
    assert _shares(table.slice(2)) == {"long": 1.0}  # of a part: offsets begin within the values
    assert _shares(table.slice(0, 0)) == {}


def test_a_split_without_clips_has_no_coverage() -> None:
    clips = {name: Clip(name, "m", "train", "g") for name in "ab"}
    found = coverage("x", "voice", {"a": 0.0, "b": 1.0}, clips, ["train", "test"])
    assert found.histogram == [1, *[0] * 8, 1] and found.splits[1] is None
    assert found.splits[0] is not None and found.splits[0].mean == 0.5


def test_composition_counts_clips_and_groups(built, quality) -> None:
    counts, clips = quality.composition, built.run.clips
    assert counts.columns == list(SPLITS)
    for name, numbers in counts.rows:
        label = None if name == "unlabelled" else name
        for split, number in zip(SPLITS, numbers, strict=True):
            assert number == sum((c.label, c.split) == (label, split) for c in clips)
    assert counts.totals == [18, 8, 30, 9]
    groups = [len({c.group for c in clips if c.split == split}) for split in SPLITS]
    assert quality.num_groups == groups


def test_rejects_are_counted_by_reason_and_stage(built, run_folder: Path) -> None:
    folder = RunFolder(str(run_folder))
    rows = [
        {"clip_id": name, "stage": stage, "state": "rejected", "reason": reason}
        for name, stage, reason in [
            ("a", "tracks", "no_video: the file has no video stream"),
            ("b", "tracks", "timeout: after 30 s"),
            ("c", "logmel", "timeout: after 40 s"),
            ("d", "logmel", None),
        ]
    ]
    folder.rejects.replace(rows)
    found = assess(*open_run(built, str(run_folder)), SPLITS)
    assert found.reasons.columns == ["logmel", "tracks"]
    assert found.reasons.rows == [("timeout", [1, 1]), ("no_video", [0, 1]), ("unknown", [1, 0])]
    assert found.reasons.totals == [2, 2]


def test_notes_are_counted_by_kind(quality) -> None:
    assert quality.note_counts == [("truncated", len(quality.notes))]
    assert quality.notes and {row["note"] for row in quality.notes} == {"truncated 28/50"}
