"""``erray corpus check`` in this process, on a corpus of small real media."""

import json

import pytest
import yaml

from erray.cli.main import main
from erray.labels import CEXPR_8
from tests.unit.media_files import write_video


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """A manifest of two films, a text and a file that is not there; the recipe for it."""
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("ERRAY_HOME", str(tmp_path / "home"))
    root = tmp_path / "films"
    root.mkdir()
    for name, num_frames in (("a", 10), ("b", 20)):
        write_video(root / f"{name}.mp4", [40 * i for i in range(num_frames)])
    (root / "text.mp4").write_text("Not a film.\n")
    write_manifest(root, "a,a.mp4,train", "b,b.mp4,val", "c,text.mp4,train", "d,[gone].mp4,train")
    recipe = {"corpus": {"root": str(root)}, "streams": {"logmel": {}}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe))
    return tmp_path / "mine.yaml"


def write_manifest(root, *lines):
    (root / "manifest.csv").write_text("\n".join(("clip_id,media,split", *lines)) + "\n")


def call(*arguments):
    """Run the command and return its exit code."""
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    return int(caught.value.code or 0)


def check(corpus, *options):
    return call("corpus", "check", "-r", str(corpus), *options)


def test_warnings_are_a_table_and_exit_code_0(corpus, capsys):
    assert check(corpus) == 0
    found = capsys.readouterr()
    assert found.out == ""
    lines = found.err.splitlines()
    assert lines[0] == "4 clips (train 3, val 1) of 4 groups"
    assert lines[1].startswith("3 of 4 media are there: ")
    assert [line.split()[:3] for line in lines if line.startswith("warning")] == [
        ["warning", "no_media", "1"],
        ["warning", "unreadable", "1"],
    ]
    assert "[gone].mp4" in found.err and "not_media" in found.err


def test_errors_are_exit_code_2_and_refuse_the_extraction(corpus, capsys):
    write_manifest(corpus.parent / "films", "a,a.mp4,train", "b,a.mp4,val")
    assert check(corpus, "--json") == 2
    found = capsys.readouterr()
    result = json.loads(found.out)
    assert result["clips"] == {"train": 1, "val": 1} and result["excluded"] == []
    assert {f["code"]: (f["level"], f["count"]) for f in result["findings"]} == {
        "group_across_splits": ("error", 1),
        "file_across_splits": ("error", 1),
    }
    assert call("extract", "-r", str(corpus)) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: the corpus has errors: group_across_splits: 1 groups in several")
    assert line.count("\n") == 1
    assert check(corpus, "-o", "corpus.protocol=published") == 0


def test_a_good_corpus_says_so_and_is_looked_at_once(corpus, capsys, tmp_path):
    write_manifest(corpus.parent / "films", "a,a.mp4,train", "b,b.mp4,val")
    assert check(corpus, "--out", str(tmp_path / "run")) == 0
    assert capsys.readouterr().err.splitlines()[-1] == "nothing is wrong"
    assert (tmp_path / "run" / "cache" / "media.parquet").is_file()


def test_left_out_clips_are_counted_with_their_reason(tmp_path, capsys):
    (tmp_path / "class_id.yaml").write_text(
        "".join(f"{name}: {number}\n" for number, name in enumerate(CEXPR_8.names))
    )
    (tmp_path / "split-0").mkdir()
    for split, video in (("train", 1), ("val", 2), ("test", 3)):
        (tmp_path / "split-0" / f"{split}.txt").write_text(
            f"Other/{video}_Other_0,7,well\nSadly-Angry/{video}_Sadly-Angry_0,6,well\n"
        )
    recipe = {"kind": "cexpr", "root": str(tmp_path), "protocol": "published"}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"corpus": recipe}))
    assert check(tmp_path / "c.yaml", "--out", str(tmp_path / "run")) == 2
    found = capsys.readouterr().err
    assert "3 left out, excluded_other: the class Other is not in the label set cexpr7" in found
    assert "0 of 1 val clips share a source video" in " ".join(found.split())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("corpus.root=absent", "corpus.root 'absent' is not a folder"),
        ("corpus.kind=meld", "no "),
        ("streams={absent: {}}", "absent"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(corpus, capsys, override, message):
    assert check(corpus, "-o", override) == 2
    found = capsys.readouterr().err
    assert found.startswith("error: ") and message in found and found.count("\n") == 1


def test_it_explains_itself(capsys):
    assert call("corpus", "check", "--help") == 0
    text = capsys.readouterr().out
    assert "check [OPTIONS]" in text and "--recipe" in text and "--json" in text
