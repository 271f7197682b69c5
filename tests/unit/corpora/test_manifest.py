"""A manifest of clips: what is read, which rows are refused and where they stand."""

import csv
import hashlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from erray.config import Corpus
from erray.corpora import read_corpus
from erray.corpora.manifest import read_manifest
from erray.corpora.media_root import resolve_media
from erray.corpora.scan import scan_media
from erray.errors import UserError

COLUMNS = ("clip_id", "media", "split", "start_s", "end_s", "group", "label", "transcript")
HEADER = ",".join(COLUMNS)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "corpus"
    (folder / "videos").mkdir(parents=True)
    (folder / "videos" / "a.mp4").write_bytes(b"movie a")
    (tmp_path / "outside.mp4").write_bytes(b"secret")
    return folder


def write_csv(root, *lines, encoding="utf-8", header=HEADER):
    (root / "manifest.csv").write_text("\n".join((header, *lines)) + "\n", encoding=encoding)
    return Corpus(root=str(root))


def write_parquet(root, rows):
    pq.write_table(pa.Table.from_pylist(rows), root / "manifest.parquet")
    return Corpus(root=str(root), manifest="manifest.parquet")


def test_a_csv_row_becomes_a_clip(root):
    config = write_csv(
        root,
        'c1,videos/a.mp4,train,1.5,2.5,film 1,Sadly Angry,"Oh, ""well"""',
        "c2,videos/a.mp4,val,,,,,",
    )
    first, second = read_manifest(config).clips
    assert (first.clip_id, first.media, first.split) == ("c1", "videos/a.mp4", "train")
    assert (first.start_s, first.end_s, first.group) == (1.5, 2.5, "film 1")
    assert (first.label, first.transcript) == ("Sadly Angry", 'Oh, "well"')
    assert (second.start_s, second.end_s, second.group) == (None, None, "videos/a.mp4")
    assert (second.label, second.transcript) == (None, None)


def test_only_three_columns_are_required(root):
    config = write_csv(root, "c1,videos/a.mp4,train", header="clip_id,media,split")
    assert [clip.clip_id for clip in read_manifest(config).clips] == ["c1"]


def test_spreadsheet_files_with_a_byte_order_mark_are_read(root):
    config = write_csv(root, "c1,videos/a.mp4,train,,,,,é", encoding="utf-8-sig")
    assert read_manifest(config).clips[0].transcript == "é"


def test_parquet_tells_nothing_said_from_unknown(root):
    row = {"clip_id": "c1", "media": "videos/a.mp4", "split": "train"}
    config = write_parquet(
        root,
        [
            {**row, "transcript": "", "start_s": None},
            {**row, "clip_id": "c2", "transcript": None, "start_s": 1.0},
        ],
    )
    first, second = read_manifest(config).clips
    assert (first.transcript, second.transcript) == ("", None)
    assert (first.start_s, second.start_s) == (None, 1.0)


def test_the_stated_length_is_read_and_checked(root):
    header = "clip_id,media,split,duration_s"
    config = write_csv(root, "c1,videos/a.mp4,train,2.5", "c2,videos/a.mp4,val,", header=header)
    assert [clip.duration_s for clip in read_manifest(config).clips] == [2.5, None]
    for wrong in ("-1", "0", "nan", "long"):
        with pytest.raises(UserError, match="line 2: duration_s is"):
            read_manifest(write_csv(root, f"c1,videos/a.mp4,train,{wrong}", header=header))


field = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(transcript=field, group=field, start_s=st.floats(0, 1e6))
def test_what_a_csv_writer_wrote_is_read(root, transcript, group, start_s):
    with (root / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        row = {"clip_id": "c", "media": "videos/a.mp4", "split": "s", "start_s": start_s}
        writer.writerow({**row, "group": group, "transcript": transcript})
    (clip,) = read_manifest(Corpus(root=str(root))).clips
    assert clip.transcript == (transcript or None)
    assert clip.group == (group.strip() or "videos/a.mp4")
    assert clip.start_s == start_s


def test_bad_rows_are_listed_with_their_lines_and_nothing_is_read(root):
    config = write_csv(
        root,
        "c1,videos/a.mp4,train,,,,,",
        '"c2",videos/a.mp4,train,,,,,"two',
        'lines"',
        "c1,videos/a.mp4,val,,,,,",
        ",videos/a.mp4,train,,,,,",
        "c3,,train,,,,,",
        "c4,videos/a.mp4,,,,,,",
        "c5,videos/a.mp4,train,x,,,,",
        "c6,videos/a.mp4,train,nan,,,,",
        "c7,videos/a.mp4,train,3,2,,,",
        "c8,videos/a.mp4,train,,,,Bored,",
        "c9,videos/a.mp4,train",
        "c10,videos/a.mp4,train,,,,,,,",
    )
    with pytest.raises(UserError) as caught:
        read_manifest(config)
    message = str(caught.value)
    for expected in (
        "10 bad rows, nothing was read",
        "line 5: clip_id 'c1' repeats line 2",
        "line 6: clip_id is empty",
        "line 7: media is empty",
        "line 8: split is empty",
        "line 9: start_s is 'x', expected seconds",
        "line 10: start_s is 'nan', expected seconds",
        "line 11: end_s is 2.0, expected more than start_s 3.0",
        "line 12: label 'Bored' is not in the label set 'cexpr7'",
        "line 13: number of fields differs",
        "line 14: number of fields differs",
    ):
        assert expected in message
    assert "line 2:" not in message and "line 4:" not in message and "\n" not in message


def test_a_long_list_of_bad_rows_is_cut(root):
    config = write_csv(root, *(f"c{i},videos/a.mp4,train,x,,,," for i in range(25)))
    with pytest.raises(UserError, match=r"25 bad rows.*line 11: .*; and 15 more$") as caught:
        read_manifest(config)
    assert "line 12:" not in str(caught.value)


def test_parquet_rows_of_other_types_are_refused(root):
    row = {"clip_id": 1, "media": "videos/a.mp4", "split": "train"}
    with pytest.raises(UserError, match="row 1: clip_id is 1, expected text"):
        read_manifest(write_parquet(root, [row]))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("clip_id,media", "missing columns: split; unknown columns: none"),
        ("clip_id,media,split,emotion", "missing columns: none; unknown columns: emotion"),
        ("clip_id,media,split,media", "repeated columns: media"),
        ("", "missing columns: clip_id, media, split"),
    ],
)
def test_the_header_is_checked(root, header, message):
    with pytest.raises(UserError, match=message):
        read_manifest(write_csv(root, "a,b,c,d", header=header))


