"""A place to stand in: background, light and head movement, and the rendering of a clip."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from erray.demo.expression import FaceField
from erray.demo.portrait import Portrait

WIDTH_PX, HEIGHT_PX = 320, 240
_CHUNK_FRAMES = 25
_MOUTH_RGB = (0.20, 0.08, 0.08)


@dataclass(frozen=True)
class Scene:
    """What the clips of a group share: place and light.

    background_3HW and light_3HW: float32; the picture is multiplied by the light.
    """

    background_3HW: torch.Tensor
    light_3HW: torch.Tensor


@dataclass(frozen=True)
class HeadPath:
    """Position of the face's centre (px), zoom and roll (rad) in every frame."""

    centre_T2: NDArray[np.float64]
    zoom_T: NDArray[np.float64]
    roll_T: NDArray[np.float64]


def draw_scene(rng: np.random.Generator) -> Scene:
    """A soft, out-of-focus room in muted colours, lit from a random side."""
    base = rng.uniform(0.25, 0.65) + rng.uniform(-0.06, 0.06, 3)
    far, near = base + rng.uniform(0.0, 0.12), base - rng.uniform(0.0, 0.12)
    height_1 = np.linspace(0, 1, HEIGHT_PX)[:, None, None]
    picture = far * (1 - height_1) + near * height_1 + np.zeros((1, WIDTH_PX, 1))
    for _ in range(rng.integers(4, 9)):
        left, top = rng.integers(-40, WIDTH_PX - 20), rng.integers(-40, HEIGHT_PX - 40)
        width, height = rng.integers(20, 110), rng.integers(30, 160)
        rows = slice(max(top, 0), max(top + height, 0))
        columns = slice(max(left, 0), max(left + width, 0))
        picture[rows, columns] += rng.uniform(-0.14, 0.14) + rng.uniform(-0.04, 0.04, 3)
    picture = gaussian_filter(picture, (rng.uniform(4, 9),) * 2 + (0,), mode="nearest")
    angle = rng.uniform(0, 2 * np.pi)
    x_W, y_H = np.linspace(-1, 1, WIDTH_PX), np.linspace(-1, 1, HEIGHT_PX)
    slope_HW = np.cos(angle) * x_W[None] + np.sin(angle) * y_H[:, None]
    warmth = rng.uniform(-0.06, 0.06)
    colour = rng.uniform(0.8, 1.1) * np.array([1 + warmth, 1.0, 1 - warmth])
    light = colour * (1 + rng.uniform(0.05, 0.25) * slope_HW[..., None])
    to_tensor = [
        torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32))
        for image in (picture, light)
    ]
    return Scene(background_3HW=to_tensor[0].clamp(0, 1), light_3HW=to_tensor[1])


def _sway(rng: np.random.Generator, times_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """A slow movement within [-1, 1]."""
    first, second = rng.uniform(0.1, 0.35), rng.uniform(0.4, 0.8)
    phases = rng.uniform(0, 2 * np.pi, 2)
    slow = np.sin(2 * np.pi * first * times_s + phases[0])
    return 0.7 * slow + 0.3 * np.sin(2 * np.pi * second * times_s + phases[1])


def draw_head_path(rng: np.random.Generator, times_s: NDArray[np.float64]) -> HeadPath:
    """Place, size and slow motion of the head; the face stays inside the frame.

    At working size a face is about 115 px from brow to chin, so the zoom gives 75 to 115 px and
    leaves at least 40 px to the frame's border on every side.
    """
    place = np.array([rng.uniform(118, WIDTH_PX - 118), rng.uniform(104, 116)])
    zoom, roll_rad = rng.uniform(0.72, 1.0), np.deg2rad(rng.uniform(-4, 4))
    sway = np.stack([_sway(rng, times_s) for _ in range(4)])
    return HeadPath(
        centre_T2=place + np.stack([6 * sway[0], 4 * sway[1]], axis=1),
        zoom_T=zoom * (1 + 0.03 * sway[2]),
        roll_T=roll_rad + np.deg2rad(3) * sway[3],
    )


def _photo_places(path: HeadPath, portrait: Portrait, frames: slice) -> torch.Tensor:
    """For every output pixel its place on the photograph before the warp, [T, H, W, 2] px."""
    cos_T, sin_T = np.cos(path.roll_T[frames]), np.sin(path.roll_T[frames])
    rotate = np.stack([np.stack([cos_T, sin_T], -1), np.stack([-sin_T, cos_T], -1)], axis=1)
    inverse = rotate / path.zoom_T[frames, None, None]
    offset = portrait.centre_px - (inverse @ path.centre_T2[frames, :, None])[..., 0]
    affine_T23 = torch.from_numpy(np.concatenate([inverse, offset[..., None]], -1)).float()
    y, x = torch.meshgrid(
        torch.arange(HEIGHT_PX, dtype=torch.float32),
        torch.arange(WIDTH_PX, dtype=torch.float32),
        indexing="ij",
    )
    a = affine_T23[:, :, :, None, None]
    return torch.stack([a[:, i, 0] * x + a[:, i, 1] * y + a[:, i, 2] for i in (0, 1)], dim=-1)


def _sample(image: torch.Tensor, places_px: torch.Tensor) -> torch.Tensor:
    """Bilinear values of `image` [T, C, h, w] at `places_px` [T, H, W, 2]; zero outside."""
    size = torch.tensor([image.shape[-1], image.shape[-2]], dtype=torch.float32)
    return F.grid_sample(image, (2 * places_px + 1) / size - 1, align_corners=False)


def render(
    portrait: Portrait, scene: Scene, path: HeadPath, face: FaceField
) -> Iterator[NDArray[np.uint8]]:
    """Frames of a clip, [H, W, 3] uint8 RGB each, in order."""
    num_frames = len(path.zoom_T)
    mouth = torch.tensor(_MOUTH_RGB)[:, None, None]
    origin = torch.tensor(face.origin_px, dtype=torch.float32)
    for start in range(0, num_frames, _CHUNK_FRAMES):
        frames = slice(start, min(start + _CHUNK_FRAMES, num_frames))
        places = _photo_places(path, portrait, frames)
        field = torch.from_numpy(face.field_T3hw[frames])
        moved = _sample(field, (places - origin) / face.step_px)
        pixels = portrait.pixels_4HW.expand(field.shape[0], -1, -1, -1)
        person = _sample(pixels, places + moved[:, :2].permute(0, 2, 3, 1))
        inside = moved[:, 2:]
        rgb = person[:, :3] * (1 - inside) + mouth * inside
        rgb = (rgb + scene.background_3HW * (1 - person[:, 3:])) * scene.light_3HW
        chunk = (rgb.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
        yield from chunk.contiguous().numpy()
