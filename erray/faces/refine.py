"""Where exactly a face is: the last net of MTCNN, asked several times around one box.

The net's box and landmarks depend on how the square it is shown lies on the face: on one resting
face they differ from frame to frame by two to three per cent of the distance of the eyes. So it is
shown squares slightly shifted, larger and smaller: two, and around the mean of its answers five
more. Their mean hardly depends on the box it began with, which may be a detection or a guess from
the frames around: both are measured alike. On three clips of resting
faces the second difference of landmarks in time falls from 1.8, 1.3 and 1.0 per cent of the
distance of the eyes to 0.5, 0.3 and 0.3.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from erray.faces.boxes import moved, square_up
from erray.faces.nets import Net, run_net
from erray.faces.squares import cut_squares

ONET_SIDE_PX = 48

# The squares of each round: shift to the right, down, and size, as shares of the face's square.
# Five in both rounds cost a quarter more in all and agree hardly better, one and five less well.
ROUNDS = (
    np.array([[0.05, 0.03, 1.03], [-0.05, -0.03, 0.97]]),
    np.array(
        [
            [0.0, 0.0, 1.0],
            [0.05, 0.0, 1.05],
            [-0.05, 0.0, 1.05],
            [0.0, 0.05, 0.95],
            [0.0, -0.05, 0.95],
        ]
    ),
)


def refine(
    onet: Net,
    device: torch.device,
    images: Sequence[NDArray[np.uint8]],
    image_of_K: NDArray[np.integer],
    boxes_K4: NDArray,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return boxes [K, 4], landmarks [K, 5, 2] and the net's mean score [K].

    Args:
        onet: the net, in evaluation mode on ``device``.
        device: where the net is.
        images: uint8 RGB frames.
        image_of_K: which frame each box lies in.
        boxes_K4: about where the faces are, in pixels.
    """
    points_K52: NDArray = np.zeros((len(boxes_K4), 5, 2))
    scores_K: NDArray = np.zeros(len(boxes_K4))
    for shown_J3 in ROUNDS if len(boxes_K4) else ():
        squares_KJ4 = _around(square_up(boxes_K4), shown_J3)
        patches = cut_squares(images, image_of_K, squares_KJ4, ONET_SIDE_PX)
        patches = patches.reshape(-1, *patches.shape[2:])
        shift_M4, places_M10, faces_M2 = run_net(onet, patches, device)
        # five x, then five y, as shares of the square
        places_M52 = places_M10.reshape(-1, 2, 5).transpose(0, 2, 1)
        squares_M4 = squares_KJ4.reshape(-1, 4)
        side_M1 = squares_M4[:, 2:3] - squares_M4[:, :1]
        points_M52 = squares_M4[:, None, :2] + side_M1[:, None] * places_M52
        boxes_K4 = _means(moved(squares_M4, shift_M4), len(shown_J3))
        points_K52 = _means(points_M52, len(shown_J3))
        scores_K = _means(faces_M2[:, 1], len(shown_J3))
    return boxes_K4, points_K52, scores_K


def _means(answers_M: NDArray[np.floating], num_squares: int) -> NDArray[np.float64]:
    """Return the mean answer per box of answers per square."""
    per_box_KJ = answers_M.reshape(-1, num_squares, *answers_M.shape[1:])
    return np.asarray(per_box_KJ.mean(axis=1, dtype=np.float64))


def _around(squares_K4: NDArray[np.float64], shown_J3: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the squares [K, J, 4] that are shown for each square."""
    side_K11 = (squares_K4[:, 2] - squares_K4[:, 0])[:, None, None]
    centre_K12 = ((squares_K4[:, :2] + squares_K4[:, 2:]) / 2)[:, None]
    centre_KJ2 = centre_K12 + shown_J3[:, :2] * side_K11
    half_KJ1 = shown_J3[:, 2:] * side_K11 / 2
    return np.concatenate([centre_KJ2 - half_KJ1, centre_KJ2 + half_KJ1], axis=-1)
