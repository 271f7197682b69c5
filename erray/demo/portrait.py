"""The two public-domain portraits: pixels, cut-out and facial points.

Both pictures ship inside packages that erray depends on, so the demo corpus needs no download:
scikit-image's astronaut (Eileen Collins, NASA) and matplotlib's Grace Hopper (US Navy). The points
were placed by hand once; they are facts about two fixed pictures, not settings.
"""

from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

# Photographs are kept at the size where the face is about 115 px tall: the largest face of the
# corpus is then sampled about one to one, and the smallest does not alias.
_EDGE_SOFTNESS_PX = 0.8

_Points = dict[str, tuple[float, float]]
_Outline = tuple[tuple[float, float], ...]

_COLLINS_OUTLINE_PX: _Outline = (
    (0, 512), (22, 420), (35, 340), (48, 285), (70, 252), (100, 225), (114, 205), (122, 177),
    (140, 160), (165, 152), (183, 153), (180, 133), (172, 122), (160, 110), (154, 88),
    (161, 57), (181, 37), (201, 22), (226, 16), (254, 22), (279, 37), (296, 61), (299, 90),
    (293, 111), (278, 129), (266, 138), (258, 160), (254, 175), (280, 190), (296, 212),
    (304, 240), (330, 256), (347, 286), (356, 320), (362, 352), (400, 347), (440, 362),
    (480, 402), (496, 450), (500, 512),
)  # fmt: skip
_COLLINS_POINTS_PX: _Points = {
    "brow_outer_l": (190.6, 90.2), "brow_mid_l": (200.6, 88.8), "brow_inner_l": (213.1, 92.2),
    "brow_inner_r": (238.8, 93.8), "brow_mid_r": (251.2, 91.9), "brow_outer_r": (262.5, 95.6),
    "eye_outer_l": (192.8, 101.0), "lid_upper_l": (202.5, 97.2), "eye_inner_l": (213.5, 103.1),
    "lid_lower_l": (202.5, 105.0), "eye_inner_r": (236.9, 105.0), "lid_upper_r": (246.9, 99.8),
    "eye_outer_r": (258.5, 103.5), "lid_lower_r": (246.9, 107.8), "bridge": (224.8, 108.8),
    "nose_wing_l": (213.5, 130.0), "nose_wing_r": (237.2, 131.2), "nose_base": (223.8, 133.1),
    "corner_l": (204.4, 140.3), "corner_r": (243.8, 141.9), "lip_top": (223.8, 139.2),
    "lip_upper_l": (213.1, 142.2), "lip_upper": (223.4, 143.5), "lip_upper_r": (233.8, 143.1),
    "teeth_l": (213.1, 147.6), "teeth": (223.4, 149.3), "teeth_r": (233.8, 148.2),
    "lip_lower_l": (213.1, 148.4), "lip_lower": (223.4, 150.1), "lip_lower_r": (233.8, 149.0),
    "lip_bottom": (223.5, 155.6), "cheek_l": (198.8, 124.0), "cheek_r": (251.0, 126.5),
    "fold_l": (200.6, 133.0), "fold_r": (248.0, 134.8), "chin": (223.8, 165.0),
    "chin_edge": (222.5, 177.0), "jaw_l": (196.2, 167.5), "jaw_r": (251.2, 166.2),
}  # fmt: skip
_COLLINS_FIXED_PX = (
    (203.0, 66.0), (225.0, 64.0), (247.0, 66.0), (182.0, 100.0), (270.0, 103.0),
    (181.0, 125.0), (269.0, 127.0),
)  # fmt: skip

_HOPPER_OUTLINE_PX: _Outline = (
    (12, 600), (20, 540), (30, 470), (38, 428), (62, 398), (112, 373), (160, 355), (186, 338),
    (199, 322), (200, 298), (180, 289), (167, 265), (166, 245), (156, 215), (155, 190),
    (152, 176), (150, 150), (149, 118), (161, 99), (176, 88), (178, 67), (191, 52), (216, 37),
    (241, 26), (280, 26), (309, 37), (334, 57), (350, 79), (352, 89), (366, 97), (369, 120),
    (368, 150), (364, 178), (373, 188), (374, 205), (364, 238), (360, 268), (344, 298),
    (331, 310), (332, 320), (346, 333), (400, 361), (450, 381), (488, 395), (501, 420),
    (508, 480), (512, 600),
)  # fmt: skip
_HOPPER_POINTS_PX: _Points = {
    "brow_outer_l": (190.0, 166.0), "brow_mid_l": (212.5, 163.0), "brow_inner_l": (242.5, 171.0),
    "brow_inner_r": (286.5, 169.0), "brow_mid_r": (307.5, 160.0), "brow_outer_r": (334.0, 159.0),
    "eye_outer_l": (207.0, 190.0), "lid_upper_l": (222.0, 184.0), "eye_inner_l": (237.0, 191.0),
    "lid_lower_l": (222.0, 197.0), "eye_inner_r": (294.0, 187.5), "lid_upper_r": (305.5, 180.5),
    "eye_outer_r": (321.0, 186.0), "lid_lower_r": (305.5, 193.5), "bridge": (266.0, 195.0),
    "nose_wing_l": (241.0, 243.0), "nose_wing_r": (295.0, 241.0), "nose_base": (267.5, 250.5),
    "corner_l": (229.0, 280.0), "corner_r": (305.0, 276.5), "lip_top": (266.5, 271.0),
    "lip_upper_l": (247.5, 275.8), "lip_upper": (267.5, 277.3), "lip_upper_r": (287.0, 275.2),
    "lip_lower_l": (247.5, 276.8), "lip_lower": (267.5, 278.3), "lip_lower_r": (287.0, 276.2),
    "lip_bottom": (267.5, 292.0), "cheek_l": (212.0, 245.0), "cheek_r": (322.0, 241.0),
    "fold_l": (225.0, 264.0), "fold_r": (310.0, 261.0), "chin": (267.5, 312.0),
    "chin_edge": (267.5, 331.0), "jaw_l": (210.0, 315.0), "jaw_r": (325.0, 312.0),
}  # fmt: skip
# The brim of the cap, the hinges and the lower rims of the spectacles stay where they are; brows
# and lids beside the upper rims move less, or the rims would bend.
_HOPPER_MOBILITY = {
    **dict.fromkeys(("brow_outer", "brow_mid", "lid_upper"), 0.55), "brow_inner": 0.75,
}  # fmt: skip
_HOPPER_FIXED_PX = (
    (226.0, 138.0), (267.0, 136.0), (310.0, 138.0), (178.0, 190.0), (355.0, 186.0),
    (266.0, 184.0), (195.0, 177.0), (342.0, 172.0), (217.0, 230.0), (312.0, 225.0),
    (175.0, 240.0), (357.0, 235.0),
)  # fmt: skip


