"""A place to stand in: background, light and head movement, and the rendering of a clip."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from erray.demo.portrait import Portrait
from erray.demo.warp import FaceField

WIDTH_PX, HEIGHT_PX = 240, 180
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
    image = Image.fromarray((picture.clip(0, 1) * 255).astype(np.uint8))
    picture = np.asarray(image.filter(ImageFilter.GaussianBlur(rng.uniform(4, 9)))) / 255
    angle = rng.uniform(0, 2 * np.pi)
    x_W, y_H = np.linspace(-1, 1, WIDTH_PX), np.linspace(-1, 1, HEIGHT_PX)
    slope_HW = np.cos(angle) * x_W[None] + np.sin(angle) * y_H[:, None]
    warmth = rng.uniform(-0.06, 0.06)
    colour = rng.uniform(0.8, 1.1) * np.array([1 + warmth, 1.0, 1 - warmth])
    light = colour * (1 + rng.uniform(0.05, 0.25) * slope_HW[..., None])
    background_3HW, light_3HW = (
        torch.from_numpy(np.ascontiguousarray(image_HW3.transpose(2, 0, 1), dtype=np.float32))
        for image_HW3 in (picture, light)
    )
    return Scene(background_3HW=background_3HW, light_3HW=light_3HW)


def _sway(rng: np.random.Generator, times_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """A slow movement within [-1, 1]."""
    first, second = rng.uniform(0.1, 0.35), rng.uniform(0.4, 0.8)
    phases = rng.uniform(0, 2 * np.pi, 2)
    slow = np.sin(2 * np.pi * first * times_s + phases[0])
    return 0.7 * slow + 0.3 * np.sin(2 * np.pi * second * times_s + phases[1])


def draw_head_path(rng: np.random.Generator, times_s: NDArray[np.float64]) -> HeadPath:
    """Place, size and slow motion of the head; the face stays inside the frame.

    At working size a face is about 115 px tall, so the zoom gives 79 to 99 px and leaves at
    least 30 px to the frame's border on every side.
    """
    place = np.array([rng.uniform(92, WIDTH_PX - 92), rng.uniform(88, 96)])
    zoom, roll_rad = rng.uniform(0.69, 0.86), np.deg2rad(rng.uniform(-4, 4))
    sway = np.stack([_sway(rng, times_s) for _ in range(4)])
    return HeadPath(
        centre_T2=place + np.stack([6 * sway[0], 4 * sway[1]], axis=1),
        zoom_T=zoom * (1 + 0.03 * sway[2]),
        roll_T=roll_rad + np.deg2rad(3) * sway[3],
    )


def _face_affines(path: HeadPath, portrait: Portrait) -> NDArray[np.float64]:
    """Maps (x, y, 1) of the output to a place on the photograph before the warp, [T, 2, 3] px."""
    cos_T, sin_T = np.cos(path.roll_T), np.sin(path.roll_T)
    rotate_T22 = np.stack([np.stack([cos_T, sin_T], -1), np.stack([-sin_T, cos_T], -1)], axis=1)
    linear_T22 = rotate_T22 / path.zoom_T[:, None, None]
    offset_T2 = portrait.centre_px - (linear_T22 @ path.centre_T2[:, :, None])[..., 0]
    return np.concatenate([linear_T22, offset_T2[..., None]], axis=2)


def _normalised(affine_T23: NDArray[np.float64], *, width: int, height: int) -> torch.Tensor:
    """The same map into `grid_sample`'s coordinates, where an image spans [-1, 1]."""
    size = np.array([[width], [height]])
    scaled = 2 * affine_T23 / size
    scaled[:, :, 2:] += 1 / size - 1
    return torch.from_numpy(scaled).float()


def _face_boxes(
    affine_T23: NDArray[np.float64], extent_px: tuple[float, float]
) -> list[tuple[int, int, int, int]]:
    """Rows and columns (top, bottom, left, right) of the output that the warp's grid covers."""
    corners_24 = np.array([[0, 0, 1, 1], [0, 1, 0, 1]]) * np.array(extent_px)[:, None]
    spots_T24 = np.linalg.solve(affine_T23[:, :, :2], corners_24 - affine_T23[:, :, 2:])
    low_T2 = np.clip(np.floor(spots_T24.min(2)), 0, (WIDTH_PX, HEIGHT_PX)).astype(int)
    high_T2 = np.clip(np.ceil(spots_T24.max(2)), 0, (WIDTH_PX, HEIGHT_PX)).astype(int)
    return [
        (low[1], high[1], low[0], high[0])
        for low, high in zip(low_T2.tolist(), high_T2.tolist(), strict=True)
    ]


def render(
    portrait: Portrait, scene: Scene, path: HeadPath, face: FaceField
) -> Iterator[NDArray[np.uint8]]:
    """Frames of a clip, [H, W, 3] uint8 RGB each, in order.

    One frame at a time: its arrays stay in the processor's cache, which is twice as fast as a
    batch of frames.
    """
    affine_T23 = _face_affines(path, portrait)
    height, width = portrait.pixels_4HW.shape[1:]
    to_photo_T23 = _normalised(affine_T23, width=width, height=height)
    affine_T23[:, :, 2] -= face.origin_px
    grid_height, grid_width = face.field_T3hw.shape[2:]
    to_field_T23 = _normalised(affine_T23 / face.step_px, width=grid_width, height=grid_height)
    field_T3hw = torch.from_numpy(face.field_T3hw.copy())
    field_T3hw[:, :2] *= torch.tensor([2 / width, 2 / height])[:, None, None]
    ys, xs = torch.meshgrid(torch.arange(HEIGHT_PX), torch.arange(WIDTH_PX), indexing="ij")
    output_HW3 = torch.stack([xs, ys, torch.ones_like(xs)], dim=-1).float()
    background = scene.background_3HW * scene.light_3HW * 255
    light = scene.light_3HW * 255
    mouth = torch.tensor(_MOUTH_RGB)[:, None, None] * light
    boxes_T4 = _face_boxes(affine_T23, (grid_width * face.step_px, grid_height * face.step_px))
    for to_photo_23, to_field_23, field_3hw, (top, bottom, left, right) in zip(
        to_photo_T23, to_field_T23, field_T3hw, boxes_T4, strict=True
    ):
        places = output_HW3 @ to_photo_23.T
        field_places = output_HW3[top:bottom, left:right] @ to_field_23.T
        moved_3HW = F.grid_sample(field_3hw[None], field_places[None], align_corners=False)[0]
        places[top:bottom, left:right] += moved_3HW[:2].permute(1, 2, 0)
        person = F.grid_sample(portrait.pixels_4HW[None], places[None], align_corners=False)[0]
        rgb = person[:3].mul_(light)
        rgb[:, top:bottom, left:right].lerp_(mouth[:, top:bottom, left:right], moved_3HW[2:])
        rgb.addcmul_(background, 1 - person[3:])
        # Half a level up, and the conversion's cut is a rounding.
        picture = rgb.add_(0.5).clamp_(0, 255).to(torch.uint8)
        yield picture.permute(1, 2, 0).contiguous().numpy()
