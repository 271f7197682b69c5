"""Crops of several clips through a frozen network, in batches that are always full.

A forward call takes a fixed number of crops, whichever clips they belong to. Networks in eval mode
treat every crop alone, so that a clip's values do not depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from erray.records import FaceSample, Stream

if TYPE_CHECKING:
    import torch
    from torch import nn


def frozen(net: nn.Module, device: torch.device) -> nn.Module:
    """Return the network in eval mode, without gradients, on ``device``.

    Channels last: on a CPU 1.1 (IR-50) and 1.2 (FaceNet) times the crops.
    """
    import torch  # noqa: PLC0415 a plan needs no torch

    net = net.eval().requires_grad_(False).to(device)
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def scaled(crops_NHWC: Sequence[NDArray[np.uint8]], size_px: int) -> NDArray[np.uint8]:
    """Return uint8 RGB crops as [N, 3, size, size]; bilinear, what lies between is averaged.

    On the CPU, so that every device sees the same whole numbers.
    """
    side = (size_px, size_px)
    images = [
        np.asarray(Image.fromarray(crop_HWC).resize(side, Image.Resampling.BILINEAR))
        for crop_HWC in crops_NHWC
    ]
    return np.stack(images).transpose(0, 3, 1, 2)


def embed_crops(
    batch: Sequence[FaceSample],
    forward: Callable[[Sequence[NDArray[np.uint8]]], NDArray[np.float32]],
    *,
    width: int,
    num_views: int,
    batch_size: int,
) -> list[Stream]:
    """Run ``forward`` on the crops of all samples, ``batch_size`` at a time.

    Args:
        forward: crops to values [N, V, D] of V views.

    Returns:
        A stream per sample; ticks without a crop are absent.
    """
    views_VTD = [np.zeros((num_views, x.num_ticks, width), np.float32) for x in batch]
    places = [(i, tick) for i, sample in enumerate(batch) for tick in sample.ticks_N]
    crops = [crop_HWC for sample in batch for crop_HWC in sample.crops_NHWC]
    for first in range(0, len(crops), batch_size):
        chunk = slice(first, first + batch_size)
        values_NVD = forward(crops[chunk])
        for (i, tick), values_VD in zip(places[chunk], values_NVD, strict=True):
            views_VTD[i][:, tick] = values_VD
    return [_stream(*pair) for pair in zip(batch, views_VTD, strict=True)]


def _stream(sample: FaceSample, views_VTD: NDArray[np.float32]) -> Stream:
    present_T = np.zeros(sample.num_ticks, np.bool_)
    present_T[sample.ticks_N] = True
    return Stream(views_VTD[0], present_T, views_VTD[1:])
