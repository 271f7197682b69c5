import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erray.errors import UserError
from erray.faces.associate import (
    Detections,
    LinkConfig,
    Linker,
    Observation,
    iou_matrix,
    link,
    main_track,
)
from erray.records import FaceTrack


def box(x: float, y: float = 0.0, side: float = 10.0) -> list[float]:
    return [x, y, x + side, y + side]


def found(*boxes: list[float]) -> Detections:
    boxes_N4 = np.array(boxes, np.float32).reshape(-1, 4)
    num = len(boxes_N4)
    return Detections(boxes_N4, np.zeros((num, 5, 2), np.float32), np.ones(num, np.float32))


def run(frames: list[Detections], config: LinkConfig | None = None, cuts: tuple[int, ...] = ()):
    """Ten frames a second; return the id of each detection in each frame."""
    linker = Linker(config or LinkConfig())
    return [
        [track_id for track_id, _, _ in linker.step(i, i / 10, detections, new_shot=i in cuts)]
        for i, detections in enumerate(frames)
    ]


boxes_of = st.lists(
    st.tuples(*[st.integers(0, 40)] * 2, *[st.integers(1, 30)] * 2).map(
        lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]]
    ),
    min_size=0,
    max_size=4,
).map(lambda rows: np.array(rows, np.float64).reshape(-1, 4))


@settings(max_examples=40, deadline=None)
@given(boxes_of, boxes_of)
def test_iou_equals_counting_pixels(boxes_a, boxes_b):
    def pixels(b):
        grid = np.zeros((80, 80), bool)
        grid[int(b[1]) : int(b[3]), int(b[0]) : int(b[2])] = True
        return grid

    found_iou = iou_matrix(boxes_a, boxes_b)
    for i, a in enumerate(boxes_a):
        for j, b in enumerate(boxes_b):
            both, either = pixels(a) & pixels(b), pixels(a) | pixels(b)
            assert found_iou[i, j] == pytest.approx(both.sum() / either.sum())


@given(boxes_of, boxes_of, st.sampled_from([0.1, 0.3, 0.7]))
def test_links_are_one_to_one_allowed_and_cannot_be_extended(boxes_a, boxes_b, min_iou):
    pairs = link(boxes_a, boxes_b, min_iou)
    iou = iou_matrix(boxes_a, boxes_b)
    assert all(iou[i, j] >= min_iou for i, j in pairs)
    rows, columns = {i for i, _ in pairs}, {j for _, j in pairs}
    assert len(rows) == len(columns) == len(pairs)
    for i in set(range(len(boxes_a))) - rows:
        for j in set(range(len(boxes_b))) - columns:
            assert iou[i, j] < min_iou


@given(boxes_of, boxes_of)
def test_links_have_the_largest_total_overlap(boxes_a, boxes_b):
    iou = iou_matrix(boxes_a, boxes_b)

    def best(row: int, used: frozenset[int]) -> float:
        if row == len(boxes_a):
            return 0.0
        values = [best(row + 1, used)]
        values += [
            iou[row, j] + best(row + 1, used | {j})
            for j in range(len(boxes_b))
            if j not in used and iou[row, j] >= 0.2
        ]
        return max(values)

    total = sum(iou[i, j] for i, j in link(boxes_a, boxes_b, 0.2))
    assert total == pytest.approx(best(0, frozenset()))


def test_box_without_area_overlaps_nothing():
    flat = np.array([[5.0, 5.0, 5.0, 5.0]])
    assert iou_matrix(flat, flat) == 0.0


def test_faces_that_pass_each_other_keep_their_ids():
    frames = [found(box(2.0 * i), box(40 - 2.0 * i, y=7.0)) for i in range(21)]
    assert run(frames) == [[0, 1]] * 21
    swapped = [found(box(40 - 2.0 * i, y=7.0), box(2.0 * i)) for i in range(10, 21)]
    assert run(frames[:10] + swapped) == [[0, 1]] * 10 + [[1, 0]] * 11


def test_one_leaves_another_enters_elsewhere():
    ids = run([found(box(0), box(50))] * 3 + [found(box(50))] * 8 + [found(box(50), box(0))] * 2)
    assert ids == [[0, 1]] * 3 + [[1]] * 8 + [[1, 2]] * 2


@pytest.mark.parametrize(
    ("num_missed", "moved_px", "same"), [(3, 1.0, True), (4, 1.0, False), (2, 6.0, False)]
)
def test_a_miss_is_bridged_when_short_and_in_place(num_missed, moved_px, same):
    frames = [found(box(0))] + [found()] * num_missed + [found(box(moved_px))]
    assert run(frames)[-1] == ([0] if same else [1])


def test_a_face_seen_goes_before_a_face_missed():
    """Both could be the new box; the one seen in the frame before gets it."""
    frames = [found(box(0), box(4)), found(box(4)), found(box(1))]
    assert run(frames) == [[0, 1], [1], [1]]


def test_a_cut_ends_every_track():
    assert run([found(box(0))] * 4, cuts=(2,)) == [[0], [0], [1], [1]]


def test_the_observation_before_is_handed_out():
    linker = Linker(LinkConfig())
    (_, none, first), (__, ___, ____) = linker.step(0, 0.0, found(box(0), box(50)))
    assert none is None and first.tick == 0
    linker.step(5, 0.2, found(box(50)))
    ((track_id, before, now), _) = linker.step(6, 0.24, found(box(1), box(50)))
    assert (track_id, before, now.tick) == (0, first, 6)
    assert linker.open_tracks() == {0, 1}


sequences = st.lists(boxes_of, min_size=1, max_size=8)


