"""``erray predict``: what it takes for its model, its recipe and its media; no step runs here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from erray.cli.main import main
from erray.cli.predict import show_videos


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "working"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("ERRAY_HOME", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    return folder


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "films" / "one.mp4"
    path.parent.mkdir()
    path.write_text("not a video")
    return path


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["predict", *arguments])
    return int(caught.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give videos, or -r RECIPE for the recipe's corpus"),
        (["--model", "models:/m/1"], "give videos, or -r RECIPE for the recipe's corpus"),
        (["-r", "demo", "--annotate"], "--annotate is for videos on the command line"),
        (["FILM"], "no model: give --model models:/NAME@champion, or -r RECIPE"),
        (["FILM.gone", "-r", "demo"], "no file or folder"),
        (["FILM", "-r", "demo", "-o", "predict.split=test"], "need a corpus"),
        (
            ["FILM", "-r", "demo", "-o", "predict.smoothing.width=2"],
            "predict.smoothing.width is read with a kind only",
        ),
        (
            ["FILM", "-r", "demo", "-o", "predict.submission.fill=hold"],
            "predict.submission.fill is read with a frame list only",
        ),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(arguments, message, capsys, film, empty_folder):
    assert call(*(text.replace("FILM", str(film)) for text in arguments)) == 2
    found = capsys.readouterr()
    assert found.out == "" and message in found.err and found.err.count("\n") == 1
    assert list(empty_folder.iterdir()) == []


def test_a_dry_run_over_media_names_files_recipe_and_model(capsys, film, empty_folder):
    options = ["-r", "demo", "-o", "predict.smoothing.kind=box", "--dry-run", "--json"]
    assert call(str(film), *options) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["media"] == ["one.mp4"] and plan["model"] == "models:/erray-demo@champion"
    assert plan["recipe"]["corpus"]["root"] == str(film.parent)
    assert plan["recipe"]["predict"]["smoothing"]["kind"] == "box"
    assert plan["out"] == str(empty_folder / "runs" / "demo-media")
    assert set(plan["stages"]) == {"tracks", "hog", "logmel", "hash"}
    assert list(empty_folder.iterdir()) == []


def test_the_model_option_is_the_recipes_model(capsys, tmp_path, film):
    (film.parent / "manifest.csv").write_text("clip_id,media,split\na,one.mp4,challenge\n")
    (film.parent / "challenge_frames.txt").write_text("a/00001.jpg\n")
    options = ["-r", "demo", "-o", f"corpus.root={film.parent}", "--model", "models:/m@best"]
    assert call(*options, "--dry-run", "--json") == 0
    assert json.loads(capsys.readouterr().out)["recipe"]["predict"]["model"] == "models:/m@best"


def test_videos_are_shown_with_their_confidence_and_rejects_with_their_reason(capsys):
    video = {
        "video": "/films/[a].mp4",
        "predicted": "Fear",
        "confidence": 0.625,
        "probabilities": {"Fear": 0.625, "Anger": 0.125, "Sadness": 0.25},
        "seconds": 12.04,
        "face_share": 0.5,
        "annotated": "/out/annotated/[a].mp4",
    }
    show_videos(
        {
            "model": {"name": "m", "version": "3"},
            "pair_rule": None,
            "videos": [video],
            "rejected": {"b": "not_media: text"},
            "out": "/out",
        }
    )
    text = capsys.readouterr().out
    for part in ("[a].mp4", "Fear", "62%", "Sadness 25%", "12.0 s", "50%"):
        assert part in text
    assert "not predicted: b: not_media: text" in text
    assert "Annotated: /out/annotated/[a].mp4" in text
