"""A frozen text model of transformers: texts to one vector per token.

What is longer than the model's limit goes in parts that overlap by half, and a token's vector comes
from the part in whose middle it lies most, so that no token is lost and none lacks its context.
Parts of all texts fill batches together, sorted by length; padding is masked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from erray.encoders.devices import pick_device
from erray.encoders.pretrained import read_model, read_part, refusal
from erray.encoders.weights import manifest, resolve
from erray.hub import local_model, model_sha256

TOKENS_PER_BATCH = 4096  # padding included; of a BERT base, hidden layers of some 160 MB
NEEDED_FILES = ("*.safetensors", "config.json")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
)
_NO_LIMIT = 10**9  # transformers writes 1e30 for a tokenizer without a limit
_LONGEST = 512  # of a model that states no limit


@dataclass(frozen=True)
class TokenVectors:
    """The tokens of one text.

    Attributes:
        values_ND: a vector for each of N tokens, special ones left out.
        specials_SD: vectors of the special tokens of every part.
        last_chars_N: index of each token's last character in the text.
    """

    values_ND: NDArray[np.float32]
    specials_SD: NDArray[np.float32]
    last_chars_N: NDArray[np.int64]


class TextModel:
    """A model by its name in the manifest of weights, by folder or by its name on the hub.

    Args:
        name: see above; nothing is fetched.
        encoder: name of the encoder, for messages.
        device: None: a GPU where there is one.
    """

    def __init__(self, name: str, *, encoder: str, device: str | None = None) -> None:
        self.name, self.device = name, device
        self._refuse = refusal(encoder, name)

    @cached_property
    def folder(self) -> Path:
        """Where the model lies.

        Raises:
            UserError: it is not on this machine.
        """
        if self.name in manifest():
            return resolve(self.name)
        advice = f"download it with `hf download {self.name}`, or give the path of a folder"
        return local_model(self.name, needs=NEEDED_FILES, advice=advice)

    @cached_property
    def sha256(self) -> str:
        """Hash of weights, configuration and tokenizer."""
        return model_sha256(self.folder, (*NEEDED_FILES, *TOKENIZER_FILES))

    @cached_property
    def config(self) -> Any:
        """The model's own configuration.

        Raises:
            UserError: a model of another kind, or one that wants to run its own code.
        """
        from transformers import AutoConfig  # noqa: PLC0415 - seconds, and not every plan needs it

        config = read_part(
            AutoConfig, self.folder, expected="a model that transformers knows", refuse=self._refuse
        )
        if config.is_encoder_decoder:
            raise self._refuse("a model that reads text (bert, roberta ...)", config.model_type)
        return config.get_text_config()

    @property
    def width(self) -> int:
        """Values of a vector."""
        return int(self.config.hidden_size)

    def __call__(self, texts: Sequence[str], *, layers: int) -> list[TokenVectors]:
        """Return the sum of the last ``layers`` hidden layers at every token of every text."""
        encoded = [self._encode(text) for text in texts]
        parts = [
            (i, start) for i, (ids, _) in enumerate(encoded) for start in self._starts(len(ids))
        ]
        stop = self._capacity
        inputs = [self._with_specials(encoded[i][0][start : start + stop]) for i, start in parts]
        hidden: list[Any] = [None] * len(parts)
        for together in _batches([len(ids) for ids in inputs]):
            values_BTD = self._forward([inputs[k] for k in together], layers)
            for k, values_TD in zip(together, values_BTD, strict=True):
                hidden[k] = values_TD[: len(inputs[k])]
        return [
            self._join(
                last_chars_N, [(s, hidden[k]) for k, (text, s) in enumerate(parts) if text == i]
            )
            for i, (_, last_chars_N) in enumerate(encoded)
        ]

    def _encode(self, text: str) -> tuple[list[int], NDArray[np.int64]]:
        found = self._tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        spans = np.array(found["offset_mapping"], np.int64).reshape(-1, 2)
        return found["input_ids"], np.maximum(spans[:, 0], spans[:, 1] - 1)

    def _starts(self, num_tokens: int) -> range | list[int]:
        """First token of every part: half a part apart, the last one ends with the text."""
        last = num_tokens - self._capacity
        if num_tokens == 0:
            return []
        return [0] if last <= 0 else [*range(0, last, max(1, self._capacity // 2)), last]

    def _with_specials(self, ids: list[int]) -> list[int]:
        before, after = self._specials
        return [*before, *ids, *after]

    def _join(
        self, last_chars_N: NDArray[np.int64], parts: list[tuple[int, NDArray[np.float32]]]
    ) -> TokenVectors:
        num_tokens, num_before = len(last_chars_N), len(self._specials[0])
        values_ND = np.zeros((num_tokens, self.width), np.float32)
        specials = [np.zeros((0, self.width), np.float32)]
        middles = np.array([start + self._capacity / 2 for start, _ in parts])
        for p, (start, hidden_TD) in enumerate(parts):
            tokens = np.arange(start, min(start + self._capacity, num_tokens))
            nearest = np.abs(tokens[:, None] + 0.5 - middles).argmin(axis=1) == p
            inner_TD = hidden_TD[num_before : num_before + len(tokens)]
            values_ND[tokens[nearest]] = inner_TD[nearest]
            specials += [hidden_TD[:num_before], hidden_TD[num_before + len(tokens) :]]
        return TokenVectors(values_ND, np.concatenate(specials), last_chars_N)

    def _forward(self, inputs: list[list[int]], layers: int) -> NDArray[np.float32]:
        import torch  # noqa: PLC0415

        longest, pad = max(map(len, inputs)), self._tokenizer.pad_token_id or 0
        ids_BT = torch.tensor([[*ids, *[pad] * (longest - len(ids))] for ids in inputs])
        lengths_B1 = torch.tensor([len(ids) for ids in inputs])[:, None]
        mask_BT = (torch.arange(longest) < lengths_B1).long()
        device = self._model.device
        with torch.inference_mode():
            hidden = self._model(
                input_ids=ids_BT.to(device),
                attention_mask=mask_BT.to(device),
                output_hidden_states=True,
            ).hidden_states
            total_BTD = torch.stack(hidden[-layers:]).sum(dim=0)
        return np.asarray(total_BTD.float().cpu().numpy())

    @cached_property
    def _capacity(self) -> int:
        """Tokens of one part, special ones not counted."""
        positions = getattr(self.config, "max_position_embeddings", None) or _LONGEST
        for name, module in self._model.named_modules():
            # RoBERTa and its kin count positions from behind the padding's
            if name.endswith("position_embeddings") and getattr(module, "padding_idx", None):
                positions -= module.padding_idx + 1
        limit = self._tokenizer.model_max_length
        positions = min(positions, limit) if limit < _NO_LIMIT else positions
        return int(positions) - sum(map(len, self._specials))

    @cached_property
    def _specials(self) -> tuple[list[int], list[int]]:
        """Special tokens before and after a text."""
        found = self._tokenizer("a", return_special_tokens_mask=True)
        ids, special = found["input_ids"], found["special_tokens_mask"]
        first = special.index(0)
        last = len(special) - special[::-1].index(0)
        return ids[:first], ids[last:]

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer  # noqa: PLC0415

        tokenizer = read_part(
            AutoTokenizer, self.folder, expected="a tokenizer beside the model", refuse=self._refuse
        )
        if not tokenizer.is_fast:
            raise self._refuse("a fast tokenizer (tokenizer.json)", type(tokenizer).__name__)
        return tokenizer

    @cached_property
    def _model(self) -> Any:
        self.config  # noqa: B018 - refuses a model of another kind before its weights are read
        return read_model(
            self.folder,
            unused=["pooler."],  # stands behind the hidden layers; many files come without it
            device=pick_device(self.device),
            refuse=self._refuse,
        )


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield the indices of inputs, sorted by length, that fill a forward call together."""
    together: list[int] = []
    for k in sorted(range(len(lengths)), key=lengths.__getitem__):
        if together and lengths[k] * (len(together) + 1) > TOKENS_PER_BATCH:
            yield together
            together = []
        together.append(k)
    if together:
        yield together
