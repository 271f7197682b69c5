"""Tiny speech models with random weights, written and read the way real ones are."""

import json

import numpy as np
import pytest
import torch
from transformers import (
    HubertConfig,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    WavLMConfig,
    WavLMModel,
)

from erray.encoders.voice_ticks import frames_to_ticks
from erray.encoders.wav2vec2 import Wav2vec2Config, Wav2vec2Encoder
from erray.errors import UserError
from tests.unit.encoders.voice_samples import noise, sample_of

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 20,
    "conv_dim": (8, 8, 8),
    "conv_kernel": (10, 8, 4),  # sees 130 samples, steps of 80
    "conv_stride": (5, 4, 4),
    "num_conv_pos_embeddings": 6,
    "num_conv_pos_embedding_groups": 2,
}
KINDS = {
    "wav2vec2": (Wav2Vec2ForCTC, Wav2Vec2Config(**SIZES, vocab_size=7), True),  # group norm
    "hubert": (
        HubertModel,
        HubertConfig(**SIZES, feat_extract_norm="layer", do_stable_layer_norm=True),
        False,
    ),
    "wavlm": (WavLMModel, WavLMConfig(**SIZES), True),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    for name, (kind, config, do_normalize) in KINDS.items():
        torch.manual_seed(0)
        kind(config).eval().save_pretrained(root / name)
        Wav2Vec2FeatureExtractor(do_normalize=do_normalize).save_pretrained(root / name)
    return root


def encoder_of(folders, name="wav2vec2", **options):
    return Wav2vec2Encoder(Wav2vec2Config(model=str(folders / name), device="cpu", **options))


@pytest.mark.parametrize("name", KINDS)
def test_values_are_the_hidden_states_at_their_time(folders, name):
    kind, _, do_normalize = KINDS[name]
    waveform = (0.3 + noise(0.5)).astype(np.float32)
    times_s = np.arange(20) / 25
    stream = encoder_of(folders, name, layers=[1, -1])([sample_of(7 + times_s, waveform, 7.0)])[0]
    x = torch.from_numpy(waveform)
    if do_normalize:
        x = (x - x.mean()) / torch.sqrt(x.var(correction=0) + 1e-7)
    model = kind.from_pretrained(folders / name).eval()
    with torch.no_grad():
        hidden = model(x[None], output_hidden_states=True).hidden_states
    frames_FD = ((hidden[1] + hidden[2]) / 2)[0].numpy()
    assert frames_FD.shape == (99, 16)
    centres_s = (np.arange(99) * 80 + 65) / 16000
    expected = frames_to_ticks(frames_FD, centres_s, times_s)
    assert stream.present_T.tolist() == (times_s < 0.5).tolist()
    np.testing.assert_allclose(stream.values_TD[:13], expected[:13], rtol=0, atol=1e-5)
    assert not stream.values_TD[13:].any()


def test_without_a_choice_the_mean_of_all_layers(folders):
    sample = sample_of(np.arange(5) / 25, noise(0.3))
    each = [encoder_of(folders, layers=[i])([sample])[0].values_TD for i in range(3)]
    found = encoder_of(folders)([sample])[0].values_TD
    np.testing.assert_allclose(found, np.mean(each, axis=0), rtol=0, atol=1e-5)
    assert np.abs(each[0] - each[2]).max() > 1e-3


@pytest.mark.parametrize("name", KINDS)
def test_batch_mates_change_nothing(folders, name):
    encoder = encoder_of(folders, name, chunk_s=1.0, overlap_s=0.4)
    times_s = np.arange(90) / 25
    samples = [
        sample_of(times_s, noise(3.1, 1)),
        sample_of(times_s, None),
        sample_of(times_s, noise(0.4, 2), start_s=0.19),
        sample_of(times_s, np.zeros(100)),  # shorter than a frame
        sample_of([], noise(0.4, 3)),
        sample_of([0.1], 0.01 * noise(1.7, 4)),
    ]
    together = encoder(samples)
    for sample, stream in zip(samples, together, strict=True):
        alone = encoder([sample])[0]
        np.testing.assert_array_equal(stream.present_T, alone.present_T)
        np.testing.assert_allclose(stream.values_TD, alone.values_TD, rtol=0, atol=1e-5)
    assert [int(stream.present_T.sum()) for stream in together] == [78, 0, 10, 0, 0, 1]


def test_a_long_sound_in_chunks_is_nearly_the_sound_at_once(folders):
    """HuBERT with layer norm: only what lies beyond a chunk is missed, less with overlap."""
    sample = sample_of(np.arange(150) / 25, noise(6.0))
    whole = encoder_of(folders, "hubert")([sample])[0].values_TD
    errors = []
    for overlap_s in (0.0, 0.5):
        encoder = encoder_of(folders, "hubert", chunk_s=2.0, overlap_s=overlap_s)
        errors.append(np.abs(encoder([sample])[0].values_TD - whole).max())
    assert errors[1] < errors[0] / 2 and errors[1] < 0.05 * np.abs(whole).max()


def test_hash_is_of_what_is_read_wherever_it_lies(folders, tmp_path):
    copy = tmp_path / "moved"
    copy.mkdir()
    for path in (folders / "hubert").iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    one = encoder_of(folders, "hubert").weights_sha256
    assert one == Wav2vec2Encoder(Wav2vec2Config(model=str(copy))).weights_sha256
    config = json.loads((copy / "preprocessor_config.json").read_text())
    (copy / "preprocessor_config.json").write_text(json.dumps(config | {"do_normalize": True}))
    assert one != Wav2vec2Encoder(Wav2vec2Config(model=str(copy))).weights_sha256


def test_frozen_and_as_wide_as_the_model(folders):
    encoder = encoder_of(folders)
    assert encoder.width == 16 and not encoder._model.training
    assert not any(p.requires_grad for p in encoder._model.parameters())


def refuse(config, match):
    encoder = Wav2vec2Encoder(config)
    with pytest.raises(UserError, match=match) as caught:
        encoder([sample_of([0.1], noise(0.3))])
    assert "\n" not in str(caught.value)


def test_what_is_no_such_model_is_one_line(folders, tmp_path):
    refuse(Wav2vec2Config(model="nobody/nothing"), "hf download nobody/nothing")
    refuse(Wav2vec2Config(model=str(tmp_path)), "safetensors")
    refuse(Wav2vec2Config(model=str(folders / "hubert"), layers=(3,)), "from -3 to 2.*found 3")
    folder = tmp_path / "text"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert"}')
    (folder / "model.safetensors").touch()
    (folder / "preprocessor_config.json").touch()
    refuse(Wav2vec2Config(model=str(folder)), "reads a waveform.*found: bert")


def test_another_rate_is_refused(folders, tmp_path):
    KINDS["hubert"][0](KINDS["hubert"][1]).save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor(sampling_rate=8000).save_pretrained(tmp_path)
    refuse(Wav2vec2Config(model=str(tmp_path)), "8000 Hz")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"layers": "last"}, "whole numbers, found 'last'"),
        ({"layers": []}, "layers"),
        ({"layers": [1.5]}, "layers"),
        ({"chunk_s": 0.5}, "chunk_s"),
        ({"overlap_s": 11.0}, "overlap_s"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, match):
    with pytest.raises(UserError, match=match):
        Wav2vec2Config(**options)
