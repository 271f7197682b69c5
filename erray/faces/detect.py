"""Face detection with the nets of MTCNN (Zhang et al. 2016) as facenet-pytorch packages them.

Two ways to a face, both ending in the same measurement of :mod:`erray.faces.refine`: the search of
a whole frame, and following, which only looks where a face is expected.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version as package_version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from erray.errors import UserError
from erray.faces.associate import Detections
from erray.faces.boxes import uncovered

if TYPE_CHECKING:
    from erray.faces.cascade import Cascade


@dataclass(frozen=True)
class DetectorConfig:
    """What the detector looks for, and how much it costs.

    Attributes:
        min_face_px: side of the smallest face, in pixels of the images as they are searched.
            Halving it makes the search about four times as long.
        confidence: least score of the last net.
        frame_side_px: images whose longer side exceeds this are scaled down for the search;
            None: never. Faces found are measured on the images as they are.
        batch_size: images per search, fewer where they are large, see ``SEARCH_PIXELS``.
        device: a torch device; None: the GPU when there is one.
    """

    min_face_px: int = 40
    confidence: float = 0.9
    frame_side_px: int | None = None
    batch_size: int = 16
    device: str | None = None

    def __post_init__(self) -> None:
        if self.min_face_px < 12:
            raise UserError(f"faces: expected min_face_px of 12 or more, found {self.min_face_px}")
        if not 0.0 < self.confidence < 1.0:
            raise UserError(f"faces: expected confidence between 0 and 1, found {self.confidence}")
        if self.frame_side_px is not None and self.frame_side_px < 64:
            raise UserError(
                f"faces: expected frame_side_px of 64 or more, found {self.frame_side_px}"
            )
        if self.batch_size < 1:
            raise UserError(f"faces: expected batch_size of 1 or more, found {self.batch_size}")


# Pixels searched in one batch, for what P-Net makes of them grows with their number: 16 frames of
# 640x360, one of 1920x1080. An actor with frames of 4096x2304 peaks at 1.24 GB so.
SEARCH_PIXELS = 16 * 640 * 360


class MtcnnDetector:
    """Upright images to the faces in them."""

    name = "mtcnn"
    version = 2

    def __init__(self, config: DetectorConfig | None = None) -> None:
        self.config = config or DetectorConfig()
        self.weights_sha256 = mtcnn_weights_sha256()

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """Search each image; return its faces, best score first, boxes clipped to the image.

        Args:
            images: uint8 RGB [H, W, 3], all of one size.

        Raises:
            ValueError: images of different sizes.
        """
        shapes = {image.shape for image in images}
        if len(shapes) > 1:
            raise ValueError(f"expected images of one size, found {sorted(shapes)}")
        found: list[Detections] = []
        scale = self._scale(images[0]) if images else 1.0
        num_pixels = images[0].shape[0] * images[0].shape[1] * scale**2 if images else 1
        size = max(1, min(self.config.batch_size, int(SEARCH_PIXELS / num_pixels)))
        for first in range(0, len(images), size):
            found += self._search(images[first : first + size], scale)
        return found

    def follow(
        self, images: Sequence[NDArray[np.uint8]], boxes_px: Sequence[NDArray[np.floating]]
    ) -> list[Detections]:
        """Measure faces where they are expected, at a small part of the cost of a search.

        Args:
            images: uint8 RGB [H, W, 3].
            boxes_px: per image the boxes [N, 4] of the faces expected.

        Returns:
            Per image as many faces as boxes, in their order, boxes clipped to the image. A score
            far below that of the faces found says that there is none.
        """
        image_of_K = np.repeat(np.arange(len(images)), [len(boxes_N4) for boxes_N4 in boxes_px])
        boxes_K4 = np.concatenate([np.zeros((0, 4)), *boxes_px])
        boxes_K4, points_K52, scores_K = self._cascade.measure(images, image_of_K, boxes_K4)
        return [
            _detections(image, boxes_K4[mine], points_K52[mine], scores_K[mine])
            for n, image in enumerate(images)
            for mine in [np.flatnonzero(image_of_K == n)]
        ]

    def _scale(self, image_HWC: NDArray[np.uint8]) -> float:
        side_px = self.config.frame_side_px
        return 1.0 if side_px is None else min(1.0, side_px / max(image_HWC.shape[:2]))

    def _search(self, images: Sequence[NDArray[np.uint8]], scale: float) -> list[Detections]:
        found = self._cascade.search(
            _scaled(images, scale),
            min_face_px=self.config.min_face_px,
            confidence=self.config.confidence,
        )
        boxes_K4, points_K52, _ = self._cascade.measure(
            images, found.image_of_K, found.boxes_K4 / scale
        )
        faces = []
        for n, image in enumerate(images):
            mine = np.flatnonzero(found.image_of_K == n)
            mine = mine[uncovered(boxes_K4[mine], found.scores_K[mine])]
            one = _detections(image, boxes_K4[mine], points_K52[mine], found.scores_K[mine])
            faces.append(_inside(one))
        return faces

    @cached_property
    def _cascade(self) -> Cascade:
        # here, because torch takes seconds and a plan needs only the settings and the hash
        import torch  # noqa: PLC0415
        from facenet_pytorch import MTCNN  # noqa: PLC0415

        from erray.faces.cascade import Cascade  # noqa: PLC0415

        name = self.config.device or ("cuda" if torch.cuda.is_available() else "cpu")
        device = torch.device(name)
        # pooling is several times faster so on a CPU
        nets = MTCNN(device=device).eval().to(memory_format=torch.channels_last)
        return Cascade(nets.pnet, nets.rnet, nets.onet, device)


def _scaled(images: Sequence[NDArray[np.uint8]], scale: float) -> Sequence[NDArray[np.uint8]]:
    if scale == 1.0:
        return images
    height_px, width_px = (max(1, round(side_px * scale)) for side_px in images[0].shape[:2])
    return [
        np.asarray(Image.fromarray(image).resize((width_px, height_px), Image.Resampling.BOX))
        for image in images
    ]


def _detections(
    image_HWC: NDArray[np.uint8], boxes_N4: NDArray, points_N52: NDArray, scores_N: NDArray
) -> Detections:
    height_px, width_px = image_HWC.shape[:2]
    boxes_N4 = np.clip(boxes_N4, 0, [width_px, height_px, width_px, height_px])
    return Detections(
        boxes_N4.astype(np.float32), points_N52.astype(np.float32), scores_N.astype(np.float32)
    )


def _inside(found: Detections) -> Detections:
    """Drop boxes of which less than a pixel is left within the frame."""
    side_N2 = found.boxes_px_N4[:, 2:] - found.boxes_px_N4[:, :2]
    inside_N = (side_N2 >= 1).all(axis=1)
    return Detections(
        found.boxes_px_N4[inside_N], found.landmarks_px_N52[inside_N], found.scores_N[inside_N]
    )


def mtcnn_weights_sha256() -> str:
    """Hash the packaged weights of the three nets, with the version of the code around them."""
    package = find_spec("facenet_pytorch")
    assert package is not None and package.origin is not None, "facenet-pytorch is a dependency"
    folder = Path(package.origin).parent / "data"
    digest = hashlib.sha256(package_version("facenet-pytorch").encode())
    for name in ("pnet.pt", "rnet.pt", "onet.pt"):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()
