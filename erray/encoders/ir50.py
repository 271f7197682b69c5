"""Face stream of IR-50 (Deng et al. 2019), trained on MS-Celeb-1M, then FER+; needs its weights.

The crop is scaled to 48 pixels, 40x40 of it go to the network, pixels in [-1, 1]; the embedding has
length 1. Training may see a clip shifted and mirrored: such views are computed here, once, and
stored, so that no training step ever runs the backbone. A view is the same shift for all crops of
all clips. Frozen means eval mode: no statistic ever drifts.

The weights have no public source: a recipe gives the path of ``res50_ir_0.887.pth``, or of a whole
published model that holds the backbone as ``spatial.visual.*``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from erray.encoders.crop_batches import embed_crops, frozen, scaled
from erray.encoders.devices import check_device, pick_device
from erray.encoders.weights import check_tensors, manifest, path_of, read_torch, sha256_of
from erray.errors import UserError
from erray.records import FaceSample, Stream

if TYPE_CHECKING:
    from torch import Tensor, nn

SCALED_PX, INPUT_PX, WIDTH = 48, 40, 512
MAX_VIEWS = 8
PREFIXES = ("spatial.visual.backbone.", "spatial.visual.", "backbone.", "")
"""What stands before the names of the backbone in the published files, the longest first."""


@dataclass(frozen=True)
class Ir50Config:
    """Weights, views and where it runs.

    Attributes:
        weights: path of the checkpoint.
        views: stored views of a clip; the first is the centre that evaluation sees, the others are
            mirrored or shifted, for training.
        batch_size: crops per forward call; changes no value.
        device: such as ``cpu`` or ``cuda``; None: a GPU where there is one. Changes values within
            rounding.
    """

    weights: str | None = None
    views: int = 1
    batch_size: int = 64
    device: str | None = None

    def __post_init__(self) -> None:
        check_device(self.device)
        if not 1 <= self.views <= MAX_VIEWS:
            raise UserError(f"expected views of 1 to {MAX_VIEWS}, found {self.views}")
        if self.batch_size < 1:
            raise UserError(f"expected a batch_size of 1 or more, found {self.batch_size}")


@dataclass(frozen=True)
class View:
    """Which 40x40 pixels of the scaled crop are taken, and whether they are mirrored."""

    flip: bool
    top_px: int
    left_px: int


def views_of(num_views: int) -> list[View]:
    """Return the first views: the centre, the centre mirrored, then shifts, every other mirrored.

    The shifts follow the R2 sequence (Roberts 2018), which spreads any number of points evenly, so
    that more views keep the earlier ones.
    """
    margin_px = SCALED_PX - INPUT_PX
    views = [View(flip, margin_px // 2, margin_px // 2) for flip in (False, True)]
    for i in range(1, num_views - 1):
        top, left = ((0.5 + i / ratio) % 1.0 for ratio in (1.32471795724, 1.75487766625))
        places = margin_px + 1
        views.append(View(i % 2 == 0, int(top * places), int(left * places)))
    return views[:num_views]


class Ir50Encoder:
    """Crops of a clip's main track to one embedding per tick, in one or several views."""

    name = "ir50"
    version = 1
    modality = "face"
    config_type = Ir50Config
    licence = manifest()["ir50"].licence
    source: str | None = None
    width = WIDTH

    def __init__(self, config: Ir50Config | None = None) -> None:
        self.config = config or Ir50Config()
        self._views = views_of(self.config.views)

    @property
    def num_views(self) -> int:
        """Stored views of a clip."""
        return self.config.views

    @cached_property
    def weights_sha256(self) -> str:
        """Hash of the checkpoint.

        Raises:
            UserError: no path was given, or nothing is there.
        """
        return sha256_of(self._path)

    def __call__(self, batch: list[FaceSample]) -> list[Stream]:
        return embed_crops(
            batch,
            self._forward,
            width=WIDTH,
            num_views=self.num_views,
            batch_size=self.config.batch_size,
        )

    @property
    def _path(self) -> Path:
        if self.config.weights is None:
            raise UserError(
                "streams.ir50.weights: expected the path of res50_ir_0.887.pth, which has no "
                "public source; found none"
            )
        return path_of(self.config.weights)

    @cached_property
    def _net(self) -> nn.Module:
        from erray.encoders.ir50_net import Ir50  # noqa: PLC0415 a plan needs no torch

        net = Ir50()
        tensors = read_torch(self._path, self.weights_sha256)
        net.load_state_dict(backbone_of(tensors, self._path, net.state_dict()))
        return frozen(net, pick_device(self.config.device))

    def _forward(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        import torch  # noqa: PLC0415 a plan needs no torch

        pixels_NCHW = torch.from_numpy(scaled(crops, SCALED_PX))
        pixels_NCHW = pixels_NCHW.to(pick_device(self.config.device))
        with torch.inference_mode():
            views = [self._net(cut_view(pixels_NCHW, view)) for view in self._views]
            values_NVD = torch.stack(views, dim=1).cpu().numpy()
        return np.asarray(values_NVD)


def cut_view(pixels_NCHW: Tensor, view: View) -> Tensor:
    """Return the view's 40x40 pixels of scaled uint8 crops, in [-1, 1]."""
    rows = slice(view.top_px, view.top_px + INPUT_PX)
    columns = slice(view.left_px, view.left_px + INPUT_PX)
    x_NCHW = pixels_NCHW[:, :, rows, columns].float() / 127.5 - 1.0
    return x_NCHW.flip(-1) if view.flip else x_NCHW


def backbone_of(
    tensors: Mapping[str, Tensor], path: Path, expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the backbone's tensors under our names, whichever published layout they come in.

    ``logits.*`` and, of a whole model, everything but the backbone are left out.

    Raises:
        UserError: tensors that are missing, unknown or of another shape.
    """
    for prefix in PREFIXES:
        if f"{prefix}input_layer.0.weight" in tensors:
            break
    else:
        raise UserError(
            f"{path}: expected IR-50 with input_layer.0.weight, alone or after one of "
            f"{', '.join(filter(None, PREFIXES))}; found {', '.join(sorted(tensors)[:2])} ..."
        )
    found = {
        name.removeprefix(prefix): x
        for name, x in tensors.items()
        if name.startswith(prefix) and not name.removeprefix(prefix).startswith("logits.")
    }
    check_tensors(path, expected, found)
    return found
