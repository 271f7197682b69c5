"""Five landmarks to an aligned face crop: a similarity transform and a bilinear warp. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Where eyes, nose tip and mouth corners lie in a 112 x 112 crop (ArcFace's reference points).
REFERENCE_SIZE_PX = 112
REFERENCE_52 = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2042],
    ]
)
# The mean distance of landmarks from their centre below which a face has no orientation.
MIN_SPREAD_PX = 0.5


def similarity(
    landmarks_px_52: NDArray[np.floating], reference_52: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the 2x3 matrix [sR t] that takes landmarks closest to the reference.

    Least squares over rotation, uniform scale and shift, without reflection (Umeyama 1991).

    Raises:
        ValueError: landmarks that are not finite or (almost) coincide.
    """
    source = np.asarray(landmarks_px_52, dtype=np.float64)
    target = np.asarray(reference_52, dtype=np.float64)
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 2:
        raise ValueError(f"expected landmarks of shape {target.shape}, found {source.shape}")
    if not np.isfinite(source).all():
        raise ValueError("expected finite landmarks, found NaN or infinity")
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    source, target = source - source_mean, target - target_mean
    variance = np.mean(np.sum(source**2, axis=1))
    if variance < MIN_SPREAD_PX**2:
        raise ValueError(f"expected landmarks apart from each other, found {landmarks_px_52}")
    u, singular, vt = np.linalg.svd(target.T @ source / len(source))
    sign = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = (u * sign) @ vt
    scale = np.sum(singular * sign) / variance
    shift = target_mean - scale * rotation @ source_mean
    return np.column_stack([scale * rotation, shift])


def crop_face(
    image_HWC: NDArray[np.uint8], landmarks_px_52: NDArray[np.floating], size_px: int
) -> NDArray[np.uint8]:
    """Return the aligned RGB crop [size_px, size_px, 3]; what lies outside the frame is black.

    A face much larger than the crop is first reduced by a whole factor (box filter), so that fine
    texture does not alias.

    Raises:
        ValueError: see :func:`similarity`.
    """
    scale_to_crop = size_px / REFERENCE_SIZE_PX
    # pixel centres are whole numbers in both frames: (x + 0.5) scales, not x
    reference_52 = (REFERENCE_52 + 0.5) * scale_to_crop - 0.5
    forward = similarity(landmarks_px_52, reference_52)
    inverse = np.linalg.inv(np.vstack([forward, [0.0, 0.0, 1.0]]))[:2]
    corners = np.array([[-0.5, -0.5], [size_px, -0.5], [-0.5, size_px], [size_px, size_px]])
    needed = corners @ inverse[:, :2].T + inverse[:, 2]
    factor = max(1, int(np.sqrt(abs(np.linalg.det(inverse[:, :2])))))
    height_px, width_px = image_HWC.shape[:2]
    left, top = np.floor(needed.min(axis=0)).astype(int) - 2 * factor
    right, bottom = np.ceil(needed.max(axis=0)).astype(int) + 2 * factor + 1
    left, top = max(left, 0), max(top, 0)
    right, bottom = min(right, width_px), min(bottom, height_px)
    if left >= right or top >= bottom:
        return np.zeros((size_px, size_px, 3), np.uint8)
    region = Image.fromarray(np.ascontiguousarray(image_HWC[top:bottom, left:right]))
    if factor > 1:
        region = region.reduce(factor)
    # Pillow's affine map takes corners of pixels, (0, 0) being the corner of the picture
    linear = inverse[:, :2]
    corner = inverse[:, 2] - linear @ [0.5, 0.5] + 0.5 - np.array([left, top])
    data = np.column_stack([linear, corner]) / factor
    warped = region.transform(
        (size_px, size_px),
        Image.Transform.AFFINE,
        tuple(data.ravel().tolist()),
        resample=Image.Resampling.BILINEAR,
    )
    return np.asarray(warped)