@dataclass(frozen=True)
class Portrait:
    """One cut-out portrait at working size.

    pixels_4HW: float32 in [0, 1], RGB multiplied by alpha, then alpha.
    points_px: facial points, x right and y down; `_l` and `_r` are the viewer's left and right.
    fixed_px: points an expression never moves (hairline, temples, spectacles).
    mobility: factors on the movement of single points (1 where not named).
    rest: action units that turn the photographed expression into a neutral one.
    eye_distance_px: distance of the eye centres, the unit of every expression.
    """

    name: str
    pixels_4HW: torch.Tensor
    points_px: dict[str, NDArray[np.float64]]
    fixed_px: NDArray[np.float64]
    mobility: dict[str, float] = field(default_factory=dict)
    rest: dict[str, float] = field(default_factory=dict)

    @property
    def eye_distance_px(self) -> float:
        left, right = (
            (self.points_px[f"eye_outer_{side}"] + self.points_px[f"eye_inner_{side}"]) / 2
            for side in "lr"
        )
        return float(np.linalg.norm(right - left))

    @property
    def centre_px(self) -> NDArray[np.float64]:
        """Middle of the face: half way from the brows to the edge of the chin."""
        brows = (self.points_px["brow_mid_l"] + self.points_px["brow_mid_r"]) / 2
        return (brows + self.points_px["chin_edge"]) / 2


def _open_packaged(package: str, path: str) -> Image.Image:
    """A picture inside an installed package, without the seconds that importing it takes."""
    spec = find_spec(package)
    assert spec is not None and spec.origin is not None, f"{package} is a dependency of erray"
    return Image.open(Path(spec.origin).parent / path).convert("RGB")


def _cut_out(photo: Image.Image, outline_px: _Outline, *, scale: float) -> torch.Tensor:
    mask = Image.new("L", photo.size)
    ImageDraw.Draw(mask).polygon(outline_px, fill=255)
    mask = mask.filter(ImageFilter.GaussianBlur(_EDGE_SOFTNESS_PX / scale))
    size = (round(photo.width * scale), round(photo.height * scale))
    alpha_HW = np.asarray(mask.resize(size, Image.Resampling.BILINEAR), np.float32) / 255
    rgb_HW3 = np.asarray(photo.resize(size, Image.Resampling.LANCZOS), np.float32) / 255
    pixels_HW4 = np.concatenate([rgb_HW3 * alpha_HW[..., None], alpha_HW[..., None]], axis=2)
    return torch.from_numpy(np.ascontiguousarray(pixels_HW4.transpose(2, 0, 1)))


@cache
def load_portraits() -> tuple[Portrait, Portrait]:
    """Both portraits, read from the installed packages once per process."""
    collins = _open_packaged("skimage", "data/astronaut.png")
    hopper = _open_packaged("matplotlib", "mpl-data/sample_data/grace_hopper.jpg")
    return (
        Portrait(
            name="collins",
            pixels_4HW=_cut_out(collins, _COLLINS_OUTLINE_PX, scale=1.0),
            points_px={name: np.asarray(point) for name, point in _COLLINS_POINTS_PX.items()},
            fixed_px=np.asarray(_COLLINS_FIXED_PX),
            rest={"AU12": -0.8, "AU8": 1.0},
        ),
        Portrait(
            name="hopper",
            pixels_4HW=_cut_out(hopper, _HOPPER_OUTLINE_PX, scale=0.5),
            points_px={name: np.asarray(point) * 0.5 for name, point in _HOPPER_POINTS_PX.items()},
            fixed_px=np.asarray(_HOPPER_FIXED_PX) * 0.5,
            mobility=_HOPPER_MOBILITY,
        ),
    )
