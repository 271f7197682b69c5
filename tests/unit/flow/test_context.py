"""Where a run's arrays for training are built."""

from __future__ import annotations

from pathlib import Path

import pytest

from erray.flow.context import Flow
from erray.plan import Plan
from erray.store import RunFolder
from tests.unit.made_up_features import tiny_clips, tiny_recipe, write_features


@pytest.mark.parametrize("named", [True, False])
def test_arrays_are_built_where_the_recipe_says(tmp_path, monkeypatch, named):
    fast, out = tmp_path / "fast", tmp_path / "run"
    recipe = tiny_recipe(train={"arrays": str(fast)} if named else {})
    clips = tiny_clips(3)
    run = RunFolder.of(recipe, out)
    write_features(run, Plan(recipe), {clip.clip_id: 4 for clip in clips}, clips, shard_clips=2)
    monkeypatch.setattr(Flow, "clips", clips)
    arrays = Flow(recipe, out, tmp_path).arrays("train")
    place = fast if named else out / "cache"
    assert arrays.folder.parent == place and len(arrays.clips) == 3
    assert fast.exists() == named and (out / "cache").exists() != named
    other = Flow(recipe, Path(f"{out}-other"), tmp_path)
    monkeypatch.setattr(Flow, "tables", run)
    assert (other.arrays("train").folder == arrays.folder) == named, "runs may share a folder"
