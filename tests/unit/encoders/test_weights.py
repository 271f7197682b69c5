"""The manifest, files against their hashes, and fetching from a real local server."""

import hashlib
import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from erray.cli.main import main
from erray.encoders import weights
from erray.encoders.fetch import ATTEMPTS, fetch
from erray.encoders.weights import (
    Weights,
    WeightsFile,
    manifest,
    path_of,
    read_torch,
    resolve,
    sha256_of,
)
from erray.errors import UserError

CONTENT = bytes(range(256)) * 12_000  # 3 MB, so that a break falls between two chunks
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT, closing each connection after ``breaks_after`` bytes; keeps the ranges."""

    breaks_after: int | None = None
    knows_ranges = True
    num_busy = 0
    """How many requests are answered with `busy` first."""
    busy = 503

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.starts = []


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path != "/weights.bin":
            self.send_error(404)
            return
        if self.server.num_busy > 0:
            self.server.num_busy -= 1
            self.send_error(self.server.busy)
            return
        start = 0
        if self.server.knows_ranges and "Range" in self.headers:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        self.server.starts.append(start)
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        stop = len(CONTENT)
        if self.server.breaks_after is not None:
            stop = min(stop, start + self.server.breaks_after)
        self.wfile.write(CONTENT[start:stop])

    def log_message(self, format, *args):
        pass


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ERRAY_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("erray.encoders.fetch.PAUSE_S", 0.001)
    return tmp_path / "weights"


def entry(server, *, sha256=SHA256, name="weights.bin"):
    source = f"http://127.0.0.1:{server.server_address[1]}/{name}"
    return Weights("made-up", "MIT", "hog", (WeightsFile("weights.bin", source, sha256, None),))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_every_entry_is_whole():
    hashes = [file.sha256 for one in manifest().values() for file in one.files if file.sha256]
    assert all(len(sha) == 64 and int(sha, 16) for sha in hashes)
    assert len(set(hashes)) == len(hashes) > 5
    for one in manifest().values():
        assert one.licence and one.used_by
        assert all(file.source is None or file.source.startswith("https://") for file in one.files)


def test_a_published_hash_prefix_is_in_the_file_name():
    file = manifest()["vggish"].files[0]
    assert file.sha256.startswith(file.file.removesuffix(".pth").split("-")[1])


def test_fetch_goes_on_where_a_connection_broke(server, folder):
    server.breaks_after = 1_300_000
    seen = []
    came = fetch(entry(server), on_bytes=lambda name, num_bytes: seen.append(num_bytes))
    assert came == [folder / "weights.bin"] and came[0].read_bytes() == CONTENT
    assert server.starts == [0, 1_300_000, 2_600_000]
    assert seen == sorted(seen) and seen[-1] == len(CONTENT)
    assert names(folder) == ["weights.bin"]
    assert fetch(entry(server)) == [] and len(server.starts) == 3


def test_a_later_fetch_goes_on_too(server, folder):
    server.breaks_after = 100_000
    with pytest.raises(UserError, match=r"broke 5 times.*500000 bytes are kept: run the same"):
        fetch(entry(server))
    assert names(folder) == [".weights.bin.part"] and len(server.starts) == ATTEMPTS
    server.breaks_after = None
    fetch(entry(server))
    assert server.starts[ATTEMPTS:] == [500_000]
    assert (folder / "weights.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("busy", [429, 500, 503])
def test_a_server_in_trouble_is_asked_again(server, folder, busy):
    server.num_busy, server.busy = 3, busy
    fetch(entry(server))
    assert names(folder) == ["weights.bin"]
    server.num_busy = ATTEMPTS
    (folder / "weights.bin").unlink()
    with pytest.raises(UserError, match=rf"broke 5 times .*{busy}.*run the same"):
        fetch(entry(server))


def test_a_server_without_ranges_sends_it_all_again(server, folder):
    folder.mkdir()
    (folder / ".weights.bin.part").write_bytes(b"x" * 1000)
    server.knows_ranges = False
    fetch(entry(server))
    assert (folder / "weights.bin").read_bytes() == CONTENT


def test_a_whole_part_needs_only_its_name(server, folder):
    folder.mkdir()
    (folder / ".weights.bin.part").write_bytes(CONTENT)
    fetch(entry(server))
    assert names(folder) == ["weights.bin"]


def test_an_altered_file_is_replaced_and_never_used(server, folder):
    folder.mkdir()
    (folder / "weights.bin").write_bytes(b"altered")
    assert entry(server).states() == {"weights.bin": weights.ALTERED}
    fetch(entry(server))
    assert entry(server).states() == {"weights.bin": weights.INTACT}


def test_another_file_than_the_manifests_is_removed(server, folder):
    with pytest.raises(UserError, match=r"is not the file of the manifest and was removed") as info:
        fetch(entry(server, sha256="0" * 64))
    assert "\n" not in str(info.value) and names(folder) == []


def test_what_cannot_be_fetched_is_one_line(server, monkeypatch):
    with pytest.raises(UserError, match="the server says 404"):
        fetch(entry(server, name="elsewhere.bin"))
    with pytest.raises(UserError, match="no known hash and are not fetched"):
        fetch(entry(server, sha256=None))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"):
        fetch(entry(server))
    assert server.starts == []


def test_an_unreachable_server_is_one_line(server):
    gone = entry(server)
    server.shutdown()
    server.server_close()
    with pytest.raises(UserError, match=r"broke 5 times .*; 0 bytes are kept"):
        fetch(gone)


def test_a_folder_that_cannot_be_written_is_not_the_connections_fault(server, folder):
    folder.write_bytes(b"a file where the folder should be")
    with pytest.raises(UserError, match=r"cannot be written .*ERRAY_WEIGHTS") as info:
        fetch(entry(server))
    assert "\n" not in str(info.value) and server.starts == []
    folder.unlink()
    folder.mkdir()
    (folder / ".weights.bin.part").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"cannot be written \(No space left"):
        fetch(entry(server))
    assert server.starts == [0]


def test_weights_are_found_by_name_checked_or_by_path(folder, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"is missing.*`erray weights fetch vggish`"):
        resolve("vggish")
    with pytest.raises(UserError, match="no known hash: give the path"):
        resolve("ir50")
    with pytest.raises(UserError, match=r"download https.*casia.*yourself"):
        resolve("facenet-casia")
    with pytest.raises(UserError, match=r"facenet-vggface2.*found 'vgg'"):
        resolve("vgg")
    folder.mkdir()
    (folder / "vggish-10086976.pth").write_bytes(b"altered")
    with pytest.raises(UserError, match=r"is altered.*`erray weights fetch vggish`"):
        path_of("vggish")
    own = tmp_path / "own.pth"
    with pytest.raises(UserError, match=r"no weights at.*erray weights fetch"):
        path_of(str(own))
    own.write_bytes(b"own")
    assert path_of(str(own)) == own
    intact = WeightsFile("own.pth", "https://example.org", sha256_of(own), None)
    monkeypatch.setattr(weights, "weights_dir", lambda: tmp_path)
    monkeypatch.setitem(manifest(), "own", Weights("own", "MIT", "hog", (intact,)))
    assert resolve("own") == own


def test_a_model_of_several_files_is_a_folder(folder):
    assert manifest()["bert"].path == folder / "bert-base-uncased"
    assert set(manifest()["bert"].states().values()) == {weights.MISSING}


def test_a_hash_follows_the_content(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"one")
    first = sha256_of(path)
    path.write_bytes(b"other")
    assert first == hashlib.sha256(b"one").hexdigest()
    assert sha256_of(path) == hashlib.sha256(b"other").hexdigest()


@pytest.mark.parametrize("archive", [True, False])
def test_torch_files_old_and_new_are_read(tmp_path, archive):
    path, saved = tmp_path / "a.pth", {"x": torch.arange(3.0)}
    torch.save(saved, path, _use_new_zipfile_serialization=archive)
    assert torch.equal(read_torch(path, sha256_of(path))["x"], saved["x"])


@pytest.mark.parametrize("key", ["state_dict", "model", None])
@pytest.mark.parametrize("prefix", ["module.", ""])
def test_tensors_below_one_key_and_from_several_gpus_are_read(tmp_path, key, prefix):
    path = tmp_path / "a.pth"
    tensors = {f"{prefix}x": torch.arange(3.0), f"{prefix}y": torch.zeros(1)}
    torch.save(tensors if key is None else {key: tensors}, path)
    found = read_torch(path, sha256_of(path))
    assert list(found) == ["x", "y"] and torch.equal(found["x"], torch.arange(3.0))


def test_a_prefix_that_some_names_have_stays(tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"module.x": torch.zeros(1), "y": torch.zeros(1)}, path)
    assert list(read_torch(path, sha256_of(path))) == ["module.x", "y"]


def test_the_commands_list_check_and_fetch(server, folder, monkeypatch, capsys):
    monkeypatch.setitem(manifest(), "made-up", entry(server))
    main_ends_well("weights", "list", "--json")
    listed = json.loads(capsys.readouterr().out)
    found = {one["name"]: one for one in listed["weights"]}
    assert found["made-up"]["there"] is False and found["ir50"]["can_be_fetched"] is False
    main_ends_well("weights", "fetch", "made-up")
    main_ends_well("weights", "fetch", "made-up")
    said = " ".join(capsys.readouterr().out.split())
    assert "fetched and checked" in said and "made-up is there already" in said
    main_ends_well("weights", "check", "--json")
    assert json.loads(capsys.readouterr().out)["weights.bin"] == weights.INTACT
    (folder / "weights.bin").write_bytes(b"altered")
    with pytest.raises(SystemExit) as info:
        main(["weights", "check", "made-up"])
    assert info.value.code == 2 and "altered  weights.bin" in capsys.readouterr().out


def main_ends_well(*arguments):
    with pytest.raises(SystemExit) as info:
        main(arguments)
    assert info.value.code == 0


def test_an_entry_with_two_files_is_fetched_file_by_file(server, folder):
    one = entry(server)
    two = replace(one, files=(*one.files, replace(one.files[0], file="folder/second.bin")))
    assert [path.name for path in fetch(two)] == ["weights.bin", "second.bin"]
