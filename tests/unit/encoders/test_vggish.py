"""VGGish against outputs of the published module; ticks to examples and back."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from erray.encoders.logmel import log_mel
from erray.encoders.vggish import VggishConfig, VggishEncoder, example_starts, make_network
from erray.errors import UserError
from tests.unit.encoders.voice_samples import noise, sample_of

REFERENCE = Path(__file__).parents[2] / "assets" / "reference"
CASE = json.loads((REFERENCE / "vggish.json").read_text())


def made_by_rule(name, shape):
    """The tensor that the reference output was computed with, made from its name."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    values = random.standard_normal(shape).astype(np.float32)
    if name.startswith("input/"):
        return values
    values *= np.float32(1 / np.sqrt(np.prod(shape[1:]))) if len(shape) > 1 else np.float32(0.1)
    return torch.from_numpy(values)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file as the released one is: named tensors, written before torch had its archives."""
    path = tmp_path_factory.mktemp("weights") / "vggish.pth"
    state = {name: made_by_rule(name, shape) for name, shape in CASE["parameters"].items()}
    torch.save(state, path, _use_new_zipfile_serialization=False)
    yield str(path)
    path.unlink()


@pytest.fixture(scope="module")
def encoder(weights):
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield VggishEncoder(VggishConfig(weights=weights, device="cpu", batch_size=5))
    torch.set_num_threads(num_threads)


@pytest.mark.reference
def test_equals_the_published_network(encoder):
    rows = made_by_rule("input/logmel", CASE["inputs"]["logmel"])
    expected = np.load(REFERENCE / "vggish.npz")["vggish"]
    assert np.abs(encoder.embed(rows) - expected).max() <= 1e-4


@pytest.mark.reference
@pytest.mark.parametrize("fps", CASE["example_starts"])
def test_published_alignment_gives_the_published_examples(fps):
    expected = CASE["example_starts"][fps]
    times_s = np.arange(len(expected)) / float(fps)
    assert example_starts(times_s, "published").tolist() == expected


def test_parameters_are_the_published_ones():
    network = make_network()
    shapes = {name: list(x.shape) for name, x in network.state_dict().items()}
    assert shapes == CASE["parameters"]
    assert sum(x.numel() for x in network.parameters()) == 72_141_184


def test_a_centred_example_has_its_tick_in_the_middle():
    times_s = np.array([0.0, 0.5, 1.0, 2.34])
    middle_s = (example_starts(times_s, "centre") * 160 + (95 * 160 + 400) / 2) / 16000
    assert np.abs(middle_s - times_s).max() <= 0.005 + 1e-9


@pytest.mark.parametrize("align", ["centre", "published"])
def test_a_tick_holds_the_network_over_the_sound_around_it(encoder, weights, align):
    """Cut from the waveform, instead of from the rows of the whole clip."""
    waveform = noise(1.5)
    times_s = np.array([0.0, 0.04, 0.7, 1.46, 1.6])
    own = VggishEncoder(VggishConfig(align=align, weights=weights, device="cpu"))
    own._network = encoder._network
    stream = own([sample_of(10 + times_s, waveform, 10.0)])[0]
    assert stream.present_T.tolist() == [True] * 4 + [False]
    assert stream.values_TD.shape == (5, 128) and not stream.values_TD[4].any()
    padded = np.concatenate([[waveform[0]] * 16000, waveform, [waveform[-1]] * 16000])
    padded = padded.astype(np.float32)
    for tick, time_s in enumerate(times_s[:4]):
        start_s = 1 + time_s - (0.4875 if align == "centre" else 0.0)
        first = round(start_s * 100 + 1e-9) * 160
        rows = log_mel(padded[first : first + 95 * 160 + 400]).astype(np.float32)
        np.testing.assert_allclose(stream.values_TD[tick], encoder.embed(rows[None])[0], atol=1e-5)


def test_batches_across_clips_change_nothing(encoder):
    samples = [
        sample_of(np.arange(9) / 25, noise(0.4, 1)),
        sample_of(np.arange(3) / 25, None),
        sample_of([], noise(0.1, 2)),
        sample_of([0.1], noise(0.2, 3)),
        sample_of(np.arange(7) / 25, noise(0.2, 4), start_s=0.05),
    ]
    together = encoder(samples)
    for sample, stream in zip(samples, together, strict=True):
        alone = encoder([sample])[0]
        np.testing.assert_array_equal(stream.present_T, alone.present_T)
        np.testing.assert_allclose(stream.values_TD, alone.values_TD, rtol=0, atol=1e-5)
    assert [int(stream.present_T.sum()) for stream in together] == [9, 0, 0, 1, 5]


def test_ticks_at_the_same_row_share_one_forward(encoder, monkeypatch):
    sizes = []
    monkeypatch.setattr(
        encoder, "embed", lambda x: sizes.append(len(x)) or np.zeros((len(x), 128), np.float32)
    )
    encoder([sample_of(np.arange(100) / 1000, noise(0.3))])  # 0.1 s at 1000 Hz: 11 rows
    assert sizes == [5, 5, 1]


def test_no_learning_no_drift(encoder):
    network = encoder._network
    assert not network.training and not any(p.requires_grad for p in network.parameters())


def test_weights_of_half_precision_are_read(encoder, weights, tmp_path):
    path = tmp_path / "half.pth"
    torch.save({name: x.half() for name, x in torch.load(weights).items()}, path)
    half = VggishEncoder(VggishConfig(weights=str(path), device="cpu"))
    rows = made_by_rule("input/logmel", CASE["inputs"]["logmel"])
    np.testing.assert_allclose(half.embed(rows), encoder.embed(rows), rtol=0, atol=0.01)


def test_what_is_no_such_file_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("ERRAY_WEIGHTS", str(tmp_path))
    with pytest.raises(UserError, match="erray weights fetch vggish"):
        VggishEncoder()([sample_of([0.1], noise(0.2))])
    torch.save({"features.0.weight": torch.zeros(2)}, tmp_path / "other.pth")
    encoder = VggishEncoder(VggishConfig(weights=str(tmp_path / "other.pth")))
    with pytest.raises(UserError, match=r"missing.*embeddings\.0\.bias"):
        encoder([sample_of([0.1], noise(0.2))])
    with pytest.raises(UserError, match="align centre or published, found 'left'"):
        VggishConfig(align="left")
    with pytest.raises(UserError, match="batch_size"):
        VggishConfig(batch_size=0)
