import numpy as np

from erray.faces.align import REFERENCE_52
from erray.faces.associate import Observation
from erray.faces.smooth import smooth


def line(noise: float, num: int = 41) -> list[Observation]:
    generator = np.random.default_rng(1)
    seen = []
    for i in range(num):
        box = np.array([50 + 2 * i, 40, 80 + 2 * i, 70]) + generator.normal(0, noise, 4)
        points = REFERENCE_52 + np.array([2 * i, 0]) + generator.normal(0, noise, (5, 2))
        seen.append(Observation(i, i / 25, box.astype("f4"), points.astype("f4"), 0.9))
    return seen


def test_smoothing_keeps_even_motion_and_takes_off_noise():
    clean, noisy = line(0.0), line(1.0)
    for index, exact in enumerate(clean):
        kept = smooth(clean, index, 0.06, (500, 500))
        np.testing.assert_allclose(kept.box_px_4, exact.box_px_4, atol=1e-3)
        np.testing.assert_allclose(kept.landmarks_px_52, exact.landmarks_px_52, atol=1e-3)
    before = [n.box_px_4 - c.box_px_4 for n, c in zip(noisy, clean, strict=True)]
    after = [smooth(noisy, i, 0.06, (500, 500)).box_px_4 - c.box_px_4 for i, c in enumerate(clean)]
    assert np.std(after) < 0.65 * np.std(before)
    assert smooth(noisy, 3, 0.0, (500, 500)) is noisy[3]
