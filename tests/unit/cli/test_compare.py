"""``erray compare`` as it is typed: what it prints, its JSON, its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from erray.cli.main import main
from erray.cli.results import show_ablation
from erray.flow.report import ablation_table
from erray.labels import CEXPR_7
from erray.training.runs import TrainingRun
from tests.unit.evaluation.made_up import made_up_rows


@pytest.fixture(autouse=True)
def usual_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    found = []
    for seed, skill in enumerate((3.0, 0.5)):
        run = TrainingRun(tmp_path / f"[{seed}]")
        run.predictions.replace(made_up_rows(seed, skill=skill))
        history = {"metric": "val_frame_macro_f1", "best_metric": 0.25}
        (run.folder / "history.json").write_text(json.dumps(history))
        found.append(str(run.folder))
    return found


def call(*arguments: str) -> int:
    try:
        main(["compare", *arguments])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_both_scores_differences_and_classes_are_shown(runs, capsys):
    assert call(*runs, "--json") == 0
    found = capsys.readouterr()
    result, shown = json.loads(found.out), found.err
    assert f"a: {runs[0]} (mean logits)" in shown
    for title in (
        "test: 60 clips in 20 groups",
        "test: frames of 60 clips in 20 groups",
        "Other ignored: 53 clips in 20 groups",
        "Other ignored: frames of 53 clips in 20 groups",
    ):
        assert shown.count(title) == 1
    assert shown.count("weighted F1 ") == shown.count("accuracy ") == 4
    assert shown.count("macro F1 over all 8 classes") == 1
    assert shown.count("macro F1 over all 7 classes") == 1  # Other ignored
    assert "not corrected" in shown and "clips taken as independent" in shown
    row = result["clips"]["weighted_f1"]
    line = next(line for line in shown.splitlines() if "weighted F1 " in line)
    for side in "ab":
        assert f"{row[side]['value']:.3f} {row[side]['low']:.2f}-{row[side]['high']:.2f}" in line
    assert f"{row['difference']['difference']:+.3f}" in line
    test = result["mcnemar"]
    assert f"only a {test['only_a']}, only b {test['only_b']}" in shown
    assert "McNemar p < 0.001" in shown
    assert shown.count(result["classes"][0]["name"]) == 1
    assert "left out" not in shown


def test_one_metric_one_rule(runs, capsys):
    assert call(*runs, "--metric", "macro_f1", "--rule", "majority", "--json") == 0
    found = capsys.readouterr()
    assert set(json.loads(found.out)["clips"]) == {"macro_f1"}
    assert "(majority)" in found.err and "weighted F1" not in found.err


def test_two_groups_decide_nothing(runs, capsys):
    for i, folder in enumerate(runs):
        rows = made_up_rows(i, skill=3.0 - 2.5 * i)
        two = [row | {"group": f"g{k % 2}"} for k, row in enumerate(rows)]
        TrainingRun(Path(folder)).predictions.replace(two)
    assert call(*runs, "--json") == 0
    found = capsys.readouterr()
    gap = json.loads(found.out)["clips"]["accuracy"]["difference"]
    assert gap["p_value"] is gap["low"] is None and gap["num_groups"] == 2
    rows = [line for line in found.err.splitlines() if line.strip().startswith("accuracy ")]
    assert "".join(rows).count("undecided (2 groups)") == 4 * 3
    classes = found.err.split("most changed first")[1]
    assert classes.count("undecided (") == 8


def test_clips_that_are_left_out_are_counted(runs, tmp_path, capsys):
    rows = made_up_rows(1, num_clips=50)
    TrainingRun(Path(runs[1])).predictions.replace(rows)
    assert call(*runs) == 2
    assert "pass --common" in capsys.readouterr().err
    assert call(*runs, "--common") == 0
    shown = capsys.readouterr()
    assert "left out: 10 clips that only a covers, 0 that only b covers" in shown.out
    assert shown.err == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split", "train"], "no labelled clip of split 'train'"),
        (["--metric", "f2"], "f2"),
        (["--rule", "votes"], "votes"),
    ],
)
def test_a_mistake_is_exit_code_2(runs, arguments, message, capsys):
    assert call(*runs, *arguments) == 2
    found = capsys.readouterr()
    assert message in found.err and found.out == "" and "Traceback" not in found.err


def test_other_label_sets_are_one_line_and_exit_code_2(runs, tmp_path, capsys):
    TrainingRun(Path(runs[1])).predictions.replace(made_up_rows(1, labels=CEXPR_7))
    assert call(*runs) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "different label sets" in error
    assert error.count("\n") == 1


def test_an_ablation_is_one_table(runs, capsys):
    named = {"hog": TrainingRun(Path(runs[1])), "hog+hash": TrainingRun(Path(runs[0]))}
    rows = ablation_table(named, num_bootstrap=100, seed=0)
    rejected = {"clip9": "not_finite: logits"}
    rule = "macro F1 over all 8 classes"
    show_ablation({"subsets": rows, "macro_f1_rule": rule, "rejected": rejected})
    shown = capsys.readouterr().out
    assert "macro F1 over all 8 classes; p corrected for the number of subsets" in shown
    assert "1 rejected clips are left out of every score:\n  clip9: not_finite: logits" in shown
    assert "Ablation: 60 test clips; val: val_frame_macro_f1" in shown
    hog = next(line for line in shown.splitlines() if line.strip().startswith("hog "))
    gap = rows[1]["minus_all"]["weighted_f1"]
    assert f"{gap['difference']:+.3f}" in hog and f"{rows[1]['macro_f1']['value']:.3f}" in hog
