"""IR-50 against outputs of the published module; checkpoint layouts, views, batches."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from erray.encoders.crop_batches import scaled
from erray.encoders.ir50 import (
    MAX_VIEWS,
    Ir50Config,
    Ir50Encoder,
    View,
    backbone_of,
    cut_view,
    views_of,
)
from erray.encoders.ir50_net import Ir50
from erray.errors import UserError
from erray.records import FaceSample

REFERENCE = Path(__file__).parents[2] / "assets" / "reference"
CASE = json.loads((REFERENCE / "ir50.json").read_text())["ir50"]


def made_by_rule(name, shape):
    """The tensor that the reference outputs were computed with, made from its name."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("num_batches_tracked"):
        return torch.tensor(0)
    if name.endswith("running_var"):
        return torch.from_numpy((0.5 + random.random(shape)).astype(np.float32))
    values = random.standard_normal(shape).astype(np.float32)
    if name.startswith("input/"):
        return torch.from_numpy(values)
    if len(shape) > 1:
        values /= np.float32(np.sqrt(np.prod(shape[1:])))
    else:
        values *= np.float32(0.1)
        if name.endswith(".weight"):
            values += 1
    return torch.from_numpy(values)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture(scope="module")
def published():
    """Tensors under the names of the published checkpoint."""
    return {name: made_by_rule(name, shape) for name, shape in CASE["parameters"].items()}


@pytest.fixture(scope="module")
def checkpoint(published, tmp_path_factory):
    path = tmp_path_factory.mktemp("ir50") / "res50_ir_0.887.pth"
    torch.save(published, path)
    return path


@pytest.fixture(scope="module")
def encoder(checkpoint):
    return Ir50Encoder(Ir50Config(weights=str(checkpoint), views=3, batch_size=4, device="cpu"))


def sample(num_ticks, ticks, *, seed=0, size_px=112):
    random = np.random.default_rng(seed)
    crops = random.integers(0, 256, (len(ticks), size_px, size_px, 3), np.uint8)
    return FaceSample(num_ticks, np.array(ticks, np.int32), crops)


@pytest.mark.reference
def test_equals_the_published_module(published):
    net = Ir50().eval()
    net.load_state_dict(backbone_of(published, Path("x"), net.state_dict()))
    name, shape = next(iter(CASE["inputs"].items()))
    with torch.inference_mode():
        found = net(made_by_rule(f"input/{name}", shape)).numpy()
    expected = np.load(REFERENCE / "ir50.npz")["ir50"]
    assert found.shape == expected.shape and np.abs(found - expected).max() <= 1e-4


def test_size_and_frozenness(encoder):
    net = encoder._net
    assert sum(p.numel() for p in net.parameters()) == 37_283_520
    assert not net.training and not any(p.requires_grad for p in net.parameters())
    before = {name: x.clone() for name, x in net.state_dict().items()}
    encoder([sample(5, range(5))])
    assert all(torch.equal(before[name], x) for name, x in net.state_dict().items())


@pytest.mark.parametrize("prefix", ["", "backbone.", "spatial.visual.", "spatial.visual.backbone."])
def test_every_published_layout_is_read(published, prefix):
    bare = {name.removeprefix("backbone."): x for name, x in published.items()}
    given = {prefix + name: x for name, x in bare.items() if not name.startswith("logits.")}
    with torch.device("meta"):
        expected = Ir50().state_dict()
    for more in ([], ["logits.weight"], [f"{prefix}logits.bias"], ["temporal.visual.conv"]):
        if more == ["temporal.visual.conv"] and not prefix:
            continue
        found = backbone_of(given | dict.fromkeys(more, torch.zeros(1)), Path("x"), expected)
        assert found.keys() == expected.keys()
        assert all(found[name] is given[prefix + name] for name in found)


