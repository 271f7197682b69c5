"""Batches: every window once, the same for the same seed and epoch, whole over all ranks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from erray.training.arrays import ClipPlace, FeatureArrays
from erray.training.batches import (
    Span,
    dropped_streams,
    epoch_batches,
    epoch_steps,
    epoch_views,
    rank_slice,
    share_of_clips,
    training_spans,
)
from erray.windows import UNLABELLED

lengths = st.lists(st.integers(1, 300), min_size=1, max_size=150)
sizes, seeds, epochs = st.integers(1, 20), st.integers(0, 2**31), st.integers(0, 500)


@given(lengths, sizes, seeds, epochs)
def test_every_position_is_in_one_batch(lengths, size, seed, epoch):
    batches = epoch_batches(lengths, size, seed=seed, epoch=epoch)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert all(1 <= len(batch) <= size for batch in batches)
    assert len(batches) == -(-len(lengths) // size), "no more steps than needed"


@given(lengths, sizes, seeds, epochs)
def test_seed_and_epoch_alone_decide(lengths, size, seed, epoch):
    first = epoch_batches(lengths, size, seed=seed, epoch=epoch)
    assert first == epoch_batches(list(lengths), size, seed=seed, epoch=epoch)


@given(seeds, epochs)
def test_another_epoch_or_seed_is_another_order(seed, epoch):
    first = epoch_batches([10] * 40, 4, seed=seed, epoch=epoch)
    assert first != epoch_batches([10] * 40, 4, seed=seed, epoch=epoch + 1)
    assert first != epoch_batches([10] * 40, 4, seed=seed + 1, epoch=epoch)


def test_alike_lengths_lie_together():
    """One group of batches, half short and half long windows: no batch has both."""
    lengths = [5, 300] * 16
    for epoch in range(5):
        for batch in epoch_batches(lengths, 4, seed=0, epoch=epoch):
            assert len({lengths[i] for i in batch}) == 1


def test_few_windows_meet_others_in_another_epoch():
    """All in one group, no two of one length: sorting alone would make the same batches again."""
    lengths = list(range(200, 220))
    batches = [epoch_batches(lengths, 4, seed=0, epoch=epoch) for epoch in range(2)]
    first, second = ({frozenset(batch) for batch in of_epoch} for of_epoch in batches)
    assert first != second


@given(st.lists(st.integers(), max_size=40, unique=True), st.integers(1, 50))
def test_ranks_share_a_batch_out(batch, world_size):
    slices = [rank_slice(batch, rank, world_size) for rank in range(world_size)]
    assert sorted(i for part in slices for i in part) == sorted(batch)
    assert max(map(len, slices)) - min(map(len, slices)) <= 1


@given(lengths, sizes, st.integers(1, 5), seeds, epochs)
def test_a_step_has_the_windows_of_one_large_batch(lengths, size, accumulate, seed, epoch):
    steps = epoch_steps(lengths, size, accumulate, seed=seed, epoch=epoch)
    large = epoch_batches(lengths, size * accumulate, seed=seed, epoch=epoch)
    assert [[i for batch in step for i in batch] for step in steps] == large
    assert all(len(step) <= accumulate for step in steps)
    assert all(1 <= len(batch) <= size for step in steps for batch in step)


def arrays_of(places):
    """Arrays that have clips of the given ticks and labels, and no values."""
    arrays = FeatureArrays(Path("/nowhere"))
    arrays.__dict__["clips"] = [
        ClipPlace(f"c{i}", "train", "g", label, 0, num_ticks)
        for i, (num_ticks, label) in enumerate(places)
    ]
    return arrays


def test_spans_are_the_windows_of_labelled_clips():
    arrays = arrays_of([(12, 0), (30, UNLABELLED), (10, 2)])
    spans = training_spans(arrays, window=10, hop=5)
    assert spans == [Span(0, 0, 10), Span(0, 2, 12), Span(2, 0, 10)]
    assert [len(span) for span in spans] == [10, 10, 10]
    assert training_spans(arrays, window=10, hop=5, clips=[1, 2]) == [Span(2, 0, 10)]


labels_of_clips = st.lists(st.integers(UNLABELLED, 4), min_size=1, max_size=80)


@given(labels_of_clips, st.floats(0.1, 100), seeds)
def test_a_share_of_every_class_and_at_least_one_clip(labels, percent, seed):
    arrays = arrays_of([(1, label) for label in labels])
    chosen = share_of_clips(arrays, percent, seed=seed)
    assert chosen == sorted(set(chosen))
    for label in set(labels):
        num_kept = sum(labels[i] == label for i in chosen)
        assert num_kept == max(1, round(labels.count(label) * percent / 100))
    larger = share_of_clips(arrays, min(100.0, percent * 1.5), seed=seed)
    assert set(chosen) <= set(larger)
    assert share_of_clips(arrays, 100.0, seed=seed) == list(range(len(labels)))


def test_another_seed_is_another_share():
    arrays = arrays_of([(1, 0)] * 100)
    assert share_of_clips(arrays, 50.0, seed=0) != share_of_clips(arrays, 50.0, seed=1)


STREAMS = ("ir50", "vggish", "bert")


@given(st.lists(st.booleans(), min_size=3, max_size=3), st.floats(0, 0.99), seeds, epochs)
def test_one_stream_with_data_always_stays(has, chance, seed, epoch):
    has_data = dict(zip(STREAMS, has, strict=True))
    dropped = dropped_streams(has_data, chance, Span(3, 40, 50), seed=seed, epoch=epoch)
    with_data = {name for name in STREAMS if has_data[name]}
    assert dropped <= with_data
    assert not with_data or dropped != with_data
    again = dict(reversed(has_data.items()))
    assert dropped_streams(again, chance, Span(3, 40, 50), seed=seed, epoch=epoch) == dropped


def test_streams_are_dropped_as_often_as_asked_and_each_on_its_own():
    has_data = dict.fromkeys(STREAMS, True)
    windows = [Span(clip, start, start + 10) for clip in range(60) for start in range(0, 200, 5)]
    drawn = [dropped_streams(has_data, 0.3, span, seed=0, epoch=2) for span in windows]
    # a stream goes with chance 0.3, except where all three would: then each stays once in three
    expected = 0.3 - 0.3**3 / 3
    for name in STREAMS:
        share = np.mean([name in dropped for dropped in drawn])
        assert abs(share - expected) < 4 * (0.25 / len(windows)) ** 0.5
    pairs = np.mean([{"ir50", "bert"} <= dropped for dropped in drawn])
    assert abs(pairs - 0.3**2 * (0.7 + 0.3 / 3)) < 4 * (0.25 / len(windows)) ** 0.5
    other = [dropped_streams(has_data, 0.3, span, seed=0, epoch=3) for span in windows]
    assert drawn != other


@given(st.integers(1, 200), seeds, epochs)
def test_views_depend_on_seed_epoch_and_stream_alone(num_clips, seed, epoch):
    several = {"ir50": 4, "facenet": 3, "hog": 1}
    drawn = epoch_views(num_clips, several, seed=seed, epoch=epoch)
    assert drawn.keys() == {"ir50", "facenet"}
    for stream, view in drawn.items():
        assert len(view) == num_clips and set(view.tolist()) <= set(range(several[stream]))
        alone = epoch_views(num_clips, {stream: several[stream]}, seed=seed, epoch=epoch)
        assert np.array_equal(alone[stream], view)


def test_every_view_is_drawn_and_epochs_differ():
    first = epoch_views(400, {"ir50": 4}, seed=0, epoch=0)["ir50"]
    assert np.bincount(first).min() > 60
    assert not np.array_equal(first, epoch_views(400, {"ir50": 4}, seed=0, epoch=1)["ir50"])
