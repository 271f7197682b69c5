"""The search of MTCNN (Zhang et al. 2016): three nets, each looks closer at what the last let pass.

    image -> pyramid -> P-Net: squares everywhere -> R-Net: fewer, better -> O-Net: score of a face

The nets and their weights are facenet-pytorch's; the search around them is ours: its resampling of
whole floating point images took more than half of the time. Thresholds and overlaps are the
published ones but for one. A test compares with facenet-pytorch's own search.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate
from torchvision.ops import batched_nms

from erray.faces.boxes import moved, square_up
from erray.faces.nets import Net, run_net
from erray.faces.refine import ONET_SIDE_PX, refine
from erray.faces.squares import cut_squares

PROPOSAL_THRESHOLDS = (0.6, 0.7)  # of the first two nets, as published
PYRAMID_FACTOR = 0.709  # area halves from level to level
PNET_SIDE_PX, PNET_STEP_PX = 12, 2
RNET_SIDE_PX = 24
SAME_LEVEL_IOU, SAME_IMAGE_IOU = 0.5, 0.7
# Of what R-Net lets pass; published is 0.7, which shows the costly last net twice as many squares,
# for the same faces: their places do not depend on it, see refine.py.
SAME_FACE_IOU = 0.5


@dataclass(frozen=True)
class Candidates:
    """K boxes in pixels (edges, not clipped to the frame), their frames and scores."""

    boxes_K4: NDArray[np.float64]
    image_of_K: NDArray[np.int64]
    scores_K: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.scores_K)


@dataclass(frozen=True)
class Cascade:
    """The three nets, in evaluation mode on ``device``, and what is asked of them."""

    pnet: Net
    rnet: Net
    onet: Net
    device: torch.device

    def search(
        self, images: Sequence[NDArray[np.uint8]], *, min_face_px: int, confidence: float
    ) -> Candidates:
        """Return the faces of all images; several boxes may lie on one face.

        Args:
            images: uint8 RGB frames, all of one size.
            min_face_px: side of the smallest face in pixels of these images.
            confidence: least score of the last net.
        """
        found = self._proposals(images, max(min_face_px, PNET_SIDE_PX))
        found = self._examine(self.rnet, RNET_SIDE_PX, PROPOSAL_THRESHOLDS[1], images, found)
        return self._examine(self.onet, ONET_SIDE_PX, confidence, images, found)

    def measure(
        self,
        images: Sequence[NDArray[np.uint8]],
        image_of_K: NDArray[np.integer],
        boxes_K4: NDArray[np.floating],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return boxes, landmarks and scores near given boxes, see :func:`refine`."""
        return refine(self.onet, self.device, images, image_of_K, boxes_K4)

    def _examine(
        self,
        net: Net,
        side_px: int,
        threshold: float,
        images: Sequence[NDArray[np.uint8]],
        found: Candidates,
    ) -> Candidates:
        """Score and correct the candidates by a net; keep those above its threshold."""
        if not len(found):
            return found
        squares_K4 = square_up(found.boxes_K4)
        patches = cut_squares(images, found.image_of_K, squares_K4[:, None], side_px)[:, 0]
        shift_K4, *_, faces_K2 = run_net(net, patches, self.device)
        scores_K = faces_K2[:, 1].astype(np.float64)
        keep = np.flatnonzero(scores_K > threshold)
        # overlap of the squares that were looked at: of those corrected to one place, all stay
        keep = keep[_best(squares_K4[keep], scores_K[keep], found.image_of_K[keep], SAME_FACE_IOU)]
        boxes_K4 = moved(squares_K4[keep], shift_K4[keep])
        return Candidates(boxes_K4, found.image_of_K[keep], scores_K[keep])

    def _proposals(self, images: Sequence[NDArray[np.uint8]], min_face_px: int) -> Candidates:
        levels = [self._look(level, images[0].shape[:2]) for level in _pyramid(images, min_face_px)]
        if not levels:
            return Candidates(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0))
        boxes_K4, shift_K4, image_of_K, scores_K = (
            np.concatenate(parts) for parts in zip(*levels, strict=True)
        )
        keep = _best(boxes_K4, scores_K, image_of_K, SAME_IMAGE_IOU)
        boxes_K4 = moved(boxes_K4[keep], shift_K4[keep])
        return Candidates(boxes_K4, image_of_K[keep], scores_K[keep])

    def _look(
        self, level_N3HW: torch.Tensor, size_px: tuple[int, ...]
    ) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        """P-Net over one level: boxes, their shifts, images and scores."""
        shift_N4HW, faces_N2HW = run_net(self.pnet, level_N3HW, self.device)
        scores_NHW = faces_N2HW[:, 1]
        image_of_K, row_K, column_K = np.nonzero(scores_NHW > PROPOSAL_THRESHOLDS[0])
        corner_K2 = PNET_STEP_PX * np.stack([column_K, row_K], axis=1).astype(np.float64)
        to_image_2 = np.array(size_px[::-1]) / level_N3HW.shape[:1:-1]
        # the corners as in the nets' training: of the first pixel's far edge, counted from 1
        boxes_K4 = np.hstack(
            [(corner_K2 + 1) * to_image_2 - 1, (corner_K2 + PNET_SIDE_PX) * to_image_2]
        )
        shift_K4 = shift_N4HW[image_of_K, :, row_K, column_K]
        scores_K = scores_NHW[image_of_K, row_K, column_K].astype(np.float64)
        keep = _best(boxes_K4, scores_K, image_of_K, SAME_LEVEL_IOU)
        return boxes_K4[keep], shift_K4[keep], image_of_K[keep], scores_K[keep]


def _pyramid(images: Sequence[NDArray[np.uint8]], min_face_px: int) -> list[torch.Tensor]:
    """Tensors uint8 [N, 3, h, w]: a face of ``min_face_px`` is as large as P-Net in the first.

    Each level is made from the one before; as integers, which is many times faster on a CPU.
    """
    height_px, width_px = images[0].shape[:2]
    scale = PNET_SIDE_PX / min_face_px
    levels: list[torch.Tensor] = []
    while min(height_px, width_px) * scale >= PNET_SIDE_PX:
        size = (int(height_px * scale) + 1, int(width_px * scale) + 1)
        if levels:
            levels.append(_resized(levels[-1], size))
        else:
            levels.append(torch.cat([_resized(_as_tensor(image), size) for image in images]))
        scale *= PYRAMID_FACTOR
    return levels


def _as_tensor(image_HWC: NDArray[np.uint8]) -> torch.Tensor:
    # torch warns of arrays that it could, but here will not, write to
    image_HWC = image_HWC if image_HWC.flags.writeable else image_HWC.copy()
    return torch.from_numpy(image_HWC).permute(2, 0, 1)[None]


def _resized(images_N3HW: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return interpolate(images_N3HW, size=size, mode="bilinear", antialias=True)


def _best(
    boxes_K4: NDArray[np.float64],
    scores_K: NDArray[np.float64],
    image_of_K: NDArray[np.int64],
    max_iou: float,
) -> NDArray[np.int64]:
    keep = batched_nms(
        torch.from_numpy(boxes_K4),
        torch.from_numpy(scores_K),
        torch.from_numpy(image_of_K),
        max_iou,
    )
    return np.asarray(keep.numpy())
