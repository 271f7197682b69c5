"""Batches: every window once, the same for the same seed and epoch, whole over all ranks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from erray.training.arrays import ClipPlace, FeatureArrays
from erray.training.batches import (
    Span,
    epoch_batches,
    epoch_views,
    rank_slice,
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


@given(st.lists(st.integers(), max_size=40, unique=True), st.integers(1, 50))
def test_ranks_share_a_batch_out(batch, world_size):
    slices = [rank_slice(batch, rank, world_size) for rank in range(world_size)]
    assert sorted(i for part in slices for i in part) == sorted(batch)
    assert max(map(len, slices)) - min(map(len, slices)) <= 1


def test_spans_are_the_windows_of_labelled_clips():
    arrays = FeatureArrays(Path("/nowhere"))
    places = [(12, 0), (30, UNLABELLED), (10, 2)]
    arrays.__dict__["clips"] = [
        ClipPlace(f"c{i}", "train", "g", label, 0, num_ticks)
        for i, (num_ticks, label) in enumerate(places)
    ]
    spans = training_spans(arrays, window=10, hop=5)
    assert spans == [Span(0, 0, 10), Span(0, 2, 12), Span(2, 0, 10)]
    assert [len(span) for span in spans] == [10, 10, 10]


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
