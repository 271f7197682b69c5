"""Action units over time."""

import numpy as np

from erray.demo.expression import ACTION_UNITS, EMOTION_UNITS, draw_activation
from erray.labels import COMPOUND_PAIRS


def test_every_emotion_of_a_class_has_known_units() -> None:
    assert set(EMOTION_UNITS) == {emotion for pair in COMPOUND_PAIRS.values() for emotion in pair}
    assert {unit for units in EMOTION_UNITS.values() for unit in units} <= set(ACTION_UNITS)


def test_an_emotion_rises_to_its_strength_and_stays() -> None:
    times_s = np.arange(100) / 25
    for seed in range(20):
        curve_T = draw_activation(np.random.default_rng(seed), times_s, "anger")["AU4"]
        assert curve_T[0] < 0.4 * curve_T.max()
        assert curve_T[25:].min() > 0.8 * curve_T.max()
