"""Where the networks of encoders run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from erray.errors import UserError

if TYPE_CHECKING:
    import torch


def check_device(device: str | None) -> None:
    """Refuse a name that is no device, before anything is loaded; None is one.

    Raises:
        UserError: anything but ``cpu``, ``cuda`` and ``cuda:N``.
    """
    if device is not None and not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise UserError(f"expected a device of cpu, cuda or cuda:N, found {device!r}")


def pick_device(device: str | None) -> torch.device:
    """Return the device by name; None: a GPU where there is one, else the CPU.

    Raises:
        UserError: a GPU that the machine of this process does not have.
    """
    import torch  # noqa: PLC0415 a plan needs no torch

    picked = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    num_gpus = torch.cuda.device_count()
    if picked.type == "cuda" and (picked.index or 0) >= num_gpus:
        raise UserError(
            f"expected a GPU for device {device}, found {num_gpus} of them: "
            "leave device out, and a GPU is taken where there is one"
        )
    return picked
