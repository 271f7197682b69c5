"""Reading a model of transformers from a folder of this machine, with care.

Nothing here opens a connection, unpickles, or runs code that lies in the folder: weights are
safetensors, and classes are those of transformers itself. A file that does not hold all of the
model is refused, because transformers would fill the rest with random numbers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from erray.errors import UserError

if TYPE_CHECKING:
    import torch

Refuse = Callable[[str, object], UserError]
"""What was expected and what was found to a line that names the encoder and its model."""

# what transformers raises on a JSON that is none, or that describes nothing it knows
_UNREADABLE = (ValueError, OSError, KeyError, TypeError, AttributeError)


def refusal(encoder: str, model: str) -> Refuse:
    """Return the maker of the lines that refuse ``model`` to ``encoder``."""

    def refuse(expected: str, found: object) -> UserError:
        detail = " ".join(str(found).split())[:300]
        return UserError(f"{encoder}: expected {expected} at {model}, found: {detail}")

    return refuse


def read_part(auto: Any, folder: Path, *, expected: str, refuse: Refuse) -> Any:
    """Return what ``auto`` (AutoConfig, AutoTokenizer ...) makes of the files in ``folder``.

    Raises:
        UserError: files that cannot be read, or a model that wants to run its own code.
    """
    try:
        # neither True nor None, which asks the person at the terminal
        return auto.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except _UNREADABLE as error:
        raise refuse(expected, error) from None


def read_model(folder: Path, *, unused: Sequence[str], device: torch.device, refuse: Refuse) -> Any:
    """Return the model in eval mode, without gradients, in float32 on ``device``.

    Args:
        unused: beginnings of the names of weights that no feature depends on and that may be
            missing.

    Raises:
        UserError: weights that are cut, of other shapes, or not all of the model's.
    """
    import torch  # noqa: PLC0415 a plan needs no torch
    from safetensors import SafetensorError  # noqa: PLC0415
    from transformers import AutoModel  # noqa: PLC0415
    from transformers.utils import logging  # noqa: PLC0415

    # its report of unused and missing weights is long, and what matters of it is checked below
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        model, report = AutoModel.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # or its line would point to the report, which is off
        )
    except (SafetensorError, RuntimeError, OSError, json.JSONDecodeError) as error:
        raise refuse("weights that fit config.json", error) from None
    for name, found, expected in sorted(report["mismatched_keys"]):
        raise refuse(f"weights that fit config.json, {name} {[*expected]}", [*found])
    missing = sorted(k for k in report["missing_keys"] if not k.startswith(tuple(unused)))
    if missing:
        raise refuse("all weights of the model", f"no {missing[0]}")
    return model.requires_grad_(False).to(device).eval()
