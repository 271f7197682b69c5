"""Fault row 17 for weights: what is not what it should be is refused before anything runs."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from erray.encoders.facenet import FacenetConfig, FacenetEncoder
from erray.encoders.ir50 import Ir50Config, Ir50Encoder
from erray.encoders.vggish import VggishConfig, VggishEncoder
from erray.encoders.weights import manifest, read_torch, sha256_of
from erray.errors import UserError
from erray.records import FaceSample, VoiceSample

ONE_CROP = FaceSample(1, np.zeros(1, np.int32), np.zeros((1, 16, 16, 3), np.uint8))
HALF_A_SECOND = VoiceSample(np.zeros(1), np.zeros(8000, np.float32), 16_000, 0.0)
FORMAT = "_use_new_zipfile_serialization"
ENCODERS = {
    "ir50": lambda path: Ir50Encoder(Ir50Config(weights=str(path), device="cpu")),
    "facenet": lambda path: FacenetEncoder(FacenetConfig(weights=str(path), device="cpu")),
    "vggish": lambda path: VggishEncoder(VggishConfig(weights=str(path), device="cpu")),
}
SAMPLES = {"ir50": ONE_CROP, "facenet": ONE_CROP, "vggish": HALF_A_SECOND}


class Canary:
    """Unpickled without care, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.fixture
def canary(tmp_path):
    return Canary(tmp_path / "canary")


def payloads(canary, folder):
    """Files with the canary inside, in each format that torch has had, and as a bare pickle."""
    tensors = {"input_layer.0.weight": torch.zeros(3), "more": canary}
    torch.save(tensors, folder / "archive.pth")
    torch.save(tensors, folder / "old.pth", _use_new_zipfile_serialization=False)
    (folder / "bare.pth").write_bytes(pickle.dumps(tensors))
    return [folder / name for name in ("archive.pth", "old.pth", "bare.pth")]


def test_the_canary_is_alive(canary, tmp_path):
    """It does make its file where nobody takes care, or the next test could not fail."""
    torch.load(payloads(canary, tmp_path)[0], weights_only=False)
    assert canary.path.exists()


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_pickle_payload_is_refused_in_one_line_and_never_runs(canary, tmp_path, encoder):
    for path in payloads(canary, tmp_path):
        with pytest.raises(UserError, match="expected named tensors alone") as info:
            ENCODERS[encoder](path)([SAMPLES[encoder]])
        assert "\n" not in str(info.value) and path.name in str(info.value)
        assert not canary.path.exists()


@pytest.mark.parametrize("encoder", ENCODERS)
def test_wrong_shapes_are_one_line(tmp_path, encoder):
    made = ENCODERS[encoder]("")
    path = tmp_path / "wrong.pth"
    names = {
        "ir50": "input_layer.0.weight",
        "facenet": "conv2d_1a.conv.weight",
        "vggish": "features.0.weight",
    }
    torch.save({names[encoder]: torch.zeros(2)}, path)
    assert made([]) == []
    with pytest.raises(UserError, match="holds other weights") as info:
        ENCODERS[encoder](path)([SAMPLES[encoder]])
    assert "\n" not in str(info.value)


def test_a_wrong_hash_is_refused_before_the_file_is_opened(canary, tmp_path, monkeypatch):
    monkeypatch.setenv("ERRAY_WEIGHTS", str(tmp_path))
    path = tmp_path / manifest()["facenet-vggface2"].files[0].file
    payloads(canary, tmp_path)[0].rename(path)
    monkeypatch.setattr(torch, "load", None)  # who deserialises now fails in another way
    with pytest.raises(UserError, match=r"is altered; expected the file that `erray weights"):
        FacenetEncoder(FacenetConfig(device="cpu"))([ONE_CROP])
    with pytest.raises(UserError, match="has changed since it was checked"):
        read_torch(path, "0" * 64)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x80", b"PK\x03\x04 no archive", b"not a checkpoint" * 100, b"{}\n"],
    ids=["empty", "one byte", "zip head", "text", "json"],
)
def test_what_is_no_torch_file_is_one_line(tmp_path, content):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match="expected named tensors alone") as info:
        read_torch(path, sha256_of(path))
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("archive", [True, False])
def test_cut_files_are_one_line(tmp_path, archive):
    whole = tmp_path / "whole.pth"
    torch.save({"x": torch.arange(1000.0)}, whole, **{FORMAT: archive})
    data = whole.read_bytes()
    for share in (0.1, 0.5, 0.9):
        path = tmp_path / "cut.pth"
        path.write_bytes(data[: int(share * len(data))])
        with pytest.raises(UserError, match="expected named tensors alone") as info:
            read_torch(path, sha256_of(path))
        assert "\n" not in str(info.value)


@pytest.mark.parametrize("archive", [True, False])
def test_flipped_bytes_are_one_line_or_still_named_tensors(tmp_path, archive):
    """The hash of a file of one's own is its own: only what is read can tell damage."""
    path = tmp_path / "weights.pth"
    torch.save({"x": torch.arange(9.0), "y": torch.ones(2)}, path, **{FORMAT: archive})
    whole, rng = path.read_bytes(), np.random.default_rng(17)
    refused = 0
    for i in range(300):
        data = bytearray(whole)
        for place in rng.integers(0, min(len(data), 900), 3):
            data[place] ^= 1 << rng.integers(8)
        path = tmp_path / f"{i}.pth"
        path.write_bytes(data)
        try:
            read_torch(path, sha256_of(path))
        except UserError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 100


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"x": 1}, {1: torch.zeros(1)}])
def test_plain_values_that_are_no_named_tensors_are_one_line(tmp_path, content):
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    with pytest.raises(UserError, match="expected named tensors, found"):
        read_torch(path, sha256_of(path))
