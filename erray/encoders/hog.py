"""Face stream of histograms of oriented gradients (Dalal and Triggs 2005); needs no weights.

A crop is scaled to a small gray square and cut in cells; each cell's histogram is contrast
normalised within every 2x2 block of cells that holds it (L2-Hys), and a cell keeps the mean over
its blocks. That is the block descriptor with its fourfold repetition averaged out, as in
Felzenszwalb et al. 2010: 512 instead of 1568 values at the default sizes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from erray.errors import UserError
from erray.records import FaceSample, Stream

EPSILON = 1e-10  # keeps a block without any gradient at 0
CROPS_PER_CHUNK = 256  # bounds the memory to some 30 MB


@dataclass(frozen=True)
class HogConfig:
    """Sizes of the descriptor.

    Attributes:
        size_px: side of the gray square; a multiple of ``cell_px``, at least two cells.
        cell_px: side of a cell.
        orientations: bins over 180 degrees.
    """

    size_px: int = 64
    cell_px: int = 8
    orientations: int = 8

    def __post_init__(self) -> None:
        if self.cell_px < 2 or self.size_px % self.cell_px or self.size_px < 2 * self.cell_px:
            raise UserError(
                "expected size_px to be a multiple of cell_px and at least two cells, "
                f"found size_px {self.size_px} and cell_px {self.cell_px}"
            )
        if self.orientations < 2:
            raise UserError(f"expected orientations of 2 or more, found {self.orientations}")


class HogEncoder:
    """Crops of a clip's main track to one descriptor per tick."""

    name = "hog"
    version = 1
    modality = "face"
    config_type = HogConfig
    licence: str | None = None
    source: str | None = None
    weights_sha256: str | None = None
    num_views = 1

    def __init__(self, config: HogConfig | None = None) -> None:
        self.config = config or HogConfig()
        cells = self.config.size_px // self.config.cell_px
        # a corner cell lies in one block, an edge cell in two, the others in four
        per_axis = np.minimum(np.arange(1, cells + 1), np.arange(cells, 0, -1)).clip(max=2)
        self._blocks_of_cell = np.outer(per_axis, per_axis)[..., None].astype(np.float32)

    @property
    def width(self) -> int:
        """Values per tick."""
        return self._blocks_of_cell.size * self.config.orientations

    def __call__(self, batch: list[FaceSample]) -> list[Stream]:
        return [self._stream(sample) for sample in batch]

    def _stream(self, sample: FaceSample) -> Stream:
        values_TD = np.zeros((sample.num_ticks, self.width), np.float32)
        present_T = np.zeros(sample.num_ticks, np.bool_)
        present_T[sample.ticks_N] = True
        for first in range(0, len(sample.ticks_N), CROPS_PER_CHUNK):
            chunk = slice(first, first + CROPS_PER_CHUNK)
            values_TD[sample.ticks_N[chunk]] = self.describe(sample.crops_NHWC[chunk])
        return Stream(values_TD, present_T)

    def describe(self, crops_NHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the descriptors [N, width] of uint8 RGB crops."""
        side = (self.config.size_px, self.config.size_px)
        grays = [
            Image.fromarray(crop_HWC).convert("L").resize(side, Image.Resampling.BILINEAR)
            for crop_HWC in crops_NHWC
        ]
        # whole numbers, so that gradients on the border of two directions fall alike everywhere
        gray_NHW = np.stack([np.asarray(gray, np.float32) for gray in grays])
        cells_NYXO = self._histograms(gray_NHW)
        sums_NYXO = np.zeros_like(cells_NYXO)
        cells = cells_NYXO.shape[1]
        # the cells at offset (y, x) of all 2x2 blocks at once
        offsets = [np.s_[:, y : cells - 1 + y, x : cells - 1 + x] for y in (0, 1) for x in (0, 1)]
        energy_NYX1 = sum((cells_NYXO[o] ** 2).sum(axis=-1, keepdims=True) for o in offsets)
        clipped = [np.minimum(cells_NYXO[o] / np.sqrt(energy_NYX1 + EPSILON), 0.2) for o in offsets]
        energy_NYX1 = sum((block**2).sum(axis=-1, keepdims=True) for block in clipped)
        for offset, block in zip(offsets, clipped, strict=True):
            sums_NYXO[offset] += block / np.sqrt(energy_NYX1 + EPSILON)
        return (sums_NYXO / self._blocks_of_cell).reshape(len(crops_NHWC), self.width)

    def _histograms(self, gray_NHW: NDArray[np.float32]) -> NDArray[np.float32]:
        """Sum gradient magnitudes per cell and direction; the outermost gradients are 0."""
        down_NHW, right_NHW = np.zeros_like(gray_NHW), np.zeros_like(gray_NHW)
        down_NHW[:, 1:-1] = gray_NHW[:, 2:] - gray_NHW[:, :-2]
        right_NHW[:, :, 1:-1] = gray_NHW[:, :, 2:] - gray_NHW[:, :, :-2]
        num_bins, cell_px = self.config.orientations, self.config.cell_px
        turn_NHW = np.arctan2(down_NHW, right_NHW, dtype=np.float64) / np.pi % 1.0
        bin_NHW = (turn_NHW * num_bins).astype(np.int64) % num_bins
        num_images, size_px = gray_NHW.shape[:2]
        cells = size_px // cell_px
        cell_of = np.arange(size_px) // cell_px
        cell_NHW = (
            np.arange(num_images)[:, None, None] * cells + cell_of[:, None]
        ) * cells + cell_of
        sums = np.bincount(
            (cell_NHW * num_bins + bin_NHW).ravel(),
            weights=np.hypot(down_NHW, right_NHW).ravel(),
            minlength=num_images * cells * cells * num_bins,
        )
        return (
            (sums / (255 * cell_px**2))
            .astype(np.float32)
            .reshape(num_images, cells, cells, num_bins)
        )
