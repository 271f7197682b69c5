"""Results on standard output, notes on standard error; tables folded where the screen is narrow."""

from __future__ import annotations

import json
import re

import pytest
from rich.cells import cell_len
from rich.text import Text

from erray.cli import display
from erray.cli.columns import folded, wrapped
from erray.cli.display import paired, print_hanging, say, table, with_limits
from erray.cli.main import main
from tests.unit.cli.made_up_results import LONG_STREAMS, SHOWN, gap, score
from tests.unit.media_files import write_video


def shown(name: str, width: int, monkeypatch, capsys) -> list[str]:
    monkeypatch.setattr(display, "results", display.Console(highlight=False, width=width))
    SHOWN[name]()
    found = capsys.readouterr()
    assert found.out and found.err == "", name
    return [line.rstrip() for line in found.out.splitlines()]


@pytest.mark.parametrize("width", [80, 60, 40])
@pytest.mark.parametrize("name", SHOWN)
def test_the_result_of_a_step_is_on_standard_output_and_whole(name, width, monkeypatch, capsys):
    narrow, wide = (shown(name, w, monkeypatch, capsys) for w in (width, 400))
    values = [with_limits(score()), paired(gap()), paired(gap(-0.05))]
    for value in values:
        count = "\n".join(wide).count(value)
        assert "\n".join(narrow).count(value) == count, f"{value} is broken at {width}"
    numbers = re.compile(r"(?<![\w.])[+-]?\d\.\d{2,3}(?![\w.])")
    assert sorted(numbers.findall(" ".join(narrow))) == sorted(numbers.findall(" ".join(wide)))


@pytest.mark.parametrize("width", [80, 60])
@pytest.mark.parametrize("name", ["ablate", "repeat", "compare", "predict videos", "train"])
def test_a_table_is_not_wider_than_the_screen(name, width, monkeypatch, capsys):
    lines = shown(name, width, monkeypatch, capsys)
    tables = [line for line in lines if line.startswith(" ")]
    assert len(tables) > 2 and max(map(cell_len, tables)) <= width


def test_a_long_name_is_folded_behind_its_signs(monkeypatch, capsys):
    lines = shown("ablate", 80, monkeypatch, capsys)
    first = next(i for i, line in enumerate(lines) if line.startswith(" hog+"))
    parts = [line.split()[0] for line in lines[first : first + 3]]
    assert parts[0].endswith("+") and "".join(parts).startswith(LONG_STREAMS)
    assert with_limits(score()) in lines[first]
    assert folded("abcdefgh", 3).split() == ["abc", "def", "gh"]
    assert folded("", 3) == "" and folded("one two", 3) == "one\ntwo"


def test_a_sentence_is_folded_between_words_that_stay_whole(monkeypatch, capsys):
    text = "better: 0.71 [0.64, 0.78] against 0.60 (0.52 - 0.66), p = 0.03, 95 % of /a/b-c/d"
    for width in range(1, 60):
        lines = wrapped(text, width)
        assert " ".join(lines) == text
        for unit in ("0.71 [0.64, 0.78]", "0.60 (0.52 - 0.66)", "p = 0.03", "95 %", "/a/b-c/d"):
            assert any(unit in line for line in lines)
    monkeypatch.setattr(display, "results", display.Console(highlight=False, width=40))
    print_hanging(Text("ok  "), text)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ok  better") and all(x.startswith("    ") for x in lines[1:])
    assert max(map(len, lines)) <= 40


def test_brackets_of_names_are_no_styles(capsys):
    table("[red]", ["[b]", "n"], [["[bold]a.mp4", "0.7 [0.6, 0.8]"]])
    out = capsys.readouterr().out
    assert all(text in out for text in ("[red]", "[b]", "[bold]a.mp4", "0.7 [0.6, 0.8]"))


def test_notes_are_on_standard_error(capsys):
    say("working")
    found = capsys.readouterr()
    assert (found.out, found.err) == ("", "working\n")


COMMANDS = [
    ("weights", "list"),
    ("weights", "check"),
    ("doctor",),
    ("submit", "train", "--address", "http://localhost:1", "--python", "p", "--dry-run"),
    ("train", "-r", "demo", "-o", "corpus.root=.", "--dry-run"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda parts: " ".join(parts[:2]))
def test_a_command_keeps_its_output_for_its_result(command, capsys, monkeypatch, tmp_path):
    """With ``--json`` that is one document, and people find the same on standard error."""
    monkeypatch.setenv("ERRAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ERRAY_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    monkeypatch.chdir(tmp_path)
    rows = [f"{i},{i}.mp4,{split},Sadly Angry" for i, split in enumerate(["train", "val", "test"])]
    (tmp_path / "manifest.csv").write_text("\n".join(["clip_id,media,split,label", *rows]) + "\n")
    for i in range(3):
        write_video(tmp_path / f"{i}.mp4", [0, 40, 80 + i])
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "train.py").touch()
    for as_json in (True, False):
        with pytest.raises(SystemExit) as caught:
            main([*command, *(["--json"] if as_json else [])])
        assert not caught.value.code
        found = capsys.readouterr()
        notes = [
            line
            for line in found.err.splitlines()
            if not line.startswith(("dry run: ", "warning: "))
        ]
        if as_json:
            assert isinstance(json.loads(found.out), dict)
        else:
            assert found.out and notes == []


def test_the_tuned_model_is_among_the_test_scores_and_the_registered_one_is_marked(
    monkeypatch, capsys
):
    lines = shown("report", 100, monkeypatch, capsys)
    (tuned,) = [line for line in lines if "tuned*, mean logits" in line]
    assert "0.823" in tuned
    assert any("fusion, mean logits" in line for line in lines)
    assert "* registered as demo version 1" in "\n".join(lines)
