"""What media hold: read once, read again when a file changed or may have changed."""

import hashlib
import os
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from erray.corpora import scan
from erray.corpora.scan import header_probe, scan_media
from erray.errors import MediaError, UserError
from erray.media import MediaFacts
from tests.unit.media_files import write_video

LONG_AGO_NS = 1_000_000_000 * 10**9
NUM_FRAMES = 10


class CountingProbe:
    """Says the number of bytes; counts what it was asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, path):
        self.asked.append(path.name)
        if path.read_bytes().startswith(b"bad"):
            raise MediaError("not_media: no film")
        return MediaFacts(float(path.stat().st_size), 1, 0)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "media"
    folder.mkdir()
    for name in ("a", "b"):
        write(folder / name, name.encode())
    return folder


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "run" / "cache" / "media.parquet"


def write(path, content, *, mtime_ns=LONG_AGO_NS):
    path.write_bytes(content)
    os.utime(path, ns=(mtime_ns, mtime_ns))


def sha256(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def hashed(monkeypatch):
    """Names of the files whose content was read."""
    names, real = [], hashlib.file_digest
    monkeypatch.setattr(
        scan.hashlib, "file_digest", lambda f, kind: names.append(f.name[-1:]) or real(f, kind)
    )
    return names


def test_files_are_hashed_and_probed_once(root, cache, hashed):
    probe = CountingProbe()
    found = scan_media(str(root), ["a", "b", "gone", "a"], probe=probe, cache=cache)
    assert found["gone"] is None
    assert (found["a"].sha256, found["a"].num_bytes, found["a"].duration_s) == (sha256(b"a"), 1, 1)
    assert sorted(hashed) == sorted(probe.asked) == ["a", "b"]
    assert scan_media(str(root), ["a", "b"], probe=probe, cache=cache) == {
        name: found[name] for name in "ab"
    }
    assert len(hashed) == len(probe.asked) == 2


@pytest.mark.parametrize(
    ("content", "mtime_ns"), [(b"aa", LONG_AGO_NS), (b"c", LONG_AGO_NS + 1)], ids=["size", "time"]
)
def test_a_changed_file_is_read_again(root, cache, content, mtime_ns):
    probe = CountingProbe()
    scan_media(str(root), ["a", "b"], probe=probe, cache=cache)
    write(root / "a", content, mtime_ns=mtime_ns)
    found = scan_media(str(root), ["a", "b"], probe=probe, cache=cache)
    assert (found["a"].sha256, found["a"].duration_s) == (sha256(content), len(content))
    assert probe.asked[2:] == ["a"]


def test_a_file_changed_just_before_the_scan_is_not_trusted_the_next_time(root, cache, hashed):
    now_ns = time.time_ns()
    write(root / "a", b"a", mtime_ns=now_ns)
    scan_media(str(root), ["a", "b"], cache=cache)
    write(root / "a", b"A", mtime_ns=now_ns)  # the same size and the same time stamp
    assert scan_media(str(root), ["a", "b"], cache=cache)["a"].sha256 == sha256(b"A")
    assert sorted(hashed) == ["a", "a", "b"]


def test_a_file_that_went_away_is_forgotten(root, cache):
    scan_media(str(root), ["a"], cache=cache)
    (root / "a").unlink()
    assert scan_media(str(root), ["a"], cache=cache) == {"a": None}
    write(root / "a", b"new")
    assert scan_media(str(root), ["a"], cache=cache)["a"].sha256 == sha256(b"new")


def test_media_that_cannot_be_opened_have_a_reason(root, cache):
    write(root / "c", b"bad")
    probe = CountingProbe()
    for times_asked in (1, 2):  # again, since the limits may be others then
        found = scan_media(str(root), ["a", "c"], probe=probe, cache=cache)
        assert (found["c"].duration_s, found["c"].problem) == (None, "not_media: no film")
        assert (probe.asked.count("a"), probe.asked.count("c")) == (1, times_asked)
    found = scan_media(str(root), ["c"], probe=lambda _: MediaFacts(2.0, 1, 0, 8.0), cache=cache)
    assert (found["c"].start_s, found["c"].duration_s, found["c"].problem) == (8.0, 2.0, None)


def test_a_probe_comes_later_to_what_was_only_hashed(root, cache, hashed):
    scan_media(str(root), ["a"], cache=cache)
    found = scan_media(str(root), ["a"], probe=CountingProbe(), cache=cache)
    assert found["a"].probed and hashed == ["a"]


def test_nothing_is_kept_where_nothing_may_be_touched(root, cache):
    scan_media(str(root), ["a"], cache=cache, keep=False)
    assert not cache.parent.exists()
    scan_media(str(root), ["a"], cache=cache)
    before = cache.read_bytes()
    assert scan_media(str(root), ["a", "b"], cache=cache, keep=False)["b"] is not None
    assert cache.read_bytes() == before


def test_an_interrupted_scan_keeps_what_it_has(root, cache):
    def interrupted(path):
        if path.name == "b":
            raise KeyboardInterrupt
        return MediaFacts(1.0, 1, 0)

    with pytest.raises(KeyboardInterrupt):
        scan_media(str(root), ["a", "b"], probe=interrupted, cache=cache)
    rows = {row["path"][-1]: row for row in pq.read_table(cache).to_pylist()}
    assert rows["a"]["probed"] and not rows["b"]["probed"]
    assert not list(cache.parent.glob(".*")), "no temporary file is left"


def test_a_file_that_may_not_be_read_is_as_good_as_missing(root, monkeypatch):
    def refused(path, mode):
        raise PermissionError(path)

    monkeypatch.setattr(scan.Path, "open", refused)
    assert scan_media(str(root), ["a"]) == {"a": None}


def test_real_headers_are_read_in_a_child_process(tmp_path):
    write_video(tmp_path / "film.mp4", [40 * i for i in range(NUM_FRAMES)])
    write_video(tmp_path / "late.mkv", [8000 + 40 * i for i in range(NUM_FRAMES)])
    (tmp_path / "text.mp4").write_text("Not a film.\n")
    with header_probe() as probe:
        found = scan_media(str(tmp_path), ["film.mp4", "late.mkv", "text.mp4"], probe=probe)
    assert found["film.mp4"].duration_s == pytest.approx(0.04 * NUM_FRAMES, abs=0.041)
    assert (found["film.mp4"].start_s, found["late.mkv"].start_s) == (0.0, 8.0)
    assert found["text.mp4"].duration_s is None
    assert found["text.mp4"].problem.startswith("not_media")


def test_a_cache_that_cannot_be_written_is_one_line_and_a_damaged_one_is_made_anew(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"content")
    with pytest.raises(UserError, match=r"media\.parquet cannot be written .*--out"):
        scan_media(str(tmp_path), ["a.mp4"], probe=None, cache=Path("/proc/erray/media.parquet"))
    damaged = tmp_path / "cache" / "media.parquet"
    damaged.parent.mkdir()
    damaged.touch()
    found = scan_media(str(tmp_path), ["a.mp4"], probe=None, cache=damaged)
    assert found["a.mp4"] is not None and damaged.stat().st_size > 0
