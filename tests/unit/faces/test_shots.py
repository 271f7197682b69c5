import numpy as np

from erray.faces.shots import is_cut, thumbnail


def test_a_flash_is_no_cut_a_new_picture_is():
    generator = np.random.default_rng(0)
    a, b = generator.uniform(0, 150, (2, 24, 40)).astype(np.float32)
    assert not is_cut(a, a) and not is_cut(a, a + 80) and is_cut(a, b)
    assert not is_cut(a, a + generator.normal(0, 4, a.shape).astype(np.float32))
    assert is_cut(a, np.zeros_like(a)) and not is_cut(np.zeros_like(a), np.zeros_like(a))


def test_a_thumbnail_is_the_picture_in_small():
    halves = np.zeros((960, 1280, 3), np.uint8)
    halves[:, 640:] = 200
    small = thumbnail(halves)
    height, width = small.shape
    assert 24 <= height <= 30 and width == height * 4 / 3
    assert abs(small.mean() - 100) < 5
    assert small[:, : width // 2 - 1].max() == 0 and small[:, width // 2 + 1 :].min() == 200
