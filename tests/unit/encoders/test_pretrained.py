"""Folders of models that are not what they should be, by the encoders that read them."""

import builtins
import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from erray.encoders.bert import BertConfig, BertEncoder
from erray.encoders.wav2vec2 import Wav2vec2Config, Wav2vec2Encoder
from erray.errors import UserError
from erray.records import TextSample
from tests.unit.encoders.text_models import write_bert
from tests.unit.encoders.voice_samples import noise, sample_of

WEIGHTS = "model.safetensors"


def write_wav2vec2(folder):
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=20,
        conv_dim=(8, 8),
        conv_kernel=(20, 8),
        conv_stride=(10, 8),
        num_conv_pos_embeddings=6,
        num_conv_pos_embedding_groups=2,
    )
    Wav2Vec2Model(config).eval().save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


def bert(folder):
    encoder = BertEncoder(BertConfig(model=str(folder), device="cpu"))
    return encoder([TextSample(np.arange(4) / 10, "yes no")])[0]


def wav2vec2(folder):
    encoder = Wav2vec2Encoder(Wav2vec2Config(model=str(folder), device="cpu"))
    return encoder([sample_of([0.1, 0.2], noise(0.3))])[0]


ENCODERS = {"bert": (write_bert, bert), "wav2vec2": (write_wav2vec2, wav2vec2)}


@pytest.fixture(scope="module", params=ENCODERS)
def whole(request, tmp_path_factory):
    write, read = ENCODERS[request.param]
    return write(tmp_path_factory.mktemp("model")), read


@pytest.fixture
def model(whole, tmp_path):
    """A copy to hurt, and the encoder that reads it."""
    folder, read = whole
    return shutil.copytree(folder, tmp_path / "model"), read


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def change_weights(folder, edit):
    tensors = load_file(folder / WEIGHTS)
    edit(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def refuse(model, match):
    folder, read = model
    with pytest.raises(UserError, match=match) as caught:
        read(folder)
    assert "\n" not in str(caught.value)


def test_a_whole_model_is_read(model):
    folder, read = model
    assert read(folder).present_T.any()


def test_weights_that_are_missing_are_never_random(model):
    change_weights(model[0], lambda t: t.pop("encoder.layers.1.attention.q_proj.bias", None))
    change_weights(model[0], lambda t: t.pop("encoder.layer.1.attention.self.query.bias", None))
    refuse(model, r"all weights of the model.*no encoder\.layer")


def test_weights_of_another_model_are_never_random(model):
    save_file({"other": torch.zeros(1)}, model[0] / WEIGHTS, metadata={"format": "pt"})
    refuse(model, "all weights of the model")


def test_weights_of_other_shapes_are_one_line(model):
    change_weights(model[0], lambda t: t.update({min(t): torch.zeros(3, 3)}))
    refuse(model, r"weights that fit config\.json, .*\[.*found: \[3, 3\]")


def test_a_cut_file_is_one_line(model):
    data = (model[0] / WEIGHTS).read_bytes()
    (model[0] / WEIGHTS).write_bytes(data[: len(data) // 2])
    refuse(model, r"weights that fit config\.json")


@pytest.mark.parametrize("text", ["{", "[]", '{"model_type": "never heard of"}'])
def test_a_configuration_of_nothing_is_one_line(model, text):
    (model[0] / "config.json").write_text(text)
    refuse(model, "a model that transformers knows")


def test_code_beside_the_weights_never_runs(model, tmp_path, monkeypatch):
    """Transformers asks the terminal whether it may run it; nobody is asked here."""
    monkeypatch.setattr(builtins, "input", lambda *_: "y")
    folder, canary = model[0], tmp_path / "canary"
    code = f"from pathlib import Path\nPath({str(canary)!r}).touch()\nclass Theirs: ...\n"
    (folder / "theirs.py").write_text(code)
    for file, auto, value in (
        ("preprocessor_config.json", "AutoFeatureExtractor", "theirs.Theirs"),
        ("tokenizer_config.json", "AutoTokenizer", ["theirs.Theirs", None]),
        ("config.json", "AutoConfig", "theirs.Theirs"),
    ):
        if (folder / file).exists():
            change(folder / file, auto_map={auto: value})
    change(folder / "config.json", model_type="theirs")
    refuse(model, "contains custom code")
    assert not canary.exists()


def test_the_preprocessing_of_spectra_is_refused(tmp_path):
    folder = write_wav2vec2(tmp_path / "model")
    change(folder / "preprocessor_config.json", feature_extractor_type="WhisperFeatureExtractor")
    refuse((folder, wav2vec2), "the preprocessing of a waveform.*WhisperFeatureExtractor")


def test_a_speech_model_published_without_its_mask_is_read(tmp_path):
    folder = write_wav2vec2(tmp_path / "model")
    expected = wav2vec2(folder).values_TD
    change_weights(folder, lambda t: t.pop("masked_spec_embed"))
    np.testing.assert_array_equal(wav2vec2(folder).values_TD, expected)


def test_weight_norm_under_its_old_names_is_read(tmp_path):
    """As facebook/wav2vec2-base-960h and its kin are published."""
    folder = write_wav2vec2(tmp_path / "model")
    expected = wav2vec2(folder).values_TD
    start = "encoder.pos_conv_embed.conv."

    def rename(tensors):
        for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
            tensors[start + old] = tensors.pop(f"{start}parametrizations.weight.{new}")

    change_weights(folder, rename)
    np.testing.assert_array_equal(wav2vec2(folder).values_TD, expected)
