import pytest
import torch

from erray.encoders import ENCODERS, make_encoder
from erray.encoders.devices import pick_device
from erray.errors import UserError

WITH_DEVICE = [name for name in ENCODERS if hasattr(ENCODERS[name]().config, "device")]


@pytest.mark.parametrize("name", WITH_DEVICE)
@pytest.mark.parametrize("device", ["gpu", "cud", "cuda:", ""])
def test_what_is_no_device_is_refused_before_anything_is_loaded(name, device):
    with pytest.raises(UserError, match=rf"{name}: expected a device of cpu.*found '{device}'"):
        make_encoder(name, {"device": device})


@pytest.mark.parametrize("name", WITH_DEVICE)
@pytest.mark.parametrize("device", [None, "cpu", "cuda", "cuda:1"])
def test_devices_are_taken(name, device):
    assert make_encoder(name, {"device": device}).config.device == device


def test_a_gpu_that_is_not_there_is_one_line():
    there = torch.cuda.device_count()
    with pytest.raises(UserError, match=f"for device cuda:{there}, found {there} of them"):
        pick_device(f"cuda:{there}")
    assert pick_device("cpu").type == "cpu"
    assert pick_device(None).type == ("cuda" if there else "cpu")
