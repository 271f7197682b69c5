"""From a basic emotion to a moving face: action units, a time curve and a smooth warp.

The muscles follow the Facial Action Coding System (Ekman, Friesen and Hager 2002): an emotion is a
weighted set of action units, an action unit moves a few facial points, and a thin-plate spline
(Bookstein 1989) carries the skin between them along.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from erray.demo.portrait import Portrait

Floats = NDArray[np.float64]
_Real = TypeVar("_Real", NDArray[np.float32], NDArray[np.float64])

# What each unit does at full strength, in eye distances: x away from the nose (for points in the
# middle: to the right), y down. A point named here without a side stands for both sides.
ACTION_UNITS: dict[str, dict[str, tuple[float, float]]] = {
    # inner and outer brow raiser, brow lowerer
    "AU1": {"brow_inner": (0.0, -0.20), "brow_mid": (0.0, -0.08)},
    "AU2": {"brow_outer": (0.0, -0.18), "brow_mid": (0.0, -0.14)},
    "AU4": {"brow_inner": (-0.11, 0.11), "brow_mid": (-0.05, 0.09), "brow_outer": (0.0, 0.03)},
    # upper lid raiser, cheek raiser, lid tightener
    "AU5": {"lid_upper": (0.0, -0.08), "lid_lower": (0.0, 0.03)},
    "AU6": {"cheek": (0.02, -0.10), "lid_lower": (0.0, -0.07)},
    "AU7": {"lid_upper": (0.0, 0.06), "lid_lower": (0.0, -0.06)},
    # lips toward each other
    "AU8": {
        **dict.fromkeys(("lip_lower", "lip_lower_side"), (0.0, -0.11)),
        "lip_bottom": (0.0, -0.08),
        "lip_upper": (0.0, 0.02),
    },
    # nose wrinkler, upper lip raiser
    "AU9": {"nose_wing": (0.04, -0.12), "nose_base": (0.0, -0.07), "fold": (0.02, -0.10)},
    "AU10": {
        **dict.fromkeys(("lip_upper", "lip_upper_side", "lip_top"), (0.0, -0.14)),
        "fold": (0.05, -0.06),
    },
    # lip corner puller, lip corner depressor, chin raiser, lip stretcher
    "AU12": {
        "corner": (0.14, -0.15),
        "lip_upper_side": (0.06, -0.04),
        "lip_lower_side": (0.06, -0.05),
        "lip_upper": (0.0, 0.02),
        "fold": (0.08, -0.06),
        "cheek": (0.04, -0.05),
    },
    "AU15": {
        "corner": (0.03, 0.19),
        "lip_upper_side": (0.01, 0.06),
        "lip_lower_side": (0.01, 0.06),
        "fold": (0.0, 0.06),
    },
    "AU17": {
        "chin": (0.0, -0.10),
        **dict.fromkeys(("lip_lower", "lip_lower_side", "lip_upper"), (0.0, -0.05)),
        **dict.fromkeys(("lip_upper_side", "lip_top"), (0.0, -0.05)),
        "lip_bottom": (0.0, -0.08),
    },
    "AU20": {
        "corner": (0.22, 0.05),
        "lip_upper_side": (0.10, 0.0),
        "lip_lower_side": (0.10, 0.02),
    },
    # lip pressor, lips part, jaw drop
    "AU24": {"corner": (-0.07, 0.02), "lip_top": (0.0, 0.05), "lip_bottom": (0.0, -0.07)},
    "AU25": {
        **dict.fromkeys(("lip_lower", "lip_lower_side"), (0.0, 0.14)),
        "lip_bottom": (0.0, 0.12),
    },
    "AU26": {
        "lip_lower": (0.0, 0.42),
        "lip_lower_side": (-0.03, 0.34),
        "lip_bottom": (0.0, 0.42),
        "lip_upper": (0.0, -0.03),
        "corner": (-0.09, 0.14),
        "chin": (0.0, 0.36),
        "chin_edge": (0.0, 0.30),
        "jaw": (0.0, 0.16),
    },
}

# The prototypes of EMFACS, with the jaw and lip parts that make them visible at 100 px.
EMOTION_UNITS: dict[str, dict[str, float]] = {
    "surprise": {"AU1": 1.0, "AU2": 1.0, "AU5": 1.0, "AU26": 1.0},
    "fear": {"AU1": 1.0, "AU2": 0.5, "AU4": 0.5, "AU5": 1.0, "AU20": 1.0, "AU25": 1.0},
    "happiness": {"AU6": 1.0, "AU12": 1.1, "AU7": 0.4, "AU25": 0.4},
    "sadness": {"AU1": 0.9, "AU4": 0.5, "AU15": 1.0, "AU17": 0.5, "AU7": 0.3},
    "disgust": {"AU9": 1.0, "AU10": 1.0, "AU4": 0.7, "AU7": 0.8},
    "anger": {"AU4": 1.1, "AU7": 0.5, "AU24": 1.0, "AU17": 0.4},
}

_SIDED_LIPS = {"lip_upper_side": "lip_upper", "lip_lower_side": "lip_lower"}
_GRID_STEP_PX = 3.0
# Two lips that touch stay this far apart: coinciding points would leave the spline undefined.
_LIP_GAP_PX = 0.5
# The spline is solved for every fourth frame; between them a face moves along straight lines.
_KEY_STEP_FRAMES = 4


def draw_activation(rng: np.random.Generator, times_s: Floats, emotion: str) -> dict[str, Floats]:
    """Strength of every action unit over time: onset, hold with a small fluctuation.

    Each unit gets its own strength within 10 %, so that no two clips wear the same mask. The lips
    also flutter as if speaking; that movement is drawn without regard to any emotion.
    """
    onset_s, rise_s = rng.uniform(0.05, 0.35), rng.uniform(0.25, 0.5)
    ramp_T = np.clip((times_s - onset_s) / rise_s, 0, 1)
    start, strength = rng.uniform(0.1, 0.3), rng.uniform(0.9, 1.1)
    rate_hz, phase = rng.uniform(0.4, 1.1), rng.uniform(0, 2 * np.pi)
    fluctuation_T = 1 + 0.07 * np.sin(2 * np.pi * rate_hz * times_s + phase)
    curve_T = (start + (1 - start) * ramp_T**2 * (3 - 2 * ramp_T)) * strength * fluctuation_T
    activation = {
        unit: weight * rng.uniform(0.9, 1.1) * curve_T
        for unit, weight in EMOTION_UNITS[emotion].items()
    }
    syllable_hz, phase = rng.uniform(3.0, 5.0), rng.uniform(0, 2 * np.pi)
    flutter_T = 0.12 * (1 + np.sin(2 * np.pi * syllable_hz * times_s + phase))
    activation["AU25"] = activation.get("AU25", 0.0) + flutter_T
    return activation


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
