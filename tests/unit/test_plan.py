"""Fingerprints and keys: content and settings change them, names and places do not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erray.config import with_settings
from erray.plan import TRACKS, Plan, done_clips, pending, unseen_clips
from erray.records import DONE, REJECTED, Clip, Word
from erray.store import RunFolder
from tests.unit.made_up_features import tiny_clips, tiny_recipe

RECIPE = tiny_recipe(streams={"hog": {}, "logmel": {}, "hash": {}})
PLAN = Plan(RECIPE)
CLIP = Clip("a", "a.mp4", "train", "g", 1.0, 2.0, "Sadly Angry", "no way", None, file_sha256="5ha")
ALL = {TRACKS, "hog", "logmel", "hash"}


def changed_stages(settings: dict[str, object]) -> set[str]:
    other = Plan(with_settings(RECIPE, settings)).fingerprints
    return {name for name in ALL if other[name] != PLAN.fingerprints[name]}


def test_streams_keep_the_recipes_order():
    assert list(PLAN.modalities.items()) == [("hog", "face"), ("logmel", "voice"), ("hash", "text")]
    assert list(PLAN.widths) == ["hog", "logmel", "hash"] and PLAN.widths["hash"] == 256
    assert list(PLAN.fingerprints) == [TRACKS, "hog", "logmel", "hash"]


@pytest.mark.parametrize(
    ("settings", "stages"),
    [
        ({"faces.stride": 3}, {TRACKS, "hog"}),
        ({"faces.min_face_px": 41}, {TRACKS, "hog"}),
        ({"faces.jpeg_quality": 80}, {TRACKS, "hog"}),
        ({"faces.max_gap_s": 0.5}, {TRACKS, "hog"}),
        ({"faces.bridge_iou": 0.6}, {TRACKS, "hog"}),
        ({"faces.smooth_s": 0.0}, {TRACKS, "hog"}),
        ({"corpus.clock_hz": 12.5}, ALL),
        ({"streams.hash.width": 64}, {"hash"}),
        ({"streams.hog.orientations": 4}, {"hog"}),
        ({"name": "other", "seed": 3, "corpus.root": "/elsewhere", "train.epochs": 3}, set()),
        ({"extract.shard_clips": 2, "extract.pools": {"tracks": {"num_cpus": 2}}}, set()),
    ],
)
def test_a_setting_changes_the_stages_that_read_it(settings, stages):
    assert changed_stages(settings) == stages


def test_words_that_were_lost_once_get_new_rows_and_models_on_the_frames_clock_stay_valid():
    # fingerprints and keys of the version that lost words which outnumbered the ticks
    assert PLAN.fingerprints["hash"] == "772240d1c9eb10aa"
    silent = Clip("a", "a.mp4", "train", "g", transcript=None, file_sha256="5ha")
    assert PLAN.key("hash", silent) == "9f8608e713da19625bf7eb3f427a1252"
    spoken = replace(silent, transcript="no way")
    assert PLAN.key("hash", spoken) != "561490a48aea8b72cb96d4b847554160"
    slow = Plan(tiny_recipe(streams={"logmel": {}, "hash": {}}, corpus={"clock_hz": 5}))
    assert slow.fingerprints["logmel"] == "2133c3bb842aff03"
    assert slow.fingerprints["hash"] != "b18ed9002accd40b"


def test_without_a_face_stream_nobody_looks_for_faces():
    voice = Plan(tiny_recipe(streams={"logmel": {}}))
    assert voice.detector is None and PLAN.detector is not None
    blind = Plan(tiny_recipe(streams={"logmel": {}}, faces={"stride": 9}))
    assert blind.fingerprints == voice.fingerprints


def test_the_recipes_face_settings_reach_detector_and_tracker():
    settings = {"min_face_px": 50, "confidence": 0.8, "frame_side_px": 320}
    tracking = {"stride": 2, "crop_size_px": 64, "max_gap_s": 1.0, "bridge_iou": 0.2, "smooth_s": 0}
    plan = Plan(tiny_recipe(faces=settings | tracking))
    assert plan.detector is not None
    assert {name: getattr(plan.detector, name) for name in settings} == settings
    assert {name: getattr(plan.tracker, name) for name in tracking} == tracking


def test_tracks_of_default_settings_keep_their_fingerprint():
    # of the version before max_gap_s, bridge_iou and smooth_s were keys of a recipe
    assert PLAN.fingerprints[TRACKS] == "f4bf42dfccef8f17"
    assert PLAN.fingerprints["hog"] == "2bc6b8f2e3a7e5a1"


@pytest.mark.parametrize(
    ("change", "stages"),
    [
        ({"file_sha256": "other"}, ALL),
        ({"start_s": None}, ALL),
        ({"end_s": 2.5}, ALL),
        ({"transcript": "no"}, {"hash"}),
        ({"transcript": None}, {"hash"}),
        ({"words": (Word("no", 0.0, 0.5),)}, {"hash"}),
        ({"clip_id": "b", "media": "b.mp4", "split": "val", "group": "h", "label": None}, set()),
    ],
)
def test_a_key_follows_content(change, stages):
    other = replace(CLIP, **change)
    assert {name for name in ALL if PLAN.key(name, other) != PLAN.key(name, CLIP)} == stages


def test_the_clock_of_words_alone_follows_the_end_of_the_last_word():
    plan = Plan(tiny_recipe(streams={"hash": {}}, corpus={"clock_hz": 10}))
    unknown = replace(CLIP, end_s=None)
    heard, later = (replace(unknown, words=(Word("no way", 1.0, end_s),)) for end_s in (1.5, 9.5))
    assert len({plan.key(TRACKS, clip) for clip in (unknown, heard, later)}) == 3
    stated = [replace(clip, end_s=2.0) for clip in (unknown, heard, later)]
    assert len({plan.key(TRACKS, clip) for clip in stated}) == 1


def test_no_two_stages_share_a_key():
    assert len({PLAN.key(name, CLIP) for name in ALL}) == len(ALL)


def test_an_unknown_transcript_is_not_silence():
    silent, unknown = replace(CLIP, transcript=""), replace(CLIP, transcript=None)
    assert PLAN.key("hash", silent) != PLAN.key("hash", unknown)


def test_clips_of_equal_content_are_wanted_once():
    twin = replace(CLIP, clip_id="twin")
    assert list(PLAN.wanted(TRACKS, [CLIP, twin])) == [PLAN.key(TRACKS, CLIP)]


@given(st.lists(st.sampled_from([None, DONE, REJECTED]), max_size=12), st.booleans())
def test_pending_is_wanted_minus_present(found, retry):
    wanted = {str(i): CLIP for i in range(len(found))}
    known = {str(i): state for i, state in enumerate(found) if state}
    todo = pending(wanted, known | {"elsewhere": DONE}, retry=retry)
    assert {int(key) for key in todo} == {
        i for i, state in enumerate(found) if state is None or (state == REJECTED and retry)
    }


def test_clips_are_done_when_every_stage_has_done_them(tmp_path):
    run = RunFolder(str(tmp_path))
    assert done_clips(PLAN, run, tiny_clips(2), [TRACKS]) == []
    clips = tiny_clips(4)
    for stage, found in ((TRACKS, (DONE, DONE, REJECTED)), ("hog", (DONE, REJECTED, DONE))):
        rows = [
            {"key": PLAN.key(stage, clip), "fingerprint": PLAN.fingerprints[stage], "state": state}
            for clip, state in zip(clips, found, strict=False)
        ]
        run.status.write_shard(rows, keys=[stage])
    assert done_clips(PLAN, run, clips, [TRACKS]) == clips[:2]
    assert done_clips(PLAN, run, clips, [TRACKS, "hog"]) == clips[:1]
    assert unseen_clips(PLAN, run, clips, ["hog"]) == clips[3:], "the others are done or rejected"
    assert unseen_clips(PLAN, run, clips, ["hog", "hash"]) == [clips[0], clips[3]]
