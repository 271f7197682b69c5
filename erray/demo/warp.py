"""A smooth warp around the facial points of a portrait.

A thin-plate spline (Bookstein 1989) carries the skin along between the points that the action units
move and those that stay.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from erray.demo.expression import ACTION_UNITS
from erray.demo.portrait import Portrait

Floats = NDArray[np.float64]
_Real = TypeVar("_Real", NDArray[np.float32], NDArray[np.float64])

_SIDED_LIPS = {"lip_upper_side": "lip_upper", "lip_lower_side": "lip_lower"}
_GRID_STEP_PX = 3.0
# Two lips that touch stay this far apart: coinciding points would leave the spline undefined.
_LIP_GAP_PX = 0.5
# The spline is solved for every fourth frame; between them a face moves along straight lines.
_KEY_STEP_FRAMES = 4


@dataclass(frozen=True)
class FaceField:
    """The warp on a coarse grid over the face.

    field_T3hw: x and y shift from an output place to the photograph's place (px), and the opacity
    of the open mouth's inside. origin_px and step_px place the grid on the photograph.
    """

    field_T3hw: NDArray[np.float32]
    origin_px: tuple[float, float]
    step_px: float


def _base_of(point: str) -> tuple[str, float]:
    """Name of a point in ACTION_UNITS and the sign of its outward direction."""
    if not point.endswith(("_l", "_r")):
        return point, 1.0
    base = point[:-2]
    sided = next((side for side, lip in _SIDED_LIPS.items() if lip == base), base)
    return sided, -1.0 if point.endswith("_l") else 1.0


def _targets(
    portrait: Portrait, names: list[str], activation: dict[str, Floats], num_frames: int
) -> Floats:
    """Where the facial points go, [T, K, 2] in px of the photograph."""
    target_TK2 = np.repeat(np.stack([portrait.points_px[n] for n in names])[None], num_frames, 0)
    for index, name in enumerate(names):
        base, sign = _base_of(name)
        for unit, moves in ACTION_UNITS.items():
            if base not in moves:
                continue
            strength_T = activation.get(unit, 0.0) + portrait.rest.get(unit, 0.0) * np.ones(
                num_frames
            )
            step_2 = np.array([sign * moves[base][0], moves[base][1]]) * portrait.eye_distance_px
            step_2 *= portrait.mobility.get(base, 1.0)
            target_TK2[:, index] += strength_T[:, None] * step_2
    return _keep_lips_apart(target_TK2, names)


def _keep_lips_apart(target_TK2: Floats, names: list[str]) -> Floats:
    """Lips may touch but not cross, and the lower lip hides the teeth instead of leaving them."""
    for side in ("", "_l", "_r"):
        upper, lower = names.index(f"lip_upper{side}"), names.index(f"lip_lower{side}")
        floor_T = target_TK2[:, upper, 1] + _LIP_GAP_PX
        target_TK2[:, lower, 1] = np.maximum(target_TK2[:, lower, 1], floor_T)
        if f"teeth{side}" in names:
            teeth = names.index(f"teeth{side}")
            middle_T = (target_TK2[:, upper, 1] + target_TK2[:, lower, 1]) / 2
            hidden_T = np.maximum(middle_T, target_TK2[:, lower, 1] - _LIP_GAP_PX)
            target_TK2[:, teeth, 1] = np.minimum(target_TK2[:, teeth, 1], hidden_T)
    return target_TK2


def _kernel(square_distance: _Real) -> _Real:
    return 0.5 * square_distance * np.log(square_distance + np.float32(1e-6))


def _spline(target_TK2: Floats, source_K2: Floats, grid_M2: Floats) -> NDArray[np.float32]:
    """Thin-plate spline from targets to shifts back to the source, [T, M, 2]."""
    num_frames, num_points = target_TK2.shape[:2]
    between_TKK2 = target_TK2[:, :, None] - target_TK2[:, None]
    system = np.zeros((num_frames, num_points + 3, num_points + 3))
    system[:, :num_points, :num_points] = _kernel((between_TKK2**2).sum(-1))
    system[:, :num_points, num_points] = 1.0
    system[:, :num_points, num_points + 1 :] = target_TK2
    system[:, num_points:, :num_points] = system[:, :num_points, num_points:].transpose(0, 2, 1)
    shift = np.zeros((num_frames, num_points + 3, 2))
    shift[:, :num_points] = source_K2 - target_TK2
    weights = np.linalg.solve(system, shift)
    # Single precision and one frame at a time keep the only large arrays small.
    grid = grid_M2.astype(np.float32)
    spline_TM2 = np.empty((num_frames, len(grid), 2), dtype=np.float32)
    for frame, (points_K2, weights_K2) in enumerate(
        zip(target_TK2.astype(np.float32), weights.astype(np.float32), strict=True)
    ):
        across_MK = grid[:, :1] - points_K2[:, 0]
        down_MK = grid[:, 1:] - points_K2[:, 1]
        bent_M2 = _kernel(across_MK**2 + down_MK**2) @ weights_K2[:num_points]
        spline_TM2[frame] = bent_M2 + weights_K2[num_points] + grid @ weights_K2[num_points + 1 :]
    return spline_TM2


def _mouth_inside(target_TK2: Floats, names: list[str], grid_M2: Floats) -> Floats:
    """Opacity of the mouth's dark inside, [T, M]: between two parabolas through the corners."""
    at = {name: target_TK2[:, index] for index, name in enumerate(names)}
    left, right = at["corner_l"], at["corner_r"]
    upper = at["teeth"] if "teeth" in at else at["lip_upper"]
    along_TM = (grid_M2[None, :, 0] - left[:, None, 0]) / (right - left)[:, None, 0]
    chord_TM = left[:, None, 1] + along_TM * (right - left)[:, None, 1]
    arch_TM = np.clip(4 * along_TM * (1 - along_TM), 0, None)
    middle_T = (left[:, 1] + right[:, 1]) / 2
    top_TM = chord_TM + arch_TM * (upper[:, 1] - middle_T)[:, None]
    bottom_TM = chord_TM + arch_TM * (at["lip_lower"][:, 1] - middle_T)[:, None]
    y_M = grid_M2[:, 1]
    inside = np.clip((y_M - top_TM) / 2, 0, 1) * np.clip((bottom_TM - y_M) / 2, 0, 1)
    return inside * (arch_TM > 0)


