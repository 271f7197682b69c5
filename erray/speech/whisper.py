"""Speech recognition with faster-whisper (Whisper, Radford et al. 2022, on CTranslate2).

An extra, since most corpora come with their words. Voice activity detection first takes out what is
no speech, on which Whisper invents text. Decoding is by beam search at temperature 0 and without
the text before as a prompt: the same sound gives the same words, and one error does not spread.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from erray.errors import UserError
from erray.hub import local_model, model_sha256
from erray.media import Waveform
from erray.records import Word

RATE_HZ = 16_000
# without a tokenizer beside the weights faster-whisper would fetch one
NEEDED_FILES = ("model.bin", "config.json", "tokenizer.json")
_HASHED = (*NEEDED_FILES, "preprocessor_config.json", "vocabulary.*")


@dataclass(frozen=True)
class Recognition:
    """What was heard in one sound.

    Attributes:
        transcript: empty where nothing was said.
        words: with times on the medium's clock.
        language: code such as ``en``; None where nothing was said.
    """

    transcript: str
    words: tuple[Word, ...]
    language: str | None


NOTHING_SAID = Recognition("", (), None)


@dataclass(frozen=True)
class WhisperConfig:
    """Which model, and how it listens.

    Attributes:
        model: name on the hub such as ``Systran/faster-whisper-small`` (found in its cache), or a
            folder; in the format of CTranslate2.
        language: code such as ``en``; None: found for every clip.
        beam_size: texts that are followed side by side.
        device: ``cpu`` or ``cuda``; None: a GPU where there is one.
    """

    model: str
    language: str | None = None
    beam_size: int = 5
    device: str | None = None


class WhisperRecogniser:
    """A waveform to a :class:`Recognition`; the model is loaded with the first."""

    version = 1

    def __init__(self, config: WhisperConfig) -> None:
        self.config = config

    @cached_property
    def weights_sha256(self) -> str:
        """Hash of weights, configuration and tokenizer.

        Raises:
            UserError: the model is not on this machine.
        """
        return model_sha256(self._folder, _HASHED)

    def __call__(self, wave: Waveform) -> Recognition:
        """Recognise a mono waveform at 16 kHz.

        Raises:
            UserError: the extra is not installed, or the model is not on this machine.
        """
        if wave.rate_hz != RATE_HZ:
            raise ValueError(f"expected a waveform at {RATE_HZ} Hz, found {wave.rate_hz} Hz")
        segments, facts = self._model.transcribe(
            wave.samples_N,
            language=self.config.language,
            beam_size=self.config.beam_size,
            temperature=0.0,
            condition_on_previous_text=False,
            vad_filter=True,
            word_timestamps=True,
        )
        words = tuple(
            Word(word.word.strip(), wave.start_s + word.start, wave.start_s + word.end)
            for segment in segments
            for word in segment.words or ()
            if word.word.strip()
        )
        if not words:
            return NOTHING_SAID
        return Recognition(" ".join(word.text for word in words), words, facts.language)

    @cached_property
    def _folder(self) -> Path:
        advice = (
            f"download it with `hf download {self.config.model}`, or give the path of a folder "
            f"as transcribe.model"
        )
        return local_model(self.config.model, needs=NEEDED_FILES, advice=advice)

    @cached_property
    def _model(self) -> Any:
        folder = self._folder
        try:
            from faster_whisper import WhisperModel  # noqa: PLC0415 - an extra
        except ModuleNotFoundError:
            raise _no_package() from None
        try:
            model = WhisperModel(
                str(folder), device=self.config.device or "auto", local_files_only=True
            )
        except (RuntimeError, ValueError) as error:
            detail = " ".join(str(error).split())[:300]
            raise UserError(
                f"transcribe: expected a model of faster-whisper in {folder}, found: {detail}"
            ) from None
        language, known = self.config.language, model.supported_languages
        if language is not None and language not in known:
            # an English model would go on in English
            raise UserError(
                f"transcribe.language: expected a code that {self.config.model} knows "
                f"({', '.join(known)}), found {language!r}"
            )
        return model


def require_package() -> None:
    """See that the extra is installed.

    Raises:
        UserError: it is not.
    """
    if find_spec("faster_whisper") is None:
        raise _no_package()


def _no_package() -> UserError:
    return UserError(
        "speech recognition needs a package that is not installed (faster-whisper): "
        "install erray[asr]"
    )
