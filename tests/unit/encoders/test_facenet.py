"""FaceNet against facenet-pytorch's own network and standardisation, crop by crop."""

import numpy as np
import pytest
import torch
from facenet_pytorch import InceptionResnetV1, fixed_image_standardization
from PIL import Image

from erray.encoders.facenet import FacenetConfig, FacenetEncoder
from erray.errors import UserError
from erray.records import FaceSample


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture(scope="module")
def oracle():
    torch.manual_seed(0)
    return InceptionResnetV1(classify=True, num_classes=10).eval()


@pytest.fixture(scope="module")
def encoder(oracle, tmp_path_factory):
    """With the classifier in the file, as the published ones have it."""
    path = tmp_path_factory.mktemp("facenet") / "vggface2.pt"
    torch.save(oracle.state_dict(), path, _use_new_zipfile_serialization=False)
    return FacenetEncoder(FacenetConfig(weights=str(path), batch_size=3, device="cpu"))


def sample(num_ticks, ticks, *, seed=0):
    crops = np.random.default_rng(seed).integers(0, 256, (len(ticks), 112, 112, 3), np.uint8)
    return FaceSample(num_ticks, np.array(ticks, np.int32), crops)


def expected_values(oracle, crop_HWC):
    image = Image.fromarray(crop_HWC).resize((160, 160), Image.Resampling.BILINEAR)
    x_CHW = torch.from_numpy(np.asarray(image, np.float32).transpose(2, 0, 1))
    oracle.classify = False
    with torch.no_grad():
        return oracle(fixed_image_standardization(x_CHW)[None])[0].numpy()


def test_values_are_facenets_whatever_the_batches(encoder, oracle):
    samples = [sample(6, [0, 1, 4, 5], seed=1), sample(2, [], seed=2), sample(1, [0], seed=3)]
    streams = encoder(samples)
    assert [stream.values_TD.shape for stream in streams] == [(6, 512), (2, 512), (1, 512)]
    for one, stream in zip(samples, streams, strict=True):
        assert np.flatnonzero(stream.present_T).tolist() == one.ticks_N.tolist()
        assert not stream.values_TD[~stream.present_T].any()
        for tick, crop_HWC in zip(one.ticks_N, one.crops_NHWC, strict=True):
            assert np.abs(stream.values_TD[tick] - expected_values(oracle, crop_HWC)).max() <= 1e-5


def test_it_is_frozen(encoder):
    net = encoder._net
    assert not net.training and not any(p.requires_grad for p in net.parameters())


def test_weights_are_needed_only_for_what_depends_on_them(tmp_path, monkeypatch):
    monkeypatch.setenv("ERRAY_WEIGHTS", str(tmp_path))
    encoder = FacenetEncoder()
    assert encoder([]) == [] and encoder.width == 512
    with pytest.raises(UserError, match=r"is missing.*`erray weights fetch facenet-vggface2`"):
        _ = encoder.weights_sha256
    with pytest.raises(UserError, match="batch_size of 1 or more, found 0"):
        FacenetConfig(batch_size=0)


def test_other_weights_are_one_line(tmp_path):
    path = tmp_path / "other.pt"
    torch.save({"conv2d_1a.conv.weight": torch.zeros(32, 3, 3, 3)}, path)
    encoder = FacenetEncoder(FacenetConfig(weights=str(path), device="cpu"))
    with pytest.raises(UserError, match=r"holds other weights: \d+ tensors missing"):
        encoder([sample(1, [0])])
