import numpy as np

from erray.faces.crops import CropSpool, Jpegs, decode_crops
from tests.unit.faces.squares_world import frame, track


def test_crops_come_back_from_rows_in_order():
    faces = track([frame((60, 30))] * 7)
    ticks, jpegs = faces.crops[0]
    rows = [
        {"ticks": ticks[4:].tolist(), "jpegs": jpegs[4:]},
        {"ticks": ticks[:4].tolist(), "jpegs": jpegs[:4]},
    ]
    found_ticks, crops = decode_crops(rows)
    assert found_ticks.tolist() == list(range(7)) and found_ticks.dtype == np.int32
    assert crops.shape == (7, 32, 32, 3) and crops.dtype == np.uint8
    assert decode_crops([])[1].shape[0] == 0


def test_crops_beyond_the_memory_come_back_from_the_file():
    spool = CropSpool(memory_bytes=2000)
    tracks = [Jpegs(spool), Jpegs(spool)]
    for gray in range(20):
        for i, jpegs in enumerate(tracks):
            jpegs.append(np.full((16, 16, 3), 10 * gray + 5 * i, np.uint8), quality=90)
    assert spool._file._rolled, "the crops exceed the memory that the test allows"
    for i, jpegs in enumerate(tracks):
        assert len(jpegs) == 20 and jpegs[3:5] == [jpegs[3], jpegs[4]] == list(jpegs)[3:5]
        _, crops = decode_crops([{"ticks": list(range(20)), "jpegs": jpegs[:]}])
        assert np.abs(crops[:, 8, 8, 0].astype(int) - (10 * np.arange(20) + 5 * i)).max() <= 1
