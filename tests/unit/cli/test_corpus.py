"""``erray corpus check`` in this process, on a corpus of small real media."""

import csv
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
    write_manifest(root, "a,a.mp4,train", "b,b.mp4,val", "c,text.mp4,test", "d,[gone].mp4,train")
    recipe = {"corpus": {"root": str(root)}, "streams": {"logmel": {}}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe))
    return tmp_path / "mine.yaml"


def write_manifest(root, *lines):
    """Clips of train, val and test that are all labelled, each row without its label."""
    rows = [f"{line},{CEXPR_8.names[0]}" for line in lines]
    (root / "manifest.csv").write_text("\n".join(("clip_id,media,split,label", *rows)) + "\n")


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
    assert found.err == ""
    lines = found.out.splitlines()
    assert lines[0] == "4 clips (train 2, val 1, test 1) of 4 groups"
    assert lines[1].startswith("3 of 4 media are there: ")
    assert [line.split()[:3] for line in lines if line.startswith("warning")] == [
        ["warning", "class_not_in_train", "6"],
        ["warning", "no_media", "1"],
        ["warning", "unreadable", "1"],
    ]
    assert "[gone].mp4" in found.out and "not_media" in found.out


def test_errors_are_exit_code_2_and_refuse_the_extraction(corpus, capsys):
    write_manifest(corpus.parent / "films", "a,a.mp4,train", "b,a.mp4,val")
    assert check(corpus, "--json") == 2
    found = capsys.readouterr()
    result = json.loads(found.out)
    assert result["clips"] == {"train": 1, "val": 1} and result["excluded"] == []
    assert {f["code"]: (f["level"], f["count"]) for f in result["findings"]} == {
        "group_across_splits": ("error", 1),
        "file_across_splits": ("error", 1),
        "class_not_in_train": ("warning", 6),
        "no_labels_in_test": ("warning", 0),
    }
    assert call("extract", "-r", str(corpus)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("error: corpus: group_across_splits: 1 groups in several")
    assert lines[1].startswith("error: corpus: file_across_splits: 1 files") and len(lines) == 2
    assert check(corpus, "-o", "corpus.protocol=published") == 0


def test_a_good_corpus_says_so_and_is_looked_at_once(corpus, capsys, tmp_path):
    rows = ["clip_id,media,split", "a,a.mp4,challenge", "b,b.mp4,challenge"]
    (corpus.parent / "films" / "manifest.csv").write_text("\n".join(rows) + "\n")
    assert check(corpus, "--out", str(tmp_path / "run")) == 0
    _, media, last = capsys.readouterr().out.splitlines()  # no val: no word of a holdout
    assert media.startswith("2 of 2 media are there") and last == "nothing is wrong"
    assert (tmp_path / "run" / "cache" / "media.parquet").is_file()


def test_splits_by_other_names_are_errors_here_and_before_anything_runs(corpus, capsys, tmp_path):
    write_manifest(corpus.parent / "films", "a,a.mp4,Train", "b,b.mp4,validation")
    assert check(corpus, "--json") == 2
    levels = {f["code"]: f["level"] for f in json.loads(capsys.readouterr().out)["findings"]}
    assert levels["no_labels_in_train"] == levels["no_labels_in_val"] == "error"
    assert levels["unused_split"] == levels["no_labels_in_test"] == "warning"
    for options in (["--dry-run"], []):
        out = tmp_path / "run"
        assert call("pipeline", "-r", str(corpus), "--out", str(out), *options) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 2 and all(
            line.startswith("error: corpus: no_labels_in_") for line in lines
        )
        assert "rename Train to train" in lines[0] and "rename validation to val" in lines[1]
        assert not (out / "tables").exists()


def test_words_that_nobody_knows_are_said_before_anything_runs(corpus, capsys):
    options = ["-r", str(corpus), "-o", "streams={hash: {}, logmel: {}}"]
    assert call("extract", *options, "--dry-run") == 0
    err = capsys.readouterr().err
    assert "warning: no_words: 4 of 4 clips have no words for hash" in err


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
    found = capsys.readouterr().out
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


@pytest.fixture
def films(tmp_path, monkeypatch):
    """Six people, each with a film of two classes, and a picture."""
    monkeypatch.setenv("COLUMNS", "120")
    root = tmp_path / "films"
    for person in range(6):
        for name in ("Sadly Angry", "Sadly Fearful"):
            (root / name / f"p{person}").mkdir(parents=True)
            write_video(root / name / f"p{person}" / f"{name[6]}{person}.mp4", [0, 40 + person])
    (root / "cover.jpg").touch()
    return root


def test_a_manifest_of_folders_is_written_once_and_passes_the_check(films, capsys, tmp_path):
    arguments = ("corpus", "manifest", str(films), "--labels", "cexpr7", "--shares", "50/50/0")
    assert call(*arguments, "--json") == 0
    found = capsys.readouterr()
    result = json.loads(found.out)
    assert (result["clips"], result["groups"], result["others"]) == (12, 6, ["cover.jpg"])
    halves = {"train": 3, "val": 3}
    assert result["classes"] == {"Sadly Angry": halves, "Sadly Fearful": halves}
    lines = found.err.splitlines()
    assert lines[0] == "12 films of 6 groups, 0 with their words"
    assert lines[-1] == f"Manifest: {films / 'manifest.csv'}"
    assert "left out, no films: cover.jpg" in lines
    assert "without films: Fearfully Surprised" in found.err
    recipe = {"corpus": {"root": str(films), "labels": "cexpr7"}, "streams": {"hog": {}}}
    (tmp_path / "films.yaml").write_text(yaml.safe_dump(recipe))
    assert call("corpus", "check", "-r", str(tmp_path / "films.yaml"), "--json") == 0
    codes = [finding["code"] for finding in json.loads(capsys.readouterr().out)["findings"]]
    assert set(codes) <= {"class_not_in_train", "too_short", "same_content", "no_labels_in_test"}
    assert call(*arguments) == 2
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--labels", "basic9"], "expected one of basic7, cexpr7, cexpr8"),
        (["--shares", "60/40"], "expected three whole numbers"),
        (["--shares", "60/60/-20"], "expected three whole numbers"),
        (["--shares", "60/30/20"], "add up to 100"),
        (["--shares", "80/0/20"], "train and val above 0"),
        (["--group", "("], "expected a regular expression"),
    ],
)
def test_options_of_a_manifest_that_mean_nothing_are_refused(films, capsys, options, message):
    assert call("corpus", "manifest", str(films), "--labels", "cexpr7", *options) == 2
    line = capsys.readouterr().err
    assert message in line and line.count("\n") == 1
    assert not (films / "manifest.csv").exists()


