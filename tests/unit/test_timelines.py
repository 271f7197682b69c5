"""Rows of predictions over time, and their files read back by the csv module."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax

from erray.config import Smoothing
from erray.records import tensor_columns
from erray.timelines import Timeline, timeline_name, write_timelines

CLASSES = ("calm", "glad", "sad")


def row(clip_id: str = "v", num_ticks: int = 20) -> dict:
    logits_TC = np.random.default_rng(num_ticks).normal(0, 2, (num_ticks, 3)).astype(np.float32)
    columns = tensor_columns(logits_TC)
    return {
        "clip_id": clip_id,
        "times_s": (0.5 + np.arange(num_ticks) / 25).tolist(),
        "logits": bytes(columns["values"]),
        "shape": columns["shape"],
        "dtype": columns["dtype"],
        "classes": list(CLASSES),
    }


def logits_of(found: dict) -> np.ndarray:
    return np.frombuffer(found["logits"], np.float32).reshape(found["shape"])


def test_probabilities_are_the_softmax_of_the_logits():
    timeline = Timeline.of(row(), smoothing=Smoothing())
    np.testing.assert_allclose(
        timeline.probabilities_TC, softmax(logits_of(row()), axis=1), rtol=1e-6
    )
    assert timeline.class_T.tolist() == logits_of(row()).argmax(1).tolist()


def test_a_width_in_seconds_is_one_in_ticks_of_the_clock():
    found = [
        Timeline.of(row(), smoothing=Smoothing(kind="box", width=width, unit=unit))
        for width, unit in ((0.16, "s"), (4, "ticks"))
    ]
    np.testing.assert_allclose(found[0].probabilities_TC, found[1].probabilities_TC)
    middle_C = softmax(logits_of(row()), axis=1)[5:10].mean(0)  # 2 ticks on both sides
    np.testing.assert_allclose(found[0].probabilities_TC[7], middle_C, rtol=1e-6)


def test_files_hold_time_probabilities_and_label_and_stale_ones_go(tmp_path: Path):
    folder = tmp_path / "timelines"
    write_timelines(folder, [Timeline.of(row("old"), smoothing=Smoothing())])
    made = [
        Timeline.of(row("train/a", 3), smoothing=Smoothing()),
        Timeline.of(row("b.mp4", 2), smoothing=Smoothing()),
    ]
    assert write_timelines(folder, made) == 2
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert files == {"train/a.csv", "b.mp4.csv"}
    assert [p.name for p in tmp_path.iterdir()] == ["timelines"]
    with (folder / "train" / "a.csv").open(newline="") as file:
        header, *lines = csv.reader(file)
    assert header == ["time_s", *CLASSES, "label"]
    for tick, (time_s, *values, label) in enumerate(lines):
        assert float(time_s) == pytest.approx(0.5 + tick / 25)
        np.testing.assert_allclose(
            np.array(values, float), made[0].probabilities_TC[tick], atol=5e-6
        )
        assert label == CLASSES[int(made[0].class_T[tick])]
    assert len(lines) == 3


@pytest.mark.parametrize(
    ("clip_id", "name"),
    [
        ("a", "a.csv"),
        ("train/dia0_utt0", "train/dia0_utt0.csv"),
        ("../../etc/a", "etc/a.csv"),
        ("/etc/a", "etc/a.csv"),
        ("..", "_.csv"),
    ],
)
def test_no_clip_leads_out_of_the_folder(clip_id, name):
    assert timeline_name(clip_id) == name
