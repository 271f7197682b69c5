"""Face stream of FaceNet (Schroff et al. 2015): who somebody is more than what they feel.

The network is InceptionResnetV1 of facenet-pytorch with its own preprocessing: crops of 160 pixels,
(pixel - 127.5) / 128; the embedding has length 1. Frozen means eval mode: no statistic ever drifts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from erray.encoders.crop_batches import embed_crops, frozen, scaled
from erray.encoders.devices import check_device, pick_device
from erray.encoders.weights import check_tensors, manifest, path_of, read_torch, sha256_of
from erray.errors import UserError
from erray.records import FaceSample, Stream

if TYPE_CHECKING:
    from torch import nn

INPUT_PX, WIDTH = 160, 512


@dataclass(frozen=True)
class FacenetConfig:
    """Weights and where it runs.

    Attributes:
        weights: a name of the manifest, or the path of a file of facenet-pytorch.
        batch_size: crops per forward call; changes no value.
        device: such as ``cpu`` or ``cuda``; None: a GPU where there is one. Changes values within
            rounding.
    """

    weights: str = "facenet-vggface2"
    batch_size: int = 16
    device: str | None = None

    def __post_init__(self) -> None:
        check_device(self.device)
        if self.batch_size < 1:
            raise UserError(f"expected a batch_size of 1 or more, found {self.batch_size}")


class FacenetEncoder:
    """Crops of a clip's main track to one embedding per tick."""

    name = "facenet"
    version = 1
    modality = "face"
    config_type = FacenetConfig
    licence = manifest()["facenet-vggface2"].licence
    source = manifest()["facenet-vggface2"].files[0].source
    width = WIDTH
    num_views = 1

    def __init__(self, config: FacenetConfig | None = None) -> None:
        self.config = config or FacenetConfig()

    @cached_property
    def weights_sha256(self) -> str:
        """Hash of the weights.

        Raises:
            UserError: the file is missing or altered.
        """
        return sha256_of(path_of(self.config.weights))

    def __call__(self, batch: list[FaceSample]) -> list[Stream]:
        return embed_crops(
            batch,
            self._forward,
            width=WIDTH,
            num_views=self.num_views,
            batch_size=self.config.batch_size,
        )

    @cached_property
    def _net(self) -> nn.Module:
        from facenet_pytorch import InceptionResnetV1  # noqa: PLC0415 a plan needs no torch

        path = path_of(self.config.weights)
        tensors = read_torch(path, self.weights_sha256)
        net = InceptionResnetV1()
        # the classifier of the identities it was trained on
        found = {name: x for name, x in tensors.items() if not name.startswith("logits.")}
        check_tensors(path, net.state_dict(), found)
        net.load_state_dict(found)
        return frozen(net, pick_device(self.config.device))

    def _forward(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        import torch  # noqa: PLC0415 a plan needs no torch

        pixels_NCHW = torch.from_numpy(scaled(crops, INPUT_PX))
        x_NCHW = (pixels_NCHW.to(pick_device(self.config.device)).float() - 127.5) / 128.0
        with torch.inference_mode():
            return np.asarray(self._net(x_NCHW)[:, None].cpu().numpy())
