"""Films in folders named after their class: which clips they are, and what is refused."""

import re

import pytest

from erray.config import Corpus
from erray.corpora.label_folders import read_label_folders, write_manifest
from erray.corpora.manifest import read_manifest
from erray.corpora.shares import draw_splits
from erray.errors import UserError
from erray.labels import BASIC_7


def folder(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"film")
    return root


def read(root, pattern=None):
    return read_label_folders(root, BASIC_7, group=pattern and re.compile(pattern))


def test_a_folder_is_the_class_and_the_others_are_the_group(tmp_path):
    names = ("Anger/anna/1.mp4", "anna/Sadness/2.MKV", "Fear/3.webm", "a/Fear/b/4.mp4")
    found = read(folder(tmp_path, *names, "Fear/.hidden.mp4", ".old/Fear/5.mp4", "notes.doc"))
    assert {(c.clip_id, c.media, c.label, c.group) for c in found.clips} == {
        ("1", "Anger/anna/1.mp4", "Anger", "anna"),
        ("2", "anna/Sadness/2.MKV", "Sadness", "anna"),
        ("3", "Fear/3.webm", "Fear", "Fear/3.webm"),
        ("4", "a/Fear/b/4.mp4", "Fear", "a/b"),
    }
    assert found.others == ["notes.doc"]


def test_a_pattern_finds_the_group_in_the_path(tmp_path):
    root = folder(tmp_path, "Anger/anna_1.mp4", "Fear/anna_2.mp4", "Fear/ben_1.mp4")
    groups = {clip.media: clip.group for clip in read(root, r"([a-z]+)_\d+$").clips}
    assert groups == dict(zip(sorted(groups), ["anna", "anna", "ben"], strict=True))


def test_without_folders_of_people_the_names_are_looked_at(tmp_path):
    names = [f"{name}/{who}_{i}.mp4" for name in ("Anger", "Fear") for who in "ab" for i in "12"]
    found = read(folder(tmp_path, *names))
    assert found.guessed is not None
    assert {clip.media: clip.group for clip in found.clips} == {n: n[-7] for n in names}
    assert read(tmp_path, "(.*)").guessed is None
    # one film in a folder of its own: folders are the groups, the others stand for themselves
    mixed = read(folder(tmp_path, "Anger/cleo/1.mp4"))
    assert mixed.guessed is None
    assert {clip.group for clip in mixed.clips} == {*names, "cleo"}


def test_folders_of_splits_are_splits_and_no_groups(tmp_path):
    names = ("Train/Anger/anna/1.mp4", "VALIDATION/ben/Fear/2.mp4", "Fear/dev/3.mp4")
    found = read(folder(tmp_path, *names, "x/test/Fear/4.mp4"))
    assert {clip.media: (clip.split, clip.group) for clip in found.clips} == {
        names[0]: ("train", "anna"),
        names[1]: ("val", "ben"),
        names[2]: ("val", names[2]),
        "x/test/Fear/4.mp4": ("test", "x"),
    }


def test_what_is_said_lies_beside_the_film(tmp_path):
    root = folder(tmp_path, "Anger/1.mp4", "Anger/2.mp4", "Anger/3.mp4", "Anger/4.txt")
    (root / "Anger/1.txt").write_text("So,\n  again?\n", encoding="utf-8")
    (root / "Anger/2.txt").write_text("\n", encoding="utf-8")
    found = read(root)
    assert [clip.transcript for clip in found.clips] == ["So, again?", "", None]
    assert found.others == ["Anger/4.txt"]


@pytest.mark.parametrize(
    ("names", "pattern", "message"),
    [
        (["angry/1.mp4"], None, "angry/1.mp4: expected one folder.*Neutral.*found angry"),
        (["1.mp4"], None, "1.mp4: expected one folder.*found no folder"),
        (["Anger/Fear/1.mp4"], None, "found Anger, Fear"),
        (["dev/test/Fear/1.mp4"], None, "one folder that is called as a split, found dev, test"),
        (["train/Fear/1.mp4", "Fear/2.mp4"], None, "1 bad rows.* Fear/2.mp4: .*folder of a split"),
        (["Anger/1.jpg"], None, "holds no film: expected files that end in .mp4"),
        (["Anger/1.mp4"], "(anna)", r"'\(anna\)' finds no group"),
        (["Anger/1.mp4"], "anna", "'anna' of groups needs one parenthesis"),
    ],
)
def test_refused(tmp_path, names, pattern, message):
    with pytest.raises(UserError, match=message) as refused:
        read(folder(tmp_path, *names), pattern)
    assert "\n" not in str(refused.value)


def test_no_folder_and_words_that_are_none_are_refused(tmp_path):
    with pytest.raises(UserError, match="expected a folder of films"):
        read(tmp_path / "absent")
    (folder(tmp_path, "Anger/1.mp4") / "Anger/1.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"1\.txt is not UTF-8"):
        read(tmp_path)


def test_the_manifest_is_read_back_and_never_overwritten(tmp_path):
    names = [f"{label}/p{i}/{i}.mp4" for i, label in enumerate(BASIC_7.names)]
    root = folder(tmp_path, *names, "Fear/p3/x, y.mp4")
    (root / "Fear/p3/3.txt").write_text('He said "no", twice', encoding="utf-8")
    clips = draw_splits(read(root).clips, {"train": 0.6, "val": 0.4}, seed=1)
    write_manifest(root / "manifest.csv", clips)
    config = Corpus(root=str(root), labels="basic7")
    assert read_manifest(config).clips == clips
    before = (root / "manifest.csv").read_bytes()
    with pytest.raises(UserError, match=r"manifest\.csv is there already"):
        write_manifest(root / "manifest.csv", clips)
    assert (root / "manifest.csv").read_bytes() == before


def test_a_manifest_that_is_cut_off_is_not_there(tmp_path):
    clips = read(folder(tmp_path, "Fear/1.mp4", "Fear/2.mp4")).clips
    path = tmp_path / "manifest.csv"

    def killed():
        yield clips[0]
        assert not path.exists()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_manifest(path, killed())
    assert [p.name for p in tmp_path.iterdir()] == ["Fear"]
    write_manifest(path, clips)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["Fear", "manifest.csv"]
