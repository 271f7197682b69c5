from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from erray.report.thumbnails import NUM_SLOTS, Faces, fill_slots, thumbnail


def grey(level: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (112, 112), (level, level, level)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def level_of(uri: str) -> float:
    head, _, content = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as image:
        assert image.width == image.height < 112
        return float(np.asarray(image).mean())


def test_every_slot_shows_the_face_of_its_time() -> None:
    ticks = np.arange(100)
    faces = Faces(ticks, [grey(int(t)) for t in ticks])
    slots = fill_slots(faces, ticks / 25)
    middles = 99 * (np.arange(NUM_SLOTS) + 0.5) / NUM_SLOTS
    shown = [level_of(slot.jpeg or "") for slot in slots]
    np.testing.assert_allclose(shown, middles, atol=3)


def test_a_stretch_without_a_face_stays_empty() -> None:
    ticks = np.array([t for t in range(160) if not 40 <= t < 80])
    slots = fill_slots(Faces(ticks, [grey(9)] * len(ticks)), np.arange(160) / 25)
    empty = [i for i, slot in enumerate(slots) if slot.jpeg is None]
    assert empty
    assert all(40 / 160 * NUM_SLOTS - 1 <= i <= 80 / 160 * NUM_SLOTS for i in empty)
    assert len(empty) >= NUM_SLOTS * 40 // 160 - 1


def test_a_short_clip_repeats_its_faces() -> None:
    faces = Faces(np.array([0, 1]), [grey(20), grey(200)])
    slots = fill_slots(faces, np.array([0.0, 0.04]))
    levels = [round(level_of(slot.jpeg or ""), -1) for slot in slots]
    assert levels == [20.0] * (NUM_SLOTS // 2) + [200.0] * (NUM_SLOTS // 2)


def test_rows_of_one_clip_are_joined_in_order() -> None:
    rows = [{"ticks": [3, 4], "jpegs": [b"d", b"e"]}, {"ticks": [0, 2], "jpegs": [b"a", b"c"]}]
    faces = Faces.from_rows(rows)
    assert faces.ticks_N.tolist() == [0, 2, 3, 4]
    assert faces.jpegs == [b"a", b"c", b"d", b"e"]
    assert len(thumbnail(grey(5))) < 2000
