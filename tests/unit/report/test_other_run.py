"""A page's comparison with another run against counts by hand, scipy and `erray compare`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, f1_score

from erray.errors import UserError
from erray.flow.compare import compare_runs
from erray.metrics import METRICS
from erray.records import PREDICTION_SCHEMA
from erray.report.build import build_report
from erray.store import Table
from tests.unit.report.conftest import Built


@pytest.fixture
def other(run_folder: Path) -> Path:
    """A copy of the run, whose registered run is tuned."""
    return run_folder


@pytest.fixture(scope="module")
def compared(built: Built, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, str, Path]:
    """The page of a copy against the single stream hog of the run."""
    copy = tmp_path_factory.mktemp("compared") / "run"
    shutil.copytree(built.run.out, copy)
    hog = Path(built.run.out) / "training" / "hog"
    metrics = build_report(str(copy), built.run.recipe, compare=str(hog))
    return metrics["comparison"], (copy / "report" / "index.html").read_text("utf-8"), hog


def on_test(built: Built, name: str) -> list[dict]:
    rows = [row for row in built.run.predictions[name] if row["split"] == "test"]
    return sorted(rows, key=lambda row: row["clip_id"])


def test_scores_and_mcnemar_are_those_of_the_clips(built, compared) -> None:
    found, _, hog = compared
    tuned, alone = on_test(built, "tuned"), on_test(built, "hog")
    labels = [row["label"] for row in tuned]
    said = {"a": [r["predicted"] for r in tuned], "b": [r["predicted"] for r in alone]}
    for side, answers in said.items():
        for metric, value in (
            ("accuracy", accuracy_score(labels, answers)),
            ("weighted_f1", f1_score(labels, answers, average="weighted")),
        ):
            assert found["clips"][metric][side]["value"] == pytest.approx(value)
    hits = {side: np.array(answers) == np.array(labels) for side, answers in said.items()}
    only_a, only_b = (hits["a"] & ~hits["b"]).sum(), (hits["b"] & ~hits["a"]).sum()
    assert (found["mcnemar"]["only_a"], found["mcnemar"]["only_b"]) == (only_a, only_b)
    assert 0 < only_a + only_b < 25  # so few that the test is the exact one
    expected = binomtest(int(only_a), int(only_a + only_b)).pvalue
    assert found["mcnemar"]["p_value"] == pytest.approx(expected)
    assert found["b"] == str(hog)
    assert json.loads(json.dumps(found, allow_nan=False)) == json.loads(json.dumps(found))


def test_the_numbers_are_those_of_the_command(built, compared) -> None:
    found, _, hog = compared
    tuned = Path(built.run.out) / "training" / "tuned"
    again = compare_runs((tuned, hog), split="test", metrics=list(METRICS), num_bootstrap=200)
    for key in ("mcnemar", "agreement", "both_right", "both_wrong", "num_clips"):
        assert found[key] == again[key]
    for level in ("clips", "frames"):
        for metric in METRICS:
            assert found[level][metric] == again[level][metric]


def test_the_page_lists_the_clips_that_one_run_alone_has_right(built, compared) -> None:
    _, page, _ = compared
    section = page.split('<section id="comparison">')[1].split("</section>")[0]
    this, other = section.split("Only the other is right")
    tuned, alone = on_test(built, "tuned"), on_test(built, "hog")
    num_shown = {"this": 0, "other": 0}
    for a, b in zip(tuned, alone, strict=True):
        right_a, right_b = a["predicted"] == a["label"], b["predicted"] == b["label"]
        num_shown["this"] += (mine := right_a and not right_b)
        num_shown["other"] += (theirs := right_b and not right_a)
        assert (f"{a['clip_id']}, group" in this) == mine
        assert (f"{a['clip_id']}, group" in other) == theirs
    assert f"Only this run is right: {num_shown['this']}<" in this
    assert max(num_shown.values()) <= 12, "else only the surest are listed"
    assert this.count("data:image/jpeg") + this.count('class="faceless"') == num_shown["this"]


def test_a_whole_run_stands_for_its_registered_one(built, other) -> None:
    whole = build_report(str(other), built.run.recipe, compare=f"{built.run.out}/")["comparison"]
    tuned = Path(built.run.out) / "training" / "tuned"
    assert whole["b"] == str(tuned)
    assert whole["mcnemar"]["only_a"] == whole["mcnemar"]["only_b"] == 0  # a copy of itself
    (Path(other) / "run.json").unlink()
    metrics = build_report(str(other), built.run.recipe, compare=str(tuned))
    assert metrics["comparison"]["clips"]["accuracy"]["a"]["value"] == pytest.approx(
        metrics["fusion"]["mean_logits"]["accuracy"]
    )


def test_what_cannot_be_compared_is_one_line_and_no_page(built, other, tmp_path) -> None:
    run, page = built.run, Path(built.run.out) / "report" / "index.html"
    before = page.read_text("utf-8")
    table = Table(str(other / "training" / "tuned" / "predictions"), PREDICTION_SCHEMA)
    rows = table.read().to_pylist()
    dropped = next(row["clip_id"] for row in rows if row["split"] == "test")
    table.replace([row for row in rows if row["clip_id"] != dropped])
    for folder, message in (
        (other, rf"cover different labelled clips: 1 only in .*\({dropped}\).*same test clips"),
        (tmp_path, "no finished training run in .* to compare with"),
        (Path(run.out), "is the run of this page: give another one"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            build_report(run.out, run.recipe, compare=str(folder))
        assert "\n" not in str(caught.value)
    table.replace([row for row in rows if row["split"] != "test"])
    with pytest.raises(UserError, match="predicts no labelled test clip"):
        build_report(run.out, run.recipe, compare=str(other))
    assert page.read_text("utf-8") == before


def test_without_another_run_there_is_no_comparison(built) -> None:
    assert built.metrics["comparison"] is None
    assert 'id="comparison"' not in built.page and "#comparison" not in built.page