def steps_of(sequence: list[np.ndarray]) -> list[list[tuple[int, list[float]]]]:
    """Per frame the track and the box of every step."""
    linker = Linker(LinkConfig())
    return [
        [
            (track_id, now.box_px_4.tolist())
            for track_id, _, now in linker.step(i, i / 10, found(*b))
        ]
        for i, b in enumerate(sequence)
    ]


@given(sequences)
def test_every_detection_is_in_exactly_one_track(sequence):
    steps = steps_of(sequence)
    for boxes_N4, taken in zip(sequence, steps, strict=True):
        assert [box_px_4 for _, box_px_4 in taken] == boxes_N4.tolist()
        ids = [track_id for track_id, _ in taken]
        assert len(set(ids)) == len(ids), "no track has two faces in one frame"
    seen = [track_id for taken in steps for track_id, _ in taken]
    assert list(dict.fromkeys(seen)) == list(range(len(set(seen)))), "ids count up as they appear"


far_apart = st.lists(
    st.tuples(st.integers(0, 3), st.integers(-2, 2), st.integers(-2, 2)),
    min_size=1,
    max_size=4,
    unique_by=lambda place: place[0],
)


@given(st.lists(far_apart, min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_tracks_do_not_depend_on_the_order_of_detections(sequence, random):
    """Faces that wobble in places far apart: the same boxes share a track, however listed."""
    frames = [[box(50.0 * slot + x, float(y)) for slot, x, y in places] for places in sequence]
    shuffled = [random.sample(boxes, len(boxes)) for boxes in frames]

    def tracks(listed: list[list[list[float]]]) -> set[frozenset[tuple[int, tuple[float, ...]]]]:
        members: dict[int, set[tuple[int, tuple[float, ...]]]] = {}
        for i, taken in enumerate(steps_of([np.array(boxes) for boxes in listed])):
            for track_id, box_px_4 in taken:
                members.setdefault(track_id, set()).add((i, tuple(box_px_4)))
        return {frozenset(one) for one in members.values()}

    assert tracks(shuffled) == tracks(frames)


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 9))
def test_a_face_that_enters_or_leaves_changes_no_other_track(first, length, beside_px):
    """The one beside it stays where it is; it comes to within overlap and goes again."""
    frames = [found(box(0))] * 12
    for i in range(first, first + length):
        frames[i] = found(box(0), box(float(beside_px), 9.5))
    ids = run(frames)
    assert all(taken[0] == 0 for taken in ids)
    assert {taken[1] for taken in ids if len(taken) == 2} == {1}


def test_faces_that_swap_places_between_two_frames_swap_tracks():
    """Boxes are all that is known: a swap within one frame cannot be told from standing still."""
    frames = [found(box(0), box(30))] * 3 + [found(box(30), box(0))] * 3
    assert run(frames) == [[0, 1]] * 3 + [[1, 0]] * 3


@pytest.mark.parametrize("step_px", [1.0, 3.0, 5.0])
def test_a_fast_swap_seen_on_the_way_keeps_the_tracks(step_px):
    """Half overlaid at the most, one passes above the other, at up to half a face per frame."""
    num = int(40 / step_px) + 1
    frames = [found(box(step_px * i), box(40 - step_px * i, y=6.0)) for i in range(num)]
    assert run(frames) == [[0, 1]] * num


@given(st.floats(0.0, 1.0))
def test_blend_is_linear_in_time_and_exact_at_the_ends(share):
    points = np.arange(10, dtype=np.float32).reshape(5, 2)
    a = Observation(0, 1.0, np.array(box(0), np.float32), points, 0.5)
    b = Observation(9, 3.0, np.array(box(20), np.float32), points * 3, 1.0)
    mid = a.blend(b, 4, 1.0 + 2.0 * share)
    assert mid.tick == 4 and mid.score == pytest.approx(0.5 + share / 2, abs=1e-5)
    np.testing.assert_allclose(mid.box_px_4, box(20 * share), atol=1e-4)
    np.testing.assert_allclose(mid.landmarks_px_52, points * (1 + 2 * share), atol=1e-4)


def track(track_id: int, ticks: list[int], side: float, score: float = 1.0) -> FaceTrack:
    present_T = np.isin(np.arange(10), ticks)
    boxes_T4 = np.full((10, 4), np.nan, np.float32)
    boxes_T4[present_T] = box(0, 0, side)
    scores_T = np.where(present_T, score, np.nan).astype(np.float32)
    return FaceTrack(
        track_id, False, present_T, boxes_T4, np.full((10, 5, 2), np.nan, np.float32), scores_T
    )


@pytest.mark.parametrize(
    ("tracks", "main"),
    [
        ([], None),
        ([track(0, [1], 10)], 0),
        ([track(0, [1, 2], 10), track(1, [1, 2, 3], 10)], 1),
        ([track(0, [1, 2], 20), track(1, [1, 2, 3], 10)], 0),
        ([track(0, [1, 2], 20, 0.4), track(1, [1, 2], 10)], 1),
        ([track(4, [1, 2], 10), track(2, [5, 6], 10)], 2),
    ],
    ids=["none", "one", "longer", "larger", "surer", "tie"],
)
def test_main_track_rule(tracks, main):
    assert main_track(tracks) == main


@given(st.permutations(list(range(4))))
def test_main_track_does_not_depend_on_order(order):
    tracks = [track(0, [1, 2], 9), track(1, [1], 30), track(2, [0, 1, 2, 3], 12), track(3, [4], 8)]
    assert main_track([tracks[i] for i in order]) == 2


@pytest.mark.parametrize("options", [{"min_iou": 0.0}, {"bridge_iou": 1.5}, {"max_gap_s": -1.0}])
def test_options_that_cannot_be_are_refused(options):
    with pytest.raises(UserError, match="expected"):
        LinkConfig(**options)
