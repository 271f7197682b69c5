"""What of val is set apart: whole groups, the same for every recipe, none where val is small."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erray.config import Corpus
from erray.corpora import read_corpus
from erray.corpora.holdout import HOLDOUT, MIN_GROUPS, set_apart, with_whole_val
from erray.records import Clip


def clip(number: int, split: str = "val", *, group: str, label: str | None = "Anger") -> Clip:
    return Clip(clip_id=f"{split}{number}", media="m", split=split, group=group, label=label)


def val(num_groups: int, *, per_group: int = 2) -> list[Clip]:
    return [clip(i, group=f"film{i // per_group}") for i in range(num_groups * per_group)]


def apart(clips: list[Clip], **settings: object) -> set[str]:
    found, _ = set_apart(Corpus(**settings), clips)
    return {clip.group for clip in found if clip.split == HOLDOUT}


@given(st.integers(1, 60), st.floats(0, 0.99))
def test_whole_groups_move_and_six_are_on_either_side_or_none_moves(num_groups, share):
    clips = val(num_groups)
    found, _ = set_apart(Corpus(holdout_share=share), clips)
    taken = {c.group for c in found if c.split == HOLDOUT}
    rest = {c.group for c in found if c.split == "val"}
    assert not taken & rest and len(taken) + len(rest) == num_groups
    if share == 0 or num_groups < 12:
        assert not taken
    else:
        assert len(taken) >= MIN_GROUPS <= len(rest)
        wanted = share * num_groups
        assert abs(len(taken) - wanted) <= 0.5 or len(taken) == 6 or len(rest) == 6
    assert with_whole_val(found) == clips


def test_the_groups_are_the_first_by_the_hash_of_their_names():
    clips = val(40)
    names = sorted({c.group for c in clips}, key=lambda name: sha256(name.encode()).digest())
    assert apart(clips) == set(names[:12])
    shuffled = random.Random(1).sample(clips, len(clips))
    others = [clip(1, "train", group="a"), *shuffled, clip(2, "test", group="b")]
    assert apart(others) == apart(clips)
    assert apart(clips, holdout_share=0.2) < apart(clips) < apart(clips, holdout_share=0.5)


def test_only_labelled_groups_that_lie_in_val_alone_count():
    clips = val(12)
    assert len(apart(clips)) == 6
    shared = [*clips, clip(0, "train", group="film0")]
    unlabelled = [replace(c, label=None) if c.group == "film0" else c for c in clips]
    assert apart(shared) == apart(unlabelled) == set()


@pytest.mark.parametrize(
    ("clips", "settings", "line"),
    [
        (val(20), {}, "12 clips in 6 of 20 groups of val are set apart and choose nothing"),
        (val(11), {}, r"nothing of val is set apart \(11 labelled groups .*, 12 are needed"),
        (val(20), {"holdout_share": 0.0}, "nothing of val .*holdout_share is 0.*optimistic"),
        (val(20), {"protocol": "published"}, "nothing of val .*published keeps val as it was"),
        ([*val(20), clip(0, HOLDOUT, group="own")], {}, "1 clips in 1 groups, the corpus' own"),
        ([clip(0, "challenge", group="a")], {}, "^$"),
    ],
)
def test_a_line_says_what_is_set_apart_or_why_nothing_is(clips, settings, line):
    found, said = set_apart(Corpus(**settings), clips)
    assert re.search(line, said), said
    moved = [c.clip_id for c in found if c.split == HOLDOUT]
    assert bool(moved) == ("nothing of val" not in said and bool(said))


def test_a_corpus_is_read_with_its_holdout(tmp_path):
    rows = [f"{i},{i}.mp4,{'val' if i < 24 else 'train'},g{i},Anger" for i in range(30)]
    head = "clip_id,media,split,group,label"
    (tmp_path / "manifest.csv").write_text("\n".join([head, *rows]) + "\n")
    corpus = read_corpus(Corpus(root=str(tmp_path), labels="basic7"), needs_media=False)
    splits = [clip.split for clip in corpus.clips]
    assert (splits.count(HOLDOUT), splits.count("val"), splits.count("train")) == (7, 17, 6)
    assert "7 clips in 7 of 24 groups" in corpus.holdout
