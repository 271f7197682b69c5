"""Text stream of a contextual text model: BERT, RoBERTa, DistilBERT and their kin.

A token's vector is the sum of the last four hidden layers, as in the published code: special tokens
are dropped, word pieces kept. Unlike there, tokens sit where their words are spoken when word times
are known, and a text longer than the model's limit is encoded in parts instead of cut off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from erray.encoders.devices import check_device
from erray.encoders.text_model import TextModel
from erray.encoders.words import place, share_out, spoken_words, spread, text_of, ticks_of_word
from erray.errors import UserError
from erray.records import Stream, TextSample, Word


@dataclass(frozen=True)
class BertConfig:
    """Which model, and which of its layers.

    Attributes:
        model: name in the manifest of weights, folder, or name on the hub (found in its cache).
        layers: hidden layers that are summed, counted from the last.
        device: such as ``cpu`` or ``cuda``; None: a GPU where there is one. Changes values within
            rounding.
    """

    model: str = "bert"
    layers: int = 4
    device: str | None = None

    def __post_init__(self) -> None:
        check_device(self.device)
        if type(self.layers) is not int or self.layers < 1:
            raise UserError(f"expected layers of 1 or more, found {self.layers!r}")


class BertEncoder:
    """Words of a clip to token vectors on its ticks.

    Pieces of a word with times share the word's ticks, and several tokens on one tick are averaged.
    Without times the tokens are spread evenly over the clip; none is lost. Where nothing is said,
    or nothing is known of it, ticks are absent.
    """

    name = "bert"
    version = 1
    modality = "text"
    config_type = BertConfig
    licence = "Apache-2.0 (the default model); that of the model"
    source = "https://huggingface.co/google-bert/bert-base-uncased"

    def __init__(self, config: BertConfig | None = None) -> None:
        self.config = config or BertConfig()
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
        """Values per tick.

        Raises:
            UserError: more layers than the model has.
        """
        self._layers  # noqa: B018 - a number that is wrong must not wait for the first clip
        return self._model.width

    def __call__(self, batch: list[TextSample]) -> list[Stream]:
        if not batch:
            return []
        spoken = [spoken_words(sample) for sample in batch]
        found = self._model([text_of(sample) for sample in batch], layers=self._layers)
        streams = []
        for sample, words, tokens in zip(batch, spoken, found, strict=True):
            times_s_T = sample.frame_times_s_T
            places = spread(len(tokens.values_ND), len(times_s_T))
            if words:
                places = token_places(tokens.last_chars_N, words, times_s_T)
            streams.append(place(tokens.values_ND, places, len(times_s_T)))
        return streams

    @cached_property
    def _layers(self) -> int:
        there = self._model.config.num_hidden_layers
        if self.config.layers > there:
            raise UserError(
                f"bert: expected layers up to the {there} of {self.config.model}, "
                f"found {self.config.layers}"
            )
        return self.config.layers


def token_places(
    last_chars_N: NDArray[np.int64], words: Sequence[Word], times_s_T: NDArray[np.float64]
) -> list[slice]:
    """Return the ticks of the tokens of the joined words, given their last characters."""
    lengths = [len(word.text.strip()) + 1 for word in words]
    first_chars_W = np.cumsum([0, *lengths[:-1]])
    word_N = np.searchsorted(first_chars_W, last_chars_N, side="right") - 1
    places: list[slice] = []
    for i, word in enumerate(words):
        places += share_out(int((word_N == i).sum()), ticks_of_word(word, times_s_T))
    return places
