"""Text stream of one vector per utterance: the mean over the tokens of a sentence model.

Sentence-BERT (Reimers and Gurevych 2019): the mean over the last hidden layer, special tokens
included and padding masked. A text longer than the model's limit is not cut off: the mean runs over
the tokens of all its parts, each token once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from erray.encoders.devices import check_device
from erray.encoders.text_model import TextModel, TokenVectors
from erray.encoders.words import place, spoken_words, text_of, ticks_of_word
from erray.records import Stream, TextSample


@dataclass(frozen=True)
class SentenceConfig:
    """Which model, and the length of its vectors.

    Attributes:
        model: name in the manifest of weights, folder, or name on the hub (found in its cache).
        normalise: scale the vector to length 1, as most sentence models are trained to be compared.
        device: such as ``cpu`` or ``cuda``; None: a GPU where there is one. Changes values within
            rounding.
    """

    model: str = "sentence-transformers/all-MiniLM-L6-v2"
    normalise: bool = True
    device: str | None = None

    def __post_init__(self) -> None:
        check_device(self.device)


class SentenceEncoder:
    """Words of a clip to one vector, the same on all ticks at which a word is spoken.

    Without word times it stands on every tick. Where nothing is said, or nothing is known of it,
    ticks are absent.
    """

    name = "sentence"
    version = 1
    modality = "text"
    config_type = SentenceConfig
    licence = "Apache-2.0 (the default model); that of the model"
    source = "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2"

    def __init__(self, config: SentenceConfig | None = None) -> None:
        self.config = config or SentenceConfig()
        self._model = TextModel(self.config.model, encoder=self.name, device=self.config.device)

    @property
    def weights_sha256(self) -> str:
        """Hash of weights, configuration and tokenizer.

        Raises:
            UserError: the model is not on this machine.
        """
        return self._model.sha256

    @property
    def width(self) -> int:
        """Values per tick."""
        return self._model.width

    def __call__(self, batch: list[TextSample]) -> list[Stream]:
        if not batch:
            return []
        spoken = [spoken_words(sample) for sample in batch]
        found = self._model([text_of(sample) for sample in batch], layers=1)
        streams = []
        for sample, words, tokens in zip(batch, spoken, found, strict=True):
            times_s_T = sample.frame_times_s_T
            places = [ticks_of_word(word, times_s_T) for word in words]
            if not words and len(tokens.values_ND):
                places = [slice(0, len(times_s_T))]
            vectors_ND = np.tile(self._mean(tokens), (len(places), 1))
            streams.append(place(vectors_ND, places, len(times_s_T)))
        return streams

    def _mean(self, tokens: TokenVectors) -> np.ndarray:
        if not len(tokens.values_ND):
            return np.zeros(self.width, np.float32)
        mean_D = np.concatenate([tokens.values_ND, tokens.specials_SD]).mean(axis=0)
        return mean_D / np.linalg.norm(mean_D) if self.config.normalise else mean_D
