"""Tiny random models against transformers' own calls, one sentence at a time."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer

from erray.encoders import text_model
from erray.encoders.bert import BertConfig, BertEncoder
from erray.encoders.words import spread
from erray.errors import UserError
from erray.records import TextSample, Word
from tests.unit.encoders.text_models import WIDTH, write_bert, write_distilbert, write_roberta

TIMES_S = np.arange(10) / 10.0
WRITERS = {"bert": write_bert, "distilbert": write_distilbert, "roberta": write_roberta}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {name: write(root / name) for name, write in WRITERS.items()}


def encoder_of(folder, **options):
    return BertEncoder(BertConfig(model=str(folder), device="cpu", **options))


def published(folder, text):
    """Sum of the last four layers at the tokens of one sentence, as the published code has it."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    with torch.inference_mode():
        inputs = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
        hidden = model.eval()(**inputs, output_hidden_states=True).hidden_states
    return sum(hidden[-4:])[0, 1:-1].numpy()


@pytest.mark.parametrize("name", WRITERS)
def test_tokens_without_times_are_the_published_ones_in_blocks(folders, name):
    encoder, text = encoder_of(folders[name]), "hello yes no"
    tokens_ND = published(folders[name], text)
    times_s = np.arange(40) / 40
    sizes = [p.stop - p.start for p in spread(len(tokens_ND), 40)]
    expected = np.repeat(tokens_ND, sizes, axis=0)
    stream = encoder([TextSample(times_s, text)])[0]
    assert encoder.width == WIDTH and stream.present_T.all()
    np.testing.assert_allclose(stream.values_TD, expected, atol=1e-5)


def test_tokens_sit_where_their_words_are_spoken(folders):
    words = (Word(" hello", 0.1, 0.4), Word("no.", 0.6, 0.7), Word("yes", 0.85, 0.89))
    stream = encoder_of(folders["bert"])([TextSample(TIMES_S, "another text", words)])[0]
    he, llo, no, dot, yes = published(folders["bert"], "hello no. yes")
    assert np.flatnonzero(stream.present_T).tolist() == [1, 2, 3, 6, 8]
    # the pieces of "no." share the one tick of the word
    expected = [he, he, llo, (no + dot) / 2, yes]
    np.testing.assert_allclose(stream.values_TD[stream.present_T], expected, atol=1e-5)
    assert not stream.values_TD[~stream.present_T].any()


@pytest.mark.parametrize("name", WRITERS)
def test_pieces_of_every_tokenizer_find_their_word(folders, name):
    words = (Word("yes", 0.0, 0.3), Word("no", 0.5, 0.7))
    times_s = np.arange(100) / 100
    stream = encoder_of(folders[name])([TextSample(times_s, None, words)])[0]
    present = np.flatnonzero(stream.present_T)
    assert present.tolist() == [*range(30), *range(50, 70)]
    tokens_ND = published(folders[name], "yes no")
    np.testing.assert_allclose(stream.values_TD[0], tokens_ND[0], atol=1e-5)
    np.testing.assert_allclose(stream.values_TD[69], tokens_ND[-1], atol=1e-5)


