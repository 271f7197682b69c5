import pytest

from erray.encoders import ENCODERS, make_encoder
from erray.errors import UserError
from erray.records import MODALITIES


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_states_what_it_is(name):
    encoder = make_encoder(name, {})
    assert encoder.name == name and encoder.modality in MODALITIES
    assert isinstance(encoder.version, int)
    # of its weights; None: it has none (an encoder without a public source has a licence as well)
    assert encoder.licence or (encoder.weights_sha256 is None and encoder.source is None)
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
    with pytest.raises(UserError, match=r"no option 'pool'; valid options: pool_s, deviation"):
        make_encoder("logmel", {"pool": 1})


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("logmel", {"pool_s": "0.5"}, "encoder logmel: pool_s: .*number, found '0.5'"),
        ("logmel", {"deviation": "no"}, "deviation: .*boolean, found 'no'"),
        ("hash", {"width": 2.5}, "width: .*integer, found 2.5"),
        ("hash", {"width": True}, "width: .*integer, found True"),
        ("wav2vec2", {"chunk_s": "20"}, "chunk_s: .*number, found '20'"),
        ("wav2vec2", {"layers": [6, "last"]}, "layers.*found 'last'"),
        ("ir50", {"weights": 3}, "weights: .*string, found 3"),
        ("bert", {"model": 3}, "model: .*string, found 3"),
        ("prosody", {"pool_s": float("nan")}, "pool_s from 0.02"),
    ],
)
def test_a_wrong_type_is_one_line_before_anything_runs(name, options, match):
    with pytest.raises(UserError, match=match) as caught:
        make_encoder(name, options)
    assert "\n" not in str(caught.value)


def test_a_value_that_the_config_refuses_names_the_encoder_once():
    with pytest.raises(UserError, match=r"^encoder logmel: expected pool_s from 0\.02 to"):
        make_encoder("logmel", {"pool_s": 100})


def test_a_list_stands_for_a_tuple_and_a_whole_number_for_any():
    assert make_encoder("wav2vec2", {"layers": [6, -1]}).config.layers == (6, -1)
    assert repr(make_encoder("logmel", {"pool_s": 1}).config.pool_s) == "1.0"
