"""Against the mean that Sentence-BERT takes, computed from transformers' own output."""

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from erray.encoders.sentence import SentenceConfig, SentenceEncoder
from erray.records import TextSample, Word
from tests.unit.encoders.text_models import WIDTH, write_bert, write_roberta

TIMES_S = np.arange(10) / 10.0


@pytest.fixture(scope="module", params=[write_bert, write_roberta], ids=["bert", "roberta"])
def folder(request, tmp_path_factory):
    return request.param(tmp_path_factory.mktemp("model"), positions=40)


def encoder_of(folder, **options):
    return SentenceEncoder(SentenceConfig(model=str(folder), device="cpu", **options))


def mean_of(folder, texts):
    """Padded and masked in one batch, special tokens included."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    inputs = tokenizer(texts, return_tensors="pt", padding=True, return_token_type_ids=False)
    with torch.inference_mode():
        hidden_BTD = model.eval()(**inputs).last_hidden_state
    mask_BT1 = inputs["attention_mask"][..., None]
    return ((hidden_BTD * mask_BT1).sum(1) / mask_BT1.sum(1)).numpy()


def test_the_mean_stands_on_every_tick(folder):
    texts = ["yes", "hello no again."]
    streams = encoder_of(folder, normalise=False)([TextSample(TIMES_S, text) for text in texts])
    for stream, mean_D in zip(streams, mean_of(folder, texts), strict=True):
        assert stream.present_T.all()
        np.testing.assert_allclose(stream.values_TD, np.tile(mean_D, (10, 1)), atol=1e-5)


def test_normalised_by_default(folder):
    stream = encoder_of(folder)([TextSample(TIMES_S, "hello no")])[0]
    mean_D = mean_of(folder, ["hello no"])[0]
    np.testing.assert_allclose(stream.values_TD[4], mean_D / np.linalg.norm(mean_D), atol=1e-5)


def test_word_times_say_where(folder):
    words = (Word("hello", 0.1, 0.3), Word(" no", 0.25, 0.4))
    stream = encoder_of(folder, normalise=False)([TextSample(TIMES_S, "ignored", words)])[0]
    assert np.flatnonzero(stream.present_T).tolist() == [1, 2, 3]
    expected = np.tile(mean_of(folder, ["hello no"]), (3, 1))
    np.testing.assert_allclose(stream.values_TD[1:4], expected, atol=1e-5)


@pytest.mark.parametrize("transcript", [None, "", " "])
def test_nothing_said_and_nothing_known_are_absent(folder, transcript):
    stream = encoder_of(folder)([TextSample(TIMES_S, transcript)])[0]
    assert stream.values_TD.shape == (10, WIDTH) and not stream.present_T.any()


def test_a_long_text_counts_every_token_once(folder):
    """What is said last moves the vector, and batch mates do not."""
    encoder, long = encoder_of(folder, normalise=False), "yes " * 60
    plain, changed, short = encoder(
        [TextSample(TIMES_S, text) for text in (long, long + "no", "yes")]
    )
    assert np.abs(plain.values_TD - changed.values_TD).max() > 1e-4
    alone = encoder([TextSample(TIMES_S, long)])[0]
    np.testing.assert_allclose(alone.values_TD, plain.values_TD, atol=1e-5)
    assert plain.present_T.all() and short.present_T.all()
