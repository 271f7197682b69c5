"""Two runs compared, against scikit-learn and counts by hand; what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from erray.errors import UserError
from erray.evaluation.clips import LabelledClips
from erray.evaluation.comparison import Comparison, common_clips, compare, require_same_clips
from erray.labels import CEXPR_7, CEXPR_8
from erray.metrics import METRICS
from tests.unit.evaluation.made_up import made_up_clips

NAMES, REMEDY = ("one", "two"), "read more"


def compared(a: LabelledClips, b: LabelledClips, rule: str | None = None) -> Comparison:
    require_same_clips(a, b, names=NAMES, remedy=REMEDY)
    return compare(a, b, metrics=list(METRICS), rule=rule, num_bootstrap=500, seed=0)


def test_a_better_run_is_better_in_everything():
    a, b = made_up_clips(1, skill=3.0), made_up_clips(2, skill=0.5)
    found = compared(a, b)
    truth, (of_a, of_b) = a.label_N, (x.predicted("mean_logits") for x in (a, b))
    for average in ("weighted", "macro"):
        scores = [
            sklearn.metrics.f1_score(truth, x, average=average, zero_division=0)
            for x in (of_a, of_b)
        ]
        row = found.clips[f"{average}_f1"]
        assert (row.a.value, row.b.value) == pytest.approx(tuple(scores))
        assert row.difference.difference == pytest.approx(scores[0] - scores[1])
        assert row.difference.low > 0 and row.difference.p_value < 0.05
    right_a, right_b = of_a == truth, of_b == truth
    assert found.both_right == sum(right_a & right_b)
    assert found.both_wrong == sum(~right_a & ~right_b)
    assert found.agreement == pytest.approx(np.mean(of_a == of_b))
    only_a, only_b = sum(right_a & ~right_b), sum(right_b & ~right_a)
    assert (found.mcnemar.only_a, found.mcnemar.only_b) == (only_a, only_b)
    assert only_a + only_b >= 25 and found.mcnemar.p_value == pytest.approx(
        scipy.stats.chi2.sf((abs(only_a - only_b) - 1) ** 2 / (only_a + only_b), 1)
    )
    assert found.both_right + found.both_wrong + only_a + only_b == found.num_clips == 60


def test_classes_that_differ_most_come_first():
    a = made_up_clips(3, skill=9.0)
    logits = tuple(
        np.roll(x_TC, 1, axis=-1) if label == 4 else x_TC
        for x_TC, label in zip(a.logits, a.label_N, strict=True)
    )
    found = compared(a, replace(a, logits=logits))
    assert found.classes[0].name == CEXPR_8.names[4]
    gaps = [abs(change.f1.difference.difference) for change in found.classes]
    assert gaps == sorted(gaps, reverse=True) and gaps[0] == pytest.approx(1)
    assert {change.name: change.support for change in found.classes} == {
        name: int((a.label_N == i).sum()) for i, name in enumerate(CEXPR_8.names)
    }


def test_classes_are_corrected_for_their_number_and_those_without_clips_are_left_out():
    a, b = made_up_clips(13, skill=1.5), made_up_clips(14, skill=0.3)
    found = compared(a, b)
    p_values = sorted(change.f1.difference.p_value for change in found.classes)
    by_p = sorted(found.classes, key=lambda change: change.f1.difference.p_value)
    expected = np.minimum(1, np.maximum.accumulate(np.array(p_values) * np.arange(8, 0, -1)))
    assert [change.f1.difference.p_holm for change in by_p] == pytest.approx(expected.tolist())
    kept = [i for i, label in zip(a.clip_ids, a.label_N, strict=True) if label != 2]
    fewer = compared(a.only(kept), b.only(kept))
    assert CEXPR_8.names[2] not in {change.name for change in fewer.classes}
    assert fewer.macro_f1_rule == "macro F1 over the 7 of 8 classes that have labelled clips"
    assert all(row.difference.p_holm is None for row in found.clips.values())


def test_fewer_than_six_groups_decide_nothing():
    a, b = made_up_clips(1, skill=3.0), made_up_clips(2, skill=0.5)
    groups = tuple(f"g{i % 2}" for i in range(60))
    found = compared(replace(a, groups=groups), replace(b, groups=groups))
    rows = [*found.clips.values(), *(found.frames or {}).values()]
    rows += [change.f1 for change in found.classes]
    for row in rows:
        gap = row.difference
        assert (gap.low, gap.high, gap.p_value, gap.p_holm) == (None,) * 4
        assert gap.num_groups in (1, 2) and row.a.low is row.b.low is None
    assert found.clips["accuracy"].difference.difference > 0.3


def test_a_run_does_not_differ_from_itself():
    a = made_up_clips(4)
    found = compared(a, a)
    for row in (*found.clips.values(), *(found.frames or {}).values()):
        gap = row.difference
        assert (gap.difference, gap.low, gap.high, gap.p_value) == (0, 0, 0, 1)
    assert found.agreement == 1 and found.mcnemar.p_value == 1


def test_the_other_way_round_is_the_other_sign():
    a, b = made_up_clips(5), made_up_clips(6)
    there, back = compared(a, b), compared(b, a)
    for metric, row in there.clips.items():
        gap, turned = row.difference, back.clips[metric].difference
        assert gap.difference == pytest.approx(-turned.difference)
        assert gap.p_value == turned.p_value
        assert (row.a.value, row.b.value) == (
            back.clips[metric].b.value,
            back.clips[metric].a.value,
        )
    assert there.mcnemar.p_value == back.mcnemar.p_value


def test_each_run_has_its_own_rule_unless_one_is_given():
    a, b = made_up_clips(7), made_up_clips(7, clip_rule="majority")
    assert compared(a, b).rules == ("mean_logits", "majority")
    found = compared(a, b, rule="majority")
    assert found.rules == ("majority", "majority") and found.agreement == 1
    with pytest.raises(UserError, match="no clip rule named 'votes'"):
        compared(a, b, rule="votes")
    with pytest.raises(UserError, match="no metric named 'f2'"):
        compare(a, b, metrics=["f2"], rule=None, num_bootstrap=100, seed=0)


def test_without_other_is_compared_too():
    found = compared(made_up_clips(8), made_up_clips(9)).without_other
    assert found is not None and found.class_names == CEXPR_7.names
    assert found.num_clips == 53 and found.without_other is None
    seven = made_up_clips(8, labels=CEXPR_7)
    assert compared(seven, seven).without_other is None


def test_runs_of_other_clocks_are_compared_by_clips_alone():
    a = made_up_clips(10)
    slow = replace(a, logits=tuple(x_TC[:1] for x_TC in a.logits))
    found = compared(a, slow)
    assert found.frames is None and set(found.clips) == set(METRICS)


def test_what_does_not_fit_is_refused_by_name():
    a = made_up_clips(11)
    with pytest.raises(UserError, match="one and two have different label sets"):
        require_same_clips(a, made_up_clips(11, labels=CEXPR_7), names=NAMES, remedy=REMEDY)
    fewer = a.only(a.clip_ids[5:])
    with pytest.raises(
        UserError, match=r"5 only in one \(clip000, clip001, clip002, ...\); read more"
    ):
        require_same_clips(a, fewer, names=NAMES, remedy=REMEDY)
    relabelled = replace(a, label_N=(a.label_N + (np.arange(60) == 3)))
    with pytest.raises(UserError, match=r"another label for 1 clips: clip003 \(Disgustedly Sur"):
        require_same_clips(a, relabelled, names=NAMES, remedy=REMEDY)
    regrouped = replace(a, groups=("x", *a.groups[1:]))
    with pytest.raises(UserError, match=r"another group for 1 clips: clip000 \(group0 against x\)"):
        require_same_clips(a, regrouped, names=NAMES, remedy=REMEDY)


def test_the_clips_that_both_have():
    a = made_up_clips(12)
    shared = common_clips(a.only(a.clip_ids[5:]), a.only(a.clip_ids[:50]), names=NAMES)
    assert shared[0].clip_ids == shared[1].clip_ids == a.clip_ids[5:50]
    assert compared(*shared).num_clips == 45
    with pytest.raises(UserError, match="one and two have no labelled clip in common"):
        common_clips(a.only(a.clip_ids[:5]), a.only(a.clip_ids[5:]), names=NAMES)