def _between_keys(
    field_T3hw: NDArray[np.float32], keys: NDArray[np.int64], num_frames: int
) -> NDArray[np.float32]:
    """Linear interpolation from key frames to all frames."""
    place_T = np.interp(np.arange(num_frames), keys, np.arange(len(keys)))
    before_T = np.minimum(place_T.astype(np.int64), len(keys) - 2)
    part_T = (place_T - before_T).astype(np.float32)[:, None, None, None]
    return field_T3hw[before_T] * (1 - part_T) + field_T3hw[before_T + 1] * part_T


def warp_face(portrait: Portrait, activation: dict[str, Floats], num_frames: int) -> FaceField:
    """The warp that shows `activation` ([T] each) on `portrait`, for every frame."""
    names = list(portrait.points_px)
    unit_px = portrait.eye_distance_px
    centre = portrait.centre_px
    half = np.array([1.7, 2.2]) * unit_px
    low, high = centre - half, centre + half
    xs, ys = (np.arange(low[axis], high[axis], _GRID_STEP_PX) for axis in (0, 1))
    grid_M2 = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
    # A ring of points that stay keeps the far side of the head still.
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    ring = centre + np.stack([np.cos(angles), np.sin(angles)], axis=1) * half * 0.92
    fixed = np.concatenate([portrait.fixed_px, ring])
    keys = np.unique(np.append(np.arange(0, num_frames, _KEY_STEP_FRAMES), num_frames - 1))
    at_keys = {unit: strength_T[keys] for unit, strength_T in activation.items()}
    target_TK2 = _targets(portrait, names, at_keys, len(keys))
    still = np.broadcast_to(fixed, (len(keys), *fixed.shape))
    source_K2 = np.concatenate([np.stack([portrait.points_px[n] for n in names]), fixed])
    shift_TM2 = _spline(np.concatenate([target_TK2, still], axis=1), source_K2, grid_M2)
    reach_M = (((grid_M2 - centre) / (half - _GRID_STEP_PX)) ** 2).sum(-1)
    shift_TM2 *= np.clip((1.0 - reach_M) * 6, 0, 1)[None, :, None]
    inside_TM = _mouth_inside(target_TK2, names, grid_M2)
    field_T3M = np.concatenate([shift_TM2, inside_TM[..., None]], axis=2).transpose(0, 2, 1)
    field_T3hw = field_T3M.reshape(len(keys), 3, len(ys), len(xs)).astype(np.float32)
    field_T3hw = _between_keys(field_T3hw, keys, num_frames)
    return FaceField(field_T3hw=field_T3hw, origin_px=(xs[0], ys[0]), step_px=_GRID_STEP_PX)
