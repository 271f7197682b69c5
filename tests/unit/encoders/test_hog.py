import numpy as np
import pytest
from PIL import Image
from skimage.feature import hog

from erray.encoders.hog import CROPS_PER_CHUNK, HogConfig, HogEncoder
from erray.errors import UserError
from erray.records import FaceSample


def some_crops(num: int, size_px: int = 112) -> np.ndarray:
    generator = np.random.default_rng(num)
    coarse = generator.integers(0, 256, (num, 9, 9, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(c).resize((size_px, size_px))) for c in coarse])


def average_over_blocks(blocks: np.ndarray) -> np.ndarray:
    """Mean of each cell's copies in skimage's [rows, cols, 2, 2, bins] block descriptors."""
    cells = blocks.shape[0] + 1
    out = np.zeros((cells, cells, blocks.shape[-1]))
    for y in range(cells):
        for x in range(cells):
            copies = [
                blocks[y - i, x - j, i, j]
                for i in (0, 1)
                for j in (0, 1)
                if 0 <= y - i < cells - 1 and 0 <= x - j < cells - 1
            ]
            out[y, x] = np.mean(copies, axis=0)
    return out.ravel()


@pytest.mark.parametrize("config", [HogConfig(), HogConfig(size_px=48, cell_px=6, orientations=9)])
def test_agrees_with_scikit_image(config):
    crops = some_crops(3)
    found = HogEncoder(config).describe(crops)
    for crop, row in zip(crops, found, strict=True):
        side = (config.size_px, config.size_px)
        gray = Image.fromarray(crop).convert("L").resize(side, Image.Resampling.BILINEAR)
        blocks = hog(
            np.asarray(gray, np.float64),
            orientations=config.orientations,
            pixels_per_cell=(config.cell_px, config.cell_px),
            cells_per_block=(2, 2),
            block_norm="L2-Hys",
            feature_vector=False,
        )
        np.testing.assert_allclose(row, average_over_blocks(blocks), rtol=0, atol=1e-5)


def test_ticks_without_a_crop_are_absent_and_zero():
    ticks = np.array([1, 4], np.int32)
    stream = HogEncoder()([FaceSample(6, ticks, some_crops(2))])[0]
    assert np.flatnonzero(stream.present_T).tolist() == [1, 4]
    assert stream.values_TD.shape == (6, 512)
    assert not stream.values_TD[~stream.present_T].any()
    empty = HogEncoder()([FaceSample(3, np.zeros(0, np.int32), np.zeros((0, 8, 8, 3), np.uint8))])
    assert not empty[0].present_T.any() and empty[0].values_TD.shape == (3, 512)


def test_a_crop_is_described_alike_in_any_batch():
    num = CROPS_PER_CHUNK + 3
    crops = np.resize(some_crops(7, 32), (num, 32, 32, 3))
    stream = HogEncoder()([FaceSample(num, np.arange(num, dtype=np.int32), crops)])[0]
    for tick in (0, 5, CROPS_PER_CHUNK - 1, CROPS_PER_CHUNK, num - 1):
        alone = HogEncoder().describe(crops[tick : tick + 1])[0]
        np.testing.assert_array_equal(stream.values_TD[tick], alone)


def test_brightness_and_contrast_hardly_matter_direction_does():
    crops = some_crops(1) // 2
    encoder = HogEncoder()
    plain, brighter, turned = encoder.describe(
        np.stack([crops[0], crops[0] + 60, crops[0].transpose(1, 0, 2)])
    )
    assert np.linalg.norm(plain - brighter) < 0.1 * np.linalg.norm(plain)
    assert np.linalg.norm(plain - turned) > 0.5 * np.linalg.norm(plain)


def test_a_flat_crop_has_no_direction():
    assert not HogEncoder().describe(np.full((1, 50, 50, 3), 90, np.uint8)).any()


@pytest.mark.parametrize("options", [{"size_px": 60}, {"size_px": 8}, {"orientations": 1}])
def test_sizes_that_do_not_fit_are_refused(options):
    with pytest.raises(UserError, match="expected"):
        HogConfig(**options)
