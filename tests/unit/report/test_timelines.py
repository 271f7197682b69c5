from __future__ import annotations

import csv
import re
from itertools import groupby, pairwise

import numpy as np
import pytest
from scipy.special import softmax

import erray.timelines
from erray.config import Smoothing
from erray.report.sources import ClipPrediction
from erray.report.thumbnails import NUM_SLOTS, Faces
from erray.report.timelines import Timeline, choose_clips, make_timeline
from erray.scoring import prediction_row
from erray.timelines import write_timelines

CLASSES = ("a", "b", "c")
NO_FACES = Faces(np.array([], dtype=np.int64), [])


def predict(clip_id: str, label: str | None, predicted: str, num_ticks: int = 5) -> ClipPrediction:
    rng = np.random.default_rng(len(clip_id) + num_ticks)
    return ClipPrediction(
        clip_id=clip_id,
        group=clip_id,
        label=label,
        classes=CLASSES,
        times_s_T=7.0 + np.arange(num_ticks) / 25,
        logits_TC=rng.normal(size=(num_ticks, 3)).astype(np.float32),
        probabilities_C=np.array([0.2, 0.3, 0.5]),
        predicted=predicted,
    )


def lay_out(prediction: ClipPrediction, **presence: np.ndarray) -> Timeline:
    return make_timeline(
        prediction, transcript=None, faces=NO_FACES, presence=presence, smoothing=Smoothing()
    )


def corners(shape: str) -> np.ndarray:
    return np.array(re.findall(r"([\d.]+) ([\d.]+)", shape), dtype=float)


@pytest.mark.parametrize("num", [3, 4, 6, 9])
def test_a_choice_shows_every_class_right_and_wrong(num: int) -> None:
    clips = [
        predict(f"{label}{i}{p}", label, p) for label in CLASSES for p in CLASSES for i in "xyz"
    ]
    chosen = choose_clips(clips, num)
    assert len({p.clip_id for p in chosen}) == num
    assert {p.label for p in chosen} == set(CLASSES)
    assert {p.label == p.predicted for p in chosen} == {True, False}
    assert [p.clip_id for p in choose_clips(clips[::-1], num)] == [p.clip_id for p in chosen]


def test_a_choice_ends_with_the_clips() -> None:
    clips = [predict("x", "a", "a"), predict("y", None, "b")]
    assert len(choose_clips(clips, 50)) == 2
    assert choose_clips(clips, 0) == []
    assert choose_clips([], 4) == []


def test_the_label_stands_on_the_floor_and_a_wrong_answer_hangs_from_the_top() -> None:
    timeline = lay_out(predict("clip", "b", "a", num_ticks=30))
    assert [(b.name, b.role) for b in timeline.bands] == [
        ("b", "label"), ("c", "other"), ("a", "predicted"),
    ]  # fmt: skip
    floor, ceiling = corners(timeline.bands[0].path), corners(timeline.bands[-1].path)
    assert (floor[30:, 1] == 100).all()  # the lower edge; y points down
    assert (ceiling[:30, 1] == 0).all()
    shares = np.array(timeline.data["shares"])[:, 1]
    assert timeline.bands[0].peak == timeline.data["at"][int(shares.argmax())]
    assert (corners(timeline.bands[1].path)[30:][::-1] == floor[:30]).all()


def test_the_cursor_reads_the_softmax_of_the_logits() -> None:
    prediction = predict("clip", "b", "b", num_ticks=12)
    timeline = lay_out(prediction)
    powers = np.exp(prediction.logits_TC.astype(float))
    np.testing.assert_allclose(
        timeline.data["shares"], 1000 * powers / powers.sum(1, keepdims=True), atol=0.51
    )
    assert timeline.data["times_s"][0] == 0.0
    assert timeline.data["at"][-1] == 100.0
    assert timeline.correct is True


def test_stretches_cover_the_axis_and_streams_of_another_clock_are_left_out() -> None:
    present = np.array([True, True, False, False, True])
    timeline = lay_out(predict("clip", "a", "b"), hog=present, hash=np.ones(4, dtype=bool))
    assert sum(run.width for run in timeline.leads) == pytest.approx(100, abs=0.1)
    assert [name for name, _ in timeline.presence] == ["hog"]
    runs = timeline.presence[0][1]
    assert [(r.start, r.width) for r in runs] == [(0, 37.5), (87.5, 12.5)]


def test_one_tick_is_a_timeline_too() -> None:
    timeline = lay_out(predict("clip", None, "c", num_ticks=1))
    assert timeline.duration_s == 0.0
    assert timeline.correct is None
    assert [(run.start, run.width) for run in timeline.leads] == [(0, 100)]
    assert len(timeline.slots) == NUM_SLOTS


def test_long_clips_are_thinned_with_both_ends_kept() -> None:
    timeline = lay_out(predict("clip", "a", "a", num_ticks=5000))
    assert len(timeline.data["at"]) == len(timeline.data["shares"]) == 360
    assert timeline.data["times_s"][-1] == pytest.approx(4999 / 25)
    assert timeline.num_ticks == 5000


@pytest.mark.parametrize("kind", [None, "box", "gaussian"])
def test_the_page_shows_what_the_csv_file_of_the_prediction_holds(kind, tmp_path) -> None:
    """A model with a temperature: it is in the clip's probabilities, and in neither of these."""
    smoothing = Smoothing(kind=kind, width=0.1) if kind else Smoothing()
    logits_TC = np.random.default_rng(0).normal(0, 2, (40, 3)).astype(np.float32)
    row = prediction_row(
        logits_TC,
        clip_id="clip",
        split="challenge",
        group="g",
        label=None,
        times_s_T=3.0 + np.arange(40) / 25,
        classes=CLASSES,
        clip_rule="mean_logits",
        model_name="m",
        model_version="1",
        temperature=2.5,
    )
    write_timelines(tmp_path / "csv", [erray.timelines.Timeline.of(row, smoothing=smoothing)])
    with (tmp_path / "csv" / "clip.csv").open(newline="") as file:
        _, *lines = csv.reader(file)
    written_TC = np.array([line[1:-1] for line in lines], float)
    shown = make_timeline(
        ClipPrediction.from_row(row),
        transcript=None,
        faces=NO_FACES,
        presence={},
        smoothing=smoothing,
    )
    np.testing.assert_allclose(shown.data["shares"], 1000 * written_TC, atol=0.51)
    leaders = [line[-1] for line in lines]
    changes = sum(a != b for a, b in pairwise(leaders))
    assert [CLASSES[run.class_id] for run in shown.leads] == [name for name, _ in groupby(leaders)]
    assert len(shown.leads) == changes + 1 > 1
    plain_TC = softmax(logits_TC.astype(float), axis=1)
    assert (kind is None) == np.allclose(written_TC, plain_TC, atol=1e-5)