def test_more_tokens_than_ticks_are_averaged(folders):
    text = "hello no yes again"
    tokens_ND = published(folders["bert"], text)
    times_s = np.arange(2) / 2
    stream = encoder_of(folders["bert"])([TextSample(times_s, text)])[0]
    half = -(-len(tokens_ND) // 2)
    expected = [tokens_ND[:half].mean(axis=0), tokens_ND[half:].mean(axis=0)]
    np.testing.assert_allclose(stream.values_TD, expected, atol=1e-5)


@pytest.mark.parametrize("transcript", [None, "", "  \n"])
def test_nothing_said_and_nothing_known_are_absent(folders, transcript):
    stream = encoder_of(folders["bert"])([TextSample(TIMES_S, transcript)])[0]
    assert stream.values_TD.shape == (10, WIDTH) and not stream.present_T.any()


def test_one_tick_and_no_tick(folders):
    one, none = encoder_of(folders["bert"])(
        [TextSample(np.zeros(1), "yes no"), TextSample(np.zeros(0), "yes no")]
    )
    mean_D = published(folders["bert"], "yes no").mean(axis=0)
    np.testing.assert_allclose(one.values_TD, mean_D[None], atol=1e-5)
    assert none.values_TD.shape == (0, WIDTH)


@pytest.mark.parametrize("name", WRITERS)
def test_batch_mates_change_nothing(folders, name, monkeypatch):
    texts = ["yes", "hello no yes again.", "", "no no no no hello", "again " * 40]
    times_s = np.arange(400) / 10
    samples = [TextSample(times_s, text) for text in texts]
    encoder = encoder_of(folders[name])
    together = encoder(samples)
    monkeypatch.setattr(text_model, "TOKENS_PER_BATCH", 1)
    for sample, stream in zip(samples, together, strict=True):
        alone = encoder([sample])[0]
        assert np.array_equal(alone.present_T, stream.present_T)
        np.testing.assert_allclose(alone.values_TD, stream.values_TD, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_longer_than_the_model_goes_in_parts_and_nothing_is_lost(tmp_path, name):
    positions = {"bert": 12, "roberta": 14}[name]  # RoBERTa keeps two for its padding
    folder = WRITERS[name](tmp_path / name, positions=positions)
    # a token per word, or per byte: 10 fit beside the two special ones
    text = "yes no again hello " * 7 if name == "bert" else "abcdefghij klmno pqrst uvwxyz"
    encoder = encoder_of(folder)
    ids = AutoTokenizer.from_pretrained(folder)(text, add_special_tokens=False)["input_ids"]
    stream = encoder([TextSample(np.arange(len(ids)) / 10, text)])[0]
    assert stream.present_T.all()
    model = AutoModel.from_pretrained(folder).eval()
    before, after = {"bert": (2, 3), "roberta": (0, 2)}[name]
    for start, kept in ((0, slice(0, 7)), (5, slice(8, 12)), (len(ids) - 10, slice(-2, None))):
        inputs = torch.tensor([[before, *ids[start : start + 10], after]])
        with torch.inference_mode():
            hidden = model(input_ids=inputs, output_hidden_states=True).hidden_states
        part = np.full((len(ids), WIDTH), np.nan)
        part[start : start + 10] = sum(hidden[-4:])[0, 1:-1]
        np.testing.assert_allclose(stream.values_TD[kept], part[kept], atol=1e-5)


def test_the_hash_follows_content_not_place(folders, tmp_path):
    here = encoder_of(folders["bert"])
    moved = shutil.copytree(folders["bert"], tmp_path / "moved")
    assert encoder_of(moved).weights_sha256 == here.weights_sha256
    config = json.loads((moved / "config.json").read_text())
    (moved / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 1e-3}))
    assert encoder_of(moved).weights_sha256 != here.weights_sha256


def test_missing_models_are_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("ERRAY_WEIGHTS", str(tmp_path))
    with pytest.raises(UserError, match=r"erray weights fetch bert") as caught:
        BertEncoder().weights_sha256  # noqa: B018
    assert "\n" not in str(caught.value)
    for name in ("nobody/no-such-model", "no/such/folder/here"):
        with pytest.raises(UserError, match=f"found no '{name}'.*hf download"):
            encoder_of(name).width  # noqa: B018


def test_pickled_weights_are_not_read(folders, tmp_path):
    folder = shutil.copytree(folders["bert"], tmp_path / "pickled")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"found no \*\.safetensors"):
        encoder_of(folder)([TextSample(TIMES_S, "yes")])


def broken(folder, change):
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("encoder.layer.1.output.dense.bias"), "all weights of the model"),
        (
            lambda t: t.update({"embeddings.word_embeddings.weight": torch.zeros(3, WIDTH)}),
            "weights that fit config.json",
        ),
    ],
    ids=["missing", "shape"],
)
def test_weights_that_do_not_fit_are_refused(folders, tmp_path, change, message):
    folder = shutil.copytree(folders["bert"], tmp_path / "broken")
    broken(folder, change)
    with pytest.raises(UserError, match=message) as caught:
        encoder_of(folder)([TextSample(TIMES_S, "yes")])
    assert "\n" not in str(caught.value)


def test_a_cut_file_is_refused(folders, tmp_path):
    folder = shutil.copytree(folders["bert"], tmp_path / "cut")
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"weights that fit config\.json"):
        encoder_of(folder)([TextSample(TIMES_S, "yes")])


def test_models_of_another_kind_are_refused(folders, tmp_path):
    folder = shutil.copytree(folders["bert"], tmp_path / "t5")
    (folder / "config.json").write_text(json.dumps({"model_type": "t5"}))
    with pytest.raises(UserError, match="reads text"):
        encoder_of(folder).width  # noqa: B018
    (folder / "config.json").write_text(json.dumps({"model_type": "never heard of"}))
    with pytest.raises(UserError, match="that transformers knows"):
        encoder_of(folder).width  # noqa: B018


def test_layers_beyond_the_model_are_refused(folders):
    with pytest.raises(UserError, match="layers up to the 5"):
        encoder_of(folders["bert"], layers=6)([TextSample(TIMES_S, "yes")])
    with pytest.raises(UserError, match="layers of 1 or more"):
        BertConfig(layers=0)
