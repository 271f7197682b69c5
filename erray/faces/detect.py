"""Face detection with MTCNN (Zhang et al. 2016) as packaged, with weights, by facenet-pytorch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version as package_version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from erray.errors import UserError
from erray.faces.associate import Detections

PROPOSAL_THRESHOLDS = (0.6, 0.7)  # of the first two nets, as published


@dataclass(frozen=True)
class DetectorConfig:
    """What the detector looks for, and how much it costs.

    Attributes:
        min_face_px: side of the smallest face, in pixels of the given images. Halving it costs
            about four times the time.
        confidence: least score of the last net.
        frame_side_px: images whose longer side exceeds this are scaled down for detection;
            None: never.
        batch_size: images per call of the nets.
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


class MtcnnDetector:
    """Upright images to the faces in them."""

    name = "mtcnn"
    version = 1

    def __init__(self, config: DetectorConfig | None = None) -> None:
        self.config = config or DetectorConfig()
        self.weights_sha256 = mtcnn_weights_sha256()
        self._nets: dict[int, Any] = {}

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """Return the faces of each image, best score first, boxes clipped to the image.

        Args:
            images: uint8 RGB [H, W, 3], all of one size.

        Raises:
            ValueError: images of different sizes.
        """
        shapes = {image.shape for image in images}
        if len(shapes) > 1:
            raise ValueError(f"expected images of one size, found {sorted(shapes)}")
        found: list[Detections] = []
        for first in range(0, len(images), self.config.batch_size):
            found += self._detect(images[first : first + self.config.batch_size])
        return found

    def _detect(self, images: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        height_px, width_px = images[0].shape[:2]
        scale = 1.0
        if self.config.frame_side_px is not None:
            scale = min(1.0, self.config.frame_side_px / max(height_px, width_px))
        min_face_px = max(12, round(self.config.min_face_px * scale))
        small_px = (max(1, round(width_px * scale)), max(1, round(height_px * scale)))
        if min(small_px) < min_face_px:
            return [_in_pixels(None, None, None, 1.0, (width_px, height_px)) for _ in images]
        if scale < 1.0:
            images = [
                np.asarray(Image.fromarray(image).resize(small_px, Image.Resampling.BOX))
                for image in images
            ]
        nets = self._nets_for(min_face_px)
        boxes, scores, points = nets.detect(np.stack(images), landmarks=True)
        return [
            _in_pixels(b, p, s, scale, (width_px, height_px))
            for b, p, s in zip(boxes, points, scores, strict=True)
        ]

    def _nets_for(self, min_face_px: int) -> Any:
        """The three nets are built once per smallest face, which depends on the images' size."""
        # here, because it takes seconds and a plan needs only the settings and the hash
        import torch  # noqa: PLC0415
        from facenet_pytorch import MTCNN  # noqa: PLC0415

        device = self.config.device or ("cuda" if torch.cuda.is_available() else "cpu")
        if min_face_px not in self._nets:
            nets = MTCNN(
                keep_all=True,
                min_face_size=min_face_px,
                thresholds=[*PROPOSAL_THRESHOLDS, self.config.confidence],
                select_largest=False,
                device=torch.device(device),
            ).eval()
            # pooling is several times faster so on a CPU, which is a fifth of the whole
            self._nets[min_face_px] = nets.to(memory_format=torch.channels_last)
        return self._nets[min_face_px]


def _in_pixels(
    boxes: NDArray | None,
    points: NDArray | None,
    scores: NDArray | None,
    scale: float,
    size_px: tuple[int, int],
) -> Detections:
    """Scale back to the given image, clip to it, drop what lies outside, best score first."""
    if boxes is None or points is None or scores is None:
        return Detections(
            np.zeros((0, 4), np.float32), np.zeros((0, 5, 2), np.float32), np.zeros(0, np.float32)
        )
    limits = np.array([*size_px, *size_px], np.float32)
    boxes_N4 = np.clip(np.asarray(boxes, np.float32) / np.float32(scale), 0, limits)
    points_N52 = np.asarray(points, np.float32) / np.float32(scale)
    scores_N = np.asarray(scores, np.float32)
    inside = (boxes_N4[:, 2] - boxes_N4[:, 0] >= 1) & (boxes_N4[:, 3] - boxes_N4[:, 1] >= 1)
    order = np.argsort(-scores_N, kind="stable")
    order = order[inside[order]]
    return Detections(boxes_N4[order], points_N52[order], scores_N[order])


def mtcnn_weights_sha256() -> str:
    """Hash the packaged weights of the three nets, with the version of the code around them."""
    package = find_spec("facenet_pytorch")
    assert package is not None and package.origin is not None, "facenet-pytorch is a dependency"
    folder = Path(package.origin).parent / "data"
    digest = hashlib.sha256(package_version("facenet-pytorch").encode())
    for name in ("pnet.pt", "rnet.pt", "onet.pt"):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()
