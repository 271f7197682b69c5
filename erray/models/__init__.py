"""Fusion models: per-frame streams in, per-frame class logits out.

The contract that every model keeps (``tests/unit/models/test_contract.py`` runs it on each):

``model(streams, present, valid_BT) -> logits_BTC``

- ``streams``: stream name to ``x_BTD`` float32. Names, widths and order are fixed at construction;
  any non-empty set in any order, any B, any T. The order of the mapping at call time is free.
- ``present``: stream name to ``mask_BT`` bool: the stream has data at this tick. What is stored at
  an absent tick has no influence.
- ``valid_BT`` bool: the tick is real. Padding comes after a clip's valid ticks, changes no logit
  and no statistic, and has logits 0.
- A clip's logits do not depend on its batch mates (eval) nor, where the class says ``causal``, on
  its own future. A model that must be an exception says ``depends_on_batch_mates``, and is scored
  window by window: JMT and MT with the options for old checkpoints.
- With every stream absent the logits are finite.

A model is made as ``Model(streams, num_classes, config)`` and keeps these three as attributes; they
say all of it but its weights, which include the normaliser of every stream.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from erray.errors import UserError, did_you_mean
from erray.models.can import CAN
from erray.models.concat import Concat
from erray.models.fusion import FusionModel
from erray.models.jmt import JMT
from erray.models.lfan import LFAN
from erray.models.mt import MT
from erray.options import parse_options

MODELS: dict[str, type[FusionModel]] = {
    "lfan": LFAN,
    "can": CAN,
    "jmt": JMT,
    "mt": MT,
    "concat": Concat,
}


def make_model(
    name: str, streams: Mapping[str, int], num_classes: int, options: Mapping[str, Any]
) -> FusionModel:
    """Build the model ``name`` for ``streams`` (name to width, in order) with fresh weights.

    Raises:
        UserError: an unknown model, an unknown or wrong option, no stream, a stream that cannot be.
    """
    if name not in MODELS:
        raise UserError(
            f"no model named {name!r}; expected one of: {', '.join(sorted(MODELS))}"
            f"{did_you_mean(name, MODELS)}"
        )
    if not streams:
        raise UserError(f"model {name} needs at least one stream, found none")
    for stream, width in streams.items():
        # a stream's name becomes part of parameter names, where a dot would be a level
        if not re.fullmatch(r"[A-Za-z0-9_-]+", stream) or width < 1:
            raise UserError(
                f"stream {stream!r} of width {width}: expected a name of letters, digits, _ or -, "
                f"and a width of at least 1"
            )
    if num_classes < 2:
        raise UserError(f"model {name} needs at least 2 classes, found {num_classes}")
    model_class = MODELS[name]
    config = parse_options(model_class.config_class, options, owner=f"model {name}")
    return model_class(streams, num_classes, config)
