"""From a basic emotion to moving facial points: action units and their strength over time.

The muscles follow the Facial Action Coding System (Ekman, Friesen and Hager 2002): an emotion is a
weighted set of action units, and an action unit moves a few facial points.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

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
