"""The real error paths, and the glue around faster-whisper's own interface.

Its weights are not here, so a model that returns fixed segments stands in for it.
"""

import importlib.util
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from erray.errors import UserError
from erray.media import Waveform
from erray.records import Word
from erray.speech import WhisperConfig, WhisperRecogniser

SOUND = Waveform(np.zeros(16_000, np.float32), 16_000, 2.0, None)


@pytest.fixture
def folder(tmp_path):
    for name in ("model.bin", "config.json", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    return tmp_path


class FixedWhisper:
    """What faster-whisper's WhisperModel gives back, for any sound."""

    def __init__(self, *segments):
        self.segments, self.options = segments, {}

    def transcribe(self, audio, **options):
        assert audio.dtype == np.float32 and audio.ndim == 1
        self.options = options
        segments = [
            SimpleNamespace(words=[SimpleNamespace(word=w, start=s, end=e) for w, s, e in segment])
            for segment in self.segments
        ]
        return iter(segments), SimpleNamespace(language="en")


def recogniser_of(*segments, **options):
    recogniser = WhisperRecogniser(WhisperConfig("any", **options))
    recogniser._model = FixedWhisper(*segments)
    return recogniser


def test_words_are_on_the_mediums_clock():
    recogniser = recogniser_of([(" Well,", 0.1, 0.3), (" yes.", 0.4, 0.6)], [(" ", 0.7, 0.8)])
    heard = recogniser(SOUND)
    assert heard.transcript == "Well, yes." and heard.language == "en"
    assert [word.text for word in heard.words] == ["Well,", "yes."]
    assert heard.words[0].start_s == pytest.approx(2.1)
    assert heard.words[1].end_s == pytest.approx(2.6)


def test_silence_is_an_empty_transcript():
    heard = recogniser_of()(SOUND)
    assert (heard.transcript, heard.words, heard.language) == ("", (), None)


def test_it_listens_for_speech_alone_and_the_same_way_every_time():
    recogniser = recogniser_of([("a", 0, 1)], language="de", beam_size=2)
    recogniser(SOUND)
    options = recogniser._model.options
    assert options["vad_filter"] and options["word_timestamps"] and options["temperature"] == 0.0
    assert options["language"] == "de" and options["beam_size"] == 2


def test_another_rate_is_a_bug():
    with pytest.raises(ValueError, match="16000 Hz, found 8000"):
        recogniser_of()(Waveform(SOUND.samples_N, 8_000, 0.0, None))


def test_a_missing_model_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"found no 'nobody/none': .*hf download nobody/none"):
        WhisperRecogniser(WhisperConfig("nobody/none")).weights_sha256  # noqa: B018
    (tmp_path / "model.bin").write_text("x")
    with pytest.raises(UserError, match=r"found no config\.json"):
        WhisperRecogniser(WhisperConfig(str(tmp_path))).weights_sha256  # noqa: B018


@pytest.mark.skipif(
    importlib.util.find_spec("faster_whisper") is not None, reason="the extra asr is installed"
)
def test_a_missing_extra_is_one_line(folder):
    with pytest.raises(UserError, match=r"install erray\[asr\]") as caught:
        WhisperRecogniser(WhisperConfig(str(folder)))(SOUND)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(
    importlib.util.find_spec("faster_whisper") is None, reason="the extra asr is not installed"
)
def test_files_that_are_no_model_are_one_line(folder):
    with pytest.raises(UserError, match="expected a model of faster-whisper") as caught:
        WhisperRecogniser(WhisperConfig(str(folder), device="cpu"))(SOUND)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("known", "found"), [(["en", "de"], "xx"), (["en"], "de")])
def test_a_language_that_the_model_does_not_know_is_one_line(folder, monkeypatch, known, found):
    def load(*_, **__):
        return SimpleNamespace(supported_languages=known, transcribe=FixedWhisper().transcribe)

    monkeypatch.setitem(sys.modules, "faster_whisper", SimpleNamespace(WhisperModel=load))
    assert WhisperRecogniser(WhisperConfig(str(folder), language="en"))(SOUND).words == ()
    with pytest.raises(UserError, match=rf"transcribe\.language: .*{', '.join(known)}.*'{found}'"):
        WhisperRecogniser(WhisperConfig(str(folder), language=found))(SOUND)


def test_the_hash_follows_the_weights(folder):
    first = WhisperRecogniser(WhisperConfig(str(folder))).weights_sha256
    (folder / "README.md").write_text("not part of it")
    assert WhisperRecogniser(WhisperConfig(str(folder))).weights_sha256 == first
    (folder / "model.bin").write_text("other weights")
    assert WhisperRecogniser(WhisperConfig(str(folder))).weights_sha256 != first


def test_words_compare_by_value():
    assert recogniser_of([("a", 0.0, 1.0)])(SOUND).words == (Word("a", 2.0, 3.0),)
