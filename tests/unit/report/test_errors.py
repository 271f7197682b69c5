"""Which clips are wrong, in what order, and what was taken for what."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from erray.report.errors import find_confusions, make_errors, make_wrong_clip, wrong_clips
from erray.report.sources import ClipPrediction
from erray.report.thumbnails import Faces
from tests.unit.report.test_thumbnails import grey, level_of

CLASSES = ("a", "b", "c")


def predict(clip_id: str, label: str | None, probabilities: list[float]) -> ClipPrediction:
    return ClipPrediction(
        clip_id=clip_id,
        group="g",
        label=label,
        classes=CLASSES,
        times_s_T=3.0 + np.arange(50) / 25,
        logits_TC=np.zeros((50, 3), np.float32),
        probabilities_C=np.array(probabilities),
        predicted=CLASSES[int(np.argmax(probabilities))],
    )


@pytest.fixture(scope="module")
def many() -> list[ClipPrediction]:
    rng = np.random.default_rng(1)
    labels = rng.choice(CLASSES, size=200)
    return [
        predict(f"{i:03d}", label, rng.dirichlet([1, 1, 1]).tolist())
        for i, label in enumerate(labels)
    ]


def test_wrong_clips_come_with_the_surest_first_and_ties_by_name(many) -> None:
    found = wrong_clips(many)
    assert {p.clip_id for p in found} == {p.clip_id for p in many if p.label != p.predicted}
    sure = [max(p.probabilities_C) for p in found]
    assert sure == sorted(sure, reverse=True)
    equal = [predict(name, "a", [0.1, 0.6, 0.3]) for name in ("y", "x")]
    assert [p.clip_id for p in wrong_clips(equal)] == ["x", "y"]
    assert wrong_clips([predict("u", None, [0.1, 0.6, 0.3])]) == []


def test_confusions_are_the_cells_beside_the_diagonal(many) -> None:
    matrix = confusion_matrix([p.label for p in many], [p.predicted for p in many])
    found = find_confusions(many)
    assert len(found) == 6
    for pair in found:
        row, column = pair.class_ids
        assert (CLASSES[row], CLASSES[column]) == (pair.label, pair.predicted)
        assert pair.count == matrix[row, column] and pair.num_label == matrix[row].sum()
        sure = [
            p.confidence for p in many if (p.label, p.predicted) == (pair.label, pair.predicted)
        ]
        assert pair.confidence == pytest.approx(np.mean(sure))
    counts = [pair.count for pair in found]
    assert counts == sorted(counts, reverse=True)
    errors = make_errors(many, [])
    assert errors.num_wrong == matrix.sum() - np.trace(matrix) and errors.num_clips == 200


def test_a_run_without_an_error_has_none() -> None:
    errors = make_errors([predict("x", "b", [0.1, 0.6, 0.3])], [])
    assert (errors.num_wrong, errors.num_pairs, errors.confusions) == (0, 0, [])


def test_a_wrong_clip_shows_five_faces_and_both_probabilities() -> None:
    faces = Faces(np.arange(50), [grey(5 * t) for t in range(50)])
    prediction = predict("x", "c", [0.1, 0.6, 0.3])
    clip = make_wrong_clip(prediction, transcript="no", faces=faces, timeline="clip-1")
    assert clip.probabilities == (0.3, 0.6) and clip.class_ids == (2, 1)
    middles = 5 * 49 * (np.arange(5) + 0.5) / 5
    shown = [level_of(slot.jpeg or "") for slot in clip.slots]
    np.testing.assert_allclose(shown, middles, atol=6)
    nobody = Faces(np.array([], dtype=np.int64), [])
    faceless = make_wrong_clip(prediction, transcript=None, faces=nobody, timeline=None)
    assert [slot.jpeg for slot in faceless.slots] == [None] * 5