@pytest.mark.parametrize(
    "media",
    [
        "/etc/passwd",
        "../outside.mp4",
        "videos/../../outside.mp4",
        "link.mp4",
        "folder/outside.mp4",
        "http://example.org/a.mp4",
        "file:///etc/passwd",
        "concat:videos/a.mp4",
        "loop",
        "x" * 300,
    ],
)
def test_media_outside_the_root_are_refused(root, media):
    (root / "link.mp4").symlink_to(root.parent / "outside.mp4")
    (root / "folder").symlink_to(root.parent)
    (root / "loop").symlink_to("loop")
    with pytest.raises(UserError, match="line 2: media"):
        read_manifest(write_csv(root, f"c1,{media},train,,,,,"))
    with pytest.raises(ValueError, match="media"):
        resolve_media(str(root), media)
    with pytest.raises(ValueError, match="media"):
        scan_media(str(root), [media])


def test_links_that_stay_inside_are_followed(root):
    (root / "link.mp4").symlink_to("videos/a.mp4")
    assert resolve_media(str(root), "link.mp4") == (root / "videos" / "a.mp4").resolve()
    assert resolve_media(str(root), "videos/../videos/a.mp4").name == "a.mp4"


@given(st.lists(st.sampled_from(["..", ".", "videos", "a", "..."]), min_size=1, max_size=6))
def test_a_path_is_inside_or_refused(tmp_path_factory, parts):
    base = tmp_path_factory.getbasetemp() / "paths"
    base.mkdir(exist_ok=True)
    depth = lowest = 0
    for part in parts:
        depth += {"..": -1, ".": 0}.get(part, 1)
        lowest = min(lowest, depth)
    if depth < 0:
        with pytest.raises(ValueError, match="outside"):
            resolve_media(str(base), "/".join(parts))
    elif lowest == 0:
        assert resolve_media(str(base), "/".join(parts)).is_relative_to(base.resolve())


def test_clips_carry_the_hash_of_their_content(root):
    config = write_csv(
        root, "c1,videos/a.mp4,train,,,,,", "c2,videos/gone.mp4,val,,,,,", "c3,videos,val,,,,,"
    )
    expected = hashlib.sha256(b"movie a").hexdigest()
    clips = read_corpus(config, needs_media=True).clips
    assert [clip.file_sha256 for clip in clips] == [expected, None, None]
    assert read_corpus(config, needs_media=False).clips == read_manifest(config).clips


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"root": ""}, r"corpus\.root is not set"),
        ({"root": "no/such/folder"}, "is not a folder"),
        (
            {"manifest": "absent.csv"},
            r"no manifest at .*absent.csv: `erray corpus manifest .*` makes one",
        ),
        ({"manifest": "clips.json"}, r"expected \.csv or \.parquet"),
    ],
)
def test_a_missing_manifest_says_what_to_set(root, changes, message):
    with pytest.raises(UserError, match=message):
        read_manifest(Corpus(**{"root": str(root), **changes}))


def test_an_empty_manifest_is_refused(root):
    with pytest.raises(UserError, match="expected at least one clip"):
        read_manifest(write_csv(root))


@pytest.mark.parametrize("content", [b"", b"not parquet", b"PAR1" + b"\0" * 20 + b"PAR1"])
def test_a_file_that_is_no_parquet_is_named(root, content):
    (root / "manifest.parquet").write_bytes(content)
    with pytest.raises(UserError, match="is not a readable Parquet file") as caught:
        read_manifest(Corpus(root=str(root), manifest="manifest.parquet"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"clip_id,media,split\n\xff,b,c\n", r"is not UTF-8 text \(byte \d+\)"),
        (b'clip_id,media,split\n"a"b,c,d\n', "line 2: not CSV"),
        (b'clip_id,media,split\n"a', "line 2: not CSV"),
    ],
)
def test_a_file_that_is_no_csv_is_named(root, content, message):
    (root / "manifest.csv").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_manifest(Corpus(root=str(root)))
