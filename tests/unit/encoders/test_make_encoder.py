import pytest

from erray.encoders import ENCODERS, make_encoder
from erray.errors import UserError
from erray.records import MODALITIES


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_states_what_it_is(name):
    encoder = make_encoder(name, {})
    assert encoder.name == name and encoder.modality in MODALITIES
    assert isinstance(encoder.version, int)
    # an encoder of any model is as wide as its model, which need not be on this machine
    assert hasattr(encoder.config, "model") or encoder.width > 0
    assert encoder.config == ENCODERS[name]().config
    assert encoder([]) == []


def test_options_reach_the_config():
    encoder = make_encoder("hash", {"width": 32})
    assert encoder.config.width == 32 and encoder.width == 32


def test_unknown_names_and_options_are_refused_with_the_valid_ones():
    with pytest.raises(UserError, match=rf"{', '.join(ENCODERS)}, found 'vgg'"):
        make_encoder("vgg", {})
    with pytest.raises(UserError, match=r"pool_s, deviation.*'pool'"):
        make_encoder("logmel", {"pool": 1})