def empty_films(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return str(root)


def splits_of(root):
    with (root / "manifest.csv").open() as file:
        return {row["media"]: (row["split"], row["group"]) for row in csv.DictReader(file)}


def test_the_person_in_a_name_is_in_one_split_and_said(tmp_path, capsys):
    names = [
        f"{label}/03-01-{code}-{i % 2}-{i // 2}-{actor:02}.mp4"
        for label, code in (("Anger", "05"), ("Fear", "06"))
        for i in range(4)
        for actor in range(10)
    ]
    assert call("corpus", "manifest", empty_films(tmp_path, *names), "--json") == 0
    found = capsys.readouterr()
    assert "groups: 10 found in the films' names, such as 00 in 03-01-05-0-0-00" in found.err
    assert "warning" not in found.err
    result = json.loads(found.out)
    assert result["groups"] == 10 and result["guessed_group"] and result["warnings"] == []
    of_actor = {}
    for media, (split, group) in splits_of(tmp_path).items():
        assert group == media[-6:-4]
        of_actor.setdefault(group, set()).add(split)
    assert all(len(splits) == 1 for splits in of_actor.values())


def test_folders_of_splits_are_never_drawn_anew(tmp_path, capsys):
    names = [f"{split}/Anger/{split[:2]}{i}/1.mp4" for split in ("TEST", "dev") for i in range(9)]
    root = empty_films(tmp_path, *names, "Train/Anger/x/1.mp4", "Train/Fear/y/1.mp4")
    assert call("corpus", "manifest", root, "--seed", "1") == 2
    assert "--shares and --seed draw nothing" in capsys.readouterr().err
    assert call("corpus", "manifest", root) == 0
    assert "splits: those of the folders\n" in capsys.readouterr().out
    names = {"TEST": "test", "dev": "val", "Train": "train"}
    for media, (split, _) in splits_of(tmp_path).items():
        assert split == names[media.partition("/")[0]]


def test_a_missing_val_is_drawn_from_train_and_said(tmp_path, capsys):
    names = [f"{split}/Fear/{split}{i}/1.mp4" for split in ("train", "test") for i in range(8)]
    assert call("corpus", "manifest", empty_films(tmp_path, *names)) == 0
    assert "val was drawn from the films of train" in capsys.readouterr().out
    found = splits_of(tmp_path)
    assert {split for media, (split, _) in found.items() if "test/" in media} == {"test"}
    assert sum(split == "val" for split, _ in found.values()) == 2


@pytest.mark.parametrize(
    ("names", "warning"),
    [
        ([f"Fear/{i}.mp4" for i in range(9)], "warning: no two films share a group"),
        (
            ["train/Fear/a/1.mp4", "val/Fear/a/2.mp4", "test/Fear/b/3.mp4"],
            "warning: 1 of 2 groups are in several splits, such as a in train and val",
        ),
    ],
)
def test_groups_that_do_not_hold_are_a_warning(tmp_path, capsys, names, warning):
    assert call("corpus", "manifest", empty_films(tmp_path, *names), "--json") == 0
    found = capsys.readouterr()
    assert warning in found.err
    assert json.loads(found.out)["warnings"][0].startswith(warning)
