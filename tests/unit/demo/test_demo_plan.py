"""The plan of the demo corpus: balance, groups, and nothing that gives the answer away."""

from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erray.demo.plan import FRAME_RANGE, ClipPlan, plan_corpus
from erray.demo.transcript import HINTS
from erray.labels import CEXPR_7, COMPOUND_PAIRS

DEFAULT = {"train": 84, "val": 28, "test": 70, "challenge": 12}


def _by_split(plans: list[ClipPlan]) -> dict[str, list[ClipPlan]]:
    splits: dict[str, list[ClipPlan]] = defaultdict(list)
    for plan in plans:
        splits[plan.split].append(plan)
    return splits


def test_default_corpus_has_the_promised_counts() -> None:
    splits = _by_split(plan_corpus(0, DEFAULT))
    assert {split: len(plans) for split, plans in splits.items()} == DEFAULT
    for split, per_class in (("train", 12), ("val", 4), ("test", 10)):
        assert Counter(p.label for p in splits[split]) == dict.fromkeys(CEXPR_7.names, per_class)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    counts=st.lists(st.integers(0, 40), min_size=4, max_size=4),
)
def test_plan_of_any_size_keeps_the_rules(seed: int, counts: list[int]) -> None:
    num_clips = dict(zip(DEFAULT, counts, strict=True))
    plans = plan_corpus(seed, num_clips)
    assert plans == plan_corpus(seed, num_clips)
    assert [p.index for p in plans] == list(range(sum(counts)))
    assert len({p.media for p in plans}) == len(plans)

    groups: dict[int, list[ClipPlan]] = defaultdict(list)
    for plan in plans:
        groups[plan.group].append(plan)
        assert sorted((plan.face_emotion, plan.voice_emotion)) == sorted(COMPOUND_PAIRS[plan.label])
        assert FRAME_RANGE[0] <= plan.num_frames <= FRAME_RANGE[1]
    for members in groups.values():
        assert len({p.split for p in members}) == 1
        assert len({p.portrait for p in members}) == 1
        assert len({p.transcript.split(",")[0] for p in members}) == 1

    for split, members in _by_split(plans).items():
        classes = Counter(p.label for p in members)
        assert max(classes.values()) - min(classes[name] for name in CEXPR_7.names) <= 1, split
        if len(members) >= 4:
            assert {p.portrait for p in members} == {0, 1}


def test_groups_have_two_to_four_clips_of_several_classes() -> None:
    groups: dict[int, list[str]] = defaultdict(list)
    for plan in plan_corpus(0, DEFAULT):
        groups[plan.group].append(plan.label)
    assert {len(labels) for labels in groups.values()} == {2, 3, 4}
    assert all(len(set(labels)) == len(labels) for labels in groups.values())


def test_another_seed_casts_other_roles() -> None:
    def roles(seed: int) -> list[tuple[str, str, int]]:
        return [(p.label, p.face_emotion, p.num_frames) for p in plan_corpus(seed, DEFAULT)]

    assert roles(0) != roles(1)


@pytest.mark.parametrize("stream", ["face_emotion", "voice_emotion"])
def test_one_stream_cannot_tell_the_class(stream: str) -> None:
    """The best rule on one stream names the commonest class of each emotion: 3/7 at most."""
    plans = [p for p in plan_corpus(0, DEFAULT) if p.split == "train"]
    classes: dict[str, Counter[str]] = defaultdict(Counter)
    for plan in plans:
        classes[getattr(plan, stream)][plan.label] += 1
    best = sum(counts.most_common(1)[0][1] for counts in classes.values()) / len(plans)
    assert best == pytest.approx(3 / 7)


def test_both_streams_tell_the_class() -> None:
    labels: dict[frozenset[str], set[str]] = defaultdict(set)
    for plan in plan_corpus(3, DEFAULT):
        labels[frozenset((plan.face_emotion, plan.voice_emotion))].add(plan.label)
    assert len(labels) == 7
    assert all(len(names) == 1 for names in labels.values())


def test_portrait_and_class_are_balanced_in_training() -> None:
    plans = [p for p in plan_corpus(0, DEFAULT) if p.split == "train"]
    ways = Counter((p.label, p.face_emotion, p.portrait) for p in plans)
    assert len(ways) == 7 * 2 * 2
    assert set(ways.values()) == {3}


def test_half_of_the_transcripts_hint_at_the_voice() -> None:
    for split, plans in _by_split(plan_corpus(0, DEFAULT)).items():
        hinting = 0
        for plan in plans:
            hinted = {
                emotion
                for emotion, endings in HINTS.items()
                if any(plan.transcript.endswith(ending) for ending in endings)
            }
            assert hinted <= {plan.voice_emotion}
            hinting += bool(hinted)
        assert abs(hinting - len(plans) / 2) <= 0.5, split


def test_length_says_nothing_about_the_class() -> None:
    lengths: dict[str, list[int]] = defaultdict(list)
    for plan in plan_corpus(0, {"train": 700}):
        lengths[plan.label].append(plan.num_frames)
    means = [sum(values) / len(values) for values in lengths.values()]
    # The standard error of a mean of 100 lengths is about 1.2 frames.
    assert max(means) - min(means) < 6
