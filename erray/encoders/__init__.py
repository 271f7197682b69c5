"""Encoders: one plain class per file, called on a batch of samples, one stream per sample."""

from __future__ import annotations

from typing import Any

from erray.encoders.bert import BertEncoder
from erray.encoders.facenet import FacenetEncoder
from erray.encoders.hash import HashEncoder
from erray.encoders.hog import HogEncoder
from erray.encoders.ir50 import Ir50Encoder
from erray.encoders.logmel import LogmelEncoder
from erray.encoders.prosody import ProsodyEncoder
from erray.encoders.sentence import SentenceEncoder
from erray.encoders.vggish import VggishEncoder
from erray.encoders.wav2vec2 import Wav2vec2Encoder
from erray.errors import UserError, did_you_mean
from erray.options import parse_options

ENCODERS: dict[str, type] = {
    "bert": BertEncoder,
    "facenet": FacenetEncoder,
    "hash": HashEncoder,
    "hog": HogEncoder,
    "ir50": Ir50Encoder,
    "logmel": LogmelEncoder,
    "prosody": ProsodyEncoder,
    "sentence": SentenceEncoder,
    "vggish": VggishEncoder,
    "wav2vec2": Wav2vec2Encoder,
}


def make_encoder(name: str, options: dict[str, Any]) -> Any:
    """Build the encoder ``name`` with ``options`` for the fields of its config.

    Raises:
        UserError: an unknown encoder or option, a wrong type, or a value that the config refuses.
    """
    if name not in ENCODERS:
        raise UserError(
            f"expected an encoder of {', '.join(ENCODERS)}, found {name!r}"
            f"{did_you_mean(name, ENCODERS)}"
        )
    encoder: Any = ENCODERS[name]
    return encoder(parse_options(encoder.config_type, options, owner=f"encoder {name}"))