def test_other_files_are_one_line(published):
    with torch.device("meta"):
        expected = Ir50().state_dict()
    wrong = dict(published)
    wrong["backbone.output_layer.3.weight"] = torch.zeros(512, 25088)
    with pytest.raises(UserError, match=r"output_layer.3.weight of shape \[512, 12800\], found"):
        backbone_of(wrong, Path("x"), expected)
    del wrong["backbone.output_layer.3.weight"]
    with pytest.raises(UserError, match=r"1 tensors missing \(output_layer.3.weight\), 0 unknown"):
        backbone_of(wrong, Path("x"), expected)
    with pytest.raises(UserError, match=r"expected IR-50 .* found conv\.weight"):
        backbone_of({"conv.weight": torch.zeros(1)}, Path("x"), expected)


def test_values_are_the_network_on_the_centre(encoder):
    one = sample(4, [0, 2], seed=1)
    [stream] = encoder([one])
    assert stream.present_T.tolist() == [True, False, True, False]
    assert not stream.values_TD[[1, 3]].any() and not stream.more_views_VTD[:, [1, 3]].any()
    for tick, crop_HWC in zip([0, 2], one.crops_NHWC, strict=True):
        small = Image.fromarray(crop_HWC).resize((48, 48), Image.Resampling.BILINEAR)
        x_HWC = np.asarray(small, np.float32)[4:44, 4:44] / 127.5 - 1
        for image_HWC, values_TD in zip((x_HWC, x_HWC[:, ::-1]), stream.views, strict=False):
            x_NCHW = torch.from_numpy(image_HWC.transpose(2, 0, 1)[None].copy())
            with torch.no_grad():
                expected_D = encoder._net(x_NCHW)[0].numpy()
            assert np.abs(values_TD[tick] - expected_D).max() <= 1e-5
    assert np.allclose(np.linalg.norm(stream.values_TD[[0, 2]], axis=1), 1, atol=1e-6)


def test_batches_across_clips_change_no_values(encoder):
    samples = [sample(7, [0, 1, 2, 5, 6], seed=1), sample(3, [], seed=2), sample(1, [0], seed=3)]
    together = encoder(samples)
    for one, stream in zip(samples, together, strict=True):
        [alone] = encoder([one])
        assert np.array_equal(alone.present_T, stream.present_T)
        for a_TD, b_TD in zip(alone.views, stream.views, strict=True):
            assert np.abs(a_TD - b_TD).max() <= 1e-5
    assert [stream.values_TD.shape for stream in together] == [(7, 512), (3, 512), (1, 512)]
    assert not together[1].present_T.any()


def test_views_are_distinct_within_the_crop_and_kept_when_there_are_more():
    views = views_of(MAX_VIEWS)
    assert views[:2] == [View(False, 4, 4), View(True, 4, 4)]
    assert len(set(views)) == MAX_VIEWS
    assert all(0 <= view.top_px <= 8 and 0 <= view.left_px <= 8 for view in views)
    for num_views in range(1, MAX_VIEWS):
        assert views_of(num_views) == views[:num_views]
    pixels = torch.arange(48 * 48 * 3, dtype=torch.int64).reshape(1, 3, 48, 48) % 251
    cuts = [cut_view(pixels.to(torch.uint8), view) for view in views]
    assert all(x.shape == (1, 3, 40, 40) and x.abs().max() <= 1 for x in cuts)
    assert torch.equal(cuts[1], cuts[0].flip(-1))


def test_pixels_are_scaled_as_whole_numbers():
    crops = [np.full((112, 112, 3), [10, 20, 30], np.uint8)]
    assert np.array_equal(scaled(crops, 48)[0, :, 5, 7], [10, 20, 30])


def test_weights_are_needed_only_for_what_depends_on_them(checkpoint):
    encoder = Ir50Encoder()
    assert encoder([]) == [] and encoder.width == 512
    with pytest.raises(UserError, match=r"streams\.ir50\.weights: expected the path"):
        _ = encoder.weights_sha256
    with pytest.raises(UserError, match="expected views of 1 to 8, found 9"):
        Ir50Config(views=9)
    with pytest.raises(UserError, match="batch_size of 1 or more, found 0"):
        Ir50Config(batch_size=0)
