import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from erray.encoders.sound_chunks import FrameGrid, cut_sound, equal_batches

GRID = FrameGrid(400, 320)


@pytest.mark.parametrize("num_samples", [0, 399, 400, 719, 720, 16000])
def test_frames_are_counted_as_they_fit(num_samples):
    firsts = [f for f in range(200) if f * 320 + 400 <= num_samples]
    assert GRID.count(num_samples) == len(firsts)
    np.testing.assert_array_equal(GRID.centres(len(firsts)), [f * 320 + 200 for f in firsts])


@given(st.integers(0, 60_000), st.integers(1, 40), st.data())
def test_every_frame_is_kept_once_from_a_chunk_that_sees_beyond_it(num_samples, size, data):
    margin = data.draw(st.integers(0, (size - 1) // 2))
    chunks = list(cut_sound(3, num_samples, GRID, size=size, margin=margin))
    total = GRID.count(num_samples)
    kept = [f for chunk in chunks for f in range(*chunk.frames)]
    assert kept == list(range(total))
    for chunk in chunks:
        first, last = chunk.frames
        start = chunk.start_sample // 320
        num_frames = GRID.count(chunk.num_samples)
        assert chunk.clip == 3 and chunk.start_sample % 320 == 0
        assert chunk.start_sample + chunk.num_samples <= num_samples
        assert first - start == chunk.skip and last - start <= num_frames
        assert chunk.skip >= margin or first == 0
        assert num_frames - (last - start) >= margin or last == total
        assert len(chunks) == 1 or num_frames == size


def test_batches_hold_one_length_and_are_bounded():
    chunks = [
        chunk
        for clip, num in enumerate([3200, 16000, 3200, 9000, 3200, 3200])
        for chunk in cut_sound(clip, num, GRID, size=1000, margin=10)
    ]
    batches = list(equal_batches(chunks, 9600))
    assert [[chunk.clip for chunk in batch] for batch in batches] == [[0, 2, 4], [5], [3], [1]]
