"""Against the published modules: equal logits, equal tensors, and what a state dict tells."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from erray.errors import UserError
from erray.models import make_model
from erray.models.published import describe_published, fusion_tensors, published_names

REFERENCE = Path(__file__).parents[2] / "assets" / "reference"
CASES = {
    name: {"model": model, **case}
    for model in ("lfan", "can", "jmt", "mt")
    for name, case in json.loads((REFERENCE / f"{model}.json").read_text()).items()
}
UNUSED = {
    "can": {"conv_c.weight", "conv_c.bias"},
    "mt": {"fuse.reduce_feats_dim.weight", "fuse.reduce_feats_dim.bias"},
}


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


def widths_of(case):
    return {stream: shape[-1] for stream, shape in case["inputs"].items()}


def make_case(case):
    return make_model(case["model"], widths_of(case), 7, case["options"]).eval()


def load(model, tensors):
    state = model.state_dict()
    for ours, published in published_names(model).items():
        assert state[ours].shape == tensors[published].shape, ours
        state[ours] = tensors[published]
    model.load_state_dict(state)
    return model


def checkpoint(case):
    """A state dict as a user has it: convolutions under two names, and the face encoder besides."""
    state = {"spatial.visual.backbone.input_layer.0.weight": torch.zeros(3)}
    for name, shape in case["parameters"].items():
        state[name] = made_by_rule(name, shape)
        second = name.replace("net.0.", "conv1.").replace("net.4.", "conv2.")
        if name.startswith("temporal.") and second != name:
            state[second] = state[name].clone()
    return state


@pytest.fixture
def one_thread():
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


def logits(model, case):
    x = {stream: made_by_rule(f"input/{stream}", shape) for stream, shape in case["inputs"].items()}
    everywhere_BT = torch.ones(next(iter(x.values())).shape[:2], dtype=torch.bool)
    with torch.no_grad():
        return model(x, dict.fromkeys(x, everywhere_BT), everywhere_BT).numpy()


@pytest.mark.reference
@pytest.mark.parametrize("name", CASES)
def test_equals_the_published_module(name, one_thread):
    case = CASES[name]
    model = load(make_case(case), fusion_tensors(checkpoint(case)))
    expected = np.load(REFERENCE / f"{case['model']}.npz")[name]
    assert np.abs(logits(model, case) - expected).max() <= 1e-5


@pytest.mark.parametrize("name", CASES)
def test_parameters_are_the_published_ones_and_the_vectors_for_absence(name):
    case = CASES[name]
    model = make_case(case)
    names = published_names(model)
    shapes = {names[key]: list(x.shape) for key, x in model.state_dict().items() if key in names}
    unused = UNUSED.get(case["model"], set())
    assert shapes == {k: v for k, v in case["parameters"].items() if k not in unused}
    assert fusion_tensors(checkpoint(case)).keys() == shapes.keys()
    num_ours = sum(widths_of(case).values()) + (128 if case["model"] == "lfan" else 0)  # its leader
    # trainable there and not here: layers that are never used, a bias in front of a batch norm
    num_theirs = sum(
        int(np.prod(case["parameters"][key])) for key in unused | {"fc1.bias"} & shapes.keys()
    )
    num_trainable = sum(p.numel() for p in model.parameters())
    assert num_trainable == case["num_trainable"] + num_ours - num_theirs


@pytest.mark.parametrize("name", CASES)
def test_a_checkpoint_tells_its_model(name):
    case = CASES[name]
    model, streams, options, num_classes = describe_published(checkpoint(case))
    assert (model, num_classes) == (case["model"], 7)
    assert list(streams.items()) == list(widths_of(case).items())
    wanted = make_case(case)
    assert {s: tuple(c) for s, c in options["channels"].items()} == wanted.channels
    for option in ("modal_dim", "kernel_size"):
        assert options[option] == getattr(wanted.config, option)
    if model in ("jmt", "mt"):
        assert (options["fusion_axis"], options["readout"]) == ("published", "last")
    else:
        assert not {"fusion_axis", "readout"} & options.keys()


@pytest.mark.parametrize(
    ("model", "name"), [(c["model"], n) for n, c in CASES.items() if "slot" not in n]
)
def test_what_is_described_loads(model, name, one_thread):
    """From the tensors alone to the published logits; only the number of heads is not in them."""
    case = CASES[name]
    state = checkpoint(case)
    model, streams, options, num_classes = describe_published(state)
    if model == "lfan":
        options["num_heads"] = case["options"].get("num_heads", 2)
    ours = load(make_model(model, streams, num_classes, options).eval(), fusion_tensors(state))
    expected = np.load(REFERENCE / f"{model}.npz")[name]
    assert np.abs(logits(ours, case) - expected).max() <= 1e-5


def test_sizes_that_are_not_the_published_ones_are_told():
    """Our own models of odd sizes, under published names and back."""
    for name, streams, options in [
        (
            "lfan",
            {"b": 7, "a": 5},
            {"modal_dim": 6, "kernel_size": 3, "channels": {"b": [4], "a": [3, 2]}},
        ),
        ("can", {"x": 4}, {"modal_dim": 3, "kernel_size": 1, "channels": {"x": [5, 5]}}),
        (
            "jmt",
            {"v": 6, "a": 5},
            {
                "modal_dim": 4,
                "kernel_size": 2,
                "channels": {"v": [4], "a": [3]},
                "fusion_axis": "published",
                "readout": "last",
            },
        ),
    ]:
        model = make_model(name, streams, 5, options)
        state = {
            published: model.state_dict()[ours]
            for ours, published in published_names(model).items()
        }
        found = describe_published(state)
        assert found == (name, streams, options, 5)
        assert list(found.streams) == list(streams)


def test_what_is_no_published_checkpoint_is_refused():
    good = checkpoint(CASES["can_av"])
    one_level = "temporal.video.network.2."
    for state, message in [
        ({}, "not a published checkpoint of lfan, can, jmt, mt"),
        ({"weight": torch.zeros(2)}, "found none of them among 1"),
        ({k: v for k, v in good.items() if not k.startswith("temporal.")}, "kernel size.*none"),
        (
            {k: v for k, v in good.items() if not k.startswith(one_level) or "down" in k},
            "2.net.0.weight_v",
        ),
        (good | {"fc2.weight": torch.zeros(3)}, r"fc2.weight with 2 axes, found \[3\]"),
        (
            {k: v for k, v in good.items() if k != "fc2.weight"},
            "fc2.weight with 2 axes, found none",
        ),
        (good | {"temporal.video.network.0.conv1.bias": torch.zeros(256)}, "same tensor"),
    ]:
        with pytest.raises(UserError, match=message):
            describe_published(state)


def test_a_convolution_may_have_its_second_name_alone():
    state = checkpoint(CASES["mt_av_slot_axis"])
    alone = {k: v for k, v in state.items() if ".net." not in k}
    both = fusion_tensors(state)
    assert fusion_tensors(alone).keys() == both.keys()
    assert all(x.equal(both[name]) for name, x in fusion_tensors(alone).items())
