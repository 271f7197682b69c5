"""All scores of a run against scikit-learn, with and without the class Other."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import numpy as np
import pytest
import scipy.special
import sklearn.metrics

from erray.evaluation.clips import LabelledClips
from erray.evaluation.scores import LevelScores, RunScores, plain, score_run
from erray.labels import BASIC_7, CEXPR_7, CEXPR_8
from erray.metrics import CLIP_RULES, challenge_f1
from tests.unit.evaluation.made_up import made_up_clips, made_up_rows

OTHER = len(CEXPR_7)


def scored(clips: LabelledClips) -> RunScores:
    return score_run(clips, num_bootstrap=200, seed=0)


def answer(logits_TC: np.ndarray, rule: str) -> int:
    """A clip rule, written out; made-up floats have no ties but those of votes."""
    shares_TC = scipy.special.softmax(logits_TC.astype(float), axis=-1)
    if rule == "majority":
        votes = [(logits_TC.argmax(-1) == c).sum() for c in range(logits_TC.shape[-1])]
        return max(range(len(votes)), key=lambda c: (votes[c], shares_TC.mean(0)[c]))
    return int((shares_TC if rule == "mean_probabilities" else logits_TC).mean(0).argmax())


def check(found: LevelScores, truth: list[int], predicted: list[int], names: tuple[str, ...]):
    classes = range(len(names))
    expected = {
        "accuracy": sklearn.metrics.accuracy_score(truth, predicted),
        "weighted_f1": sklearn.metrics.f1_score(
            truth, predicted, average="weighted", labels=classes, zero_division=0
        ),
        "macro_f1": sklearn.metrics.f1_score(
            truth, predicted, average="macro", labels=classes, zero_division=0
        ),
    }
    if names == CEXPR_7.names:
        expected["challenge_f1"] = expected["macro_f1"]  # every class has clips
    assert {name: i.value for name, i in found.metrics.items()} == pytest.approx(expected)
    for interval in found.metrics.values():
        assert interval.low < interval.value < interval.high
    theirs = sklearn.metrics.precision_recall_fscore_support(
        truth, predicted, labels=classes, zero_division=0
    )
    ours = [(c.precision, c.recall, c.f1.value, c.support) for c in found.per_class]
    np.testing.assert_allclose(np.array(ours).T, theirs)
    assert [c.name for c in found.per_class] == list(names)
    assert found.confusion == (
        sklearn.metrics.confusion_matrix(truth, predicted, labels=classes).tolist()
    )


def test_scores_of_clips_and_frames_are_those_of_scikit_learn():
    clips = made_up_clips(1)
    found = scored(clips)
    truth = clips.label_N.tolist()
    assert (found.num_clips, found.num_groups) == (60, 20)
    for rule in CLIP_RULES:
        predicted = [answer(x_TC, rule) for x_TC in clips.logits]
        check(found.clips[rule], truth, predicted, CEXPR_8.names)
    frame_truth = [c for c, x_TC in zip(truth, clips.logits, strict=True) for _ in x_TC]
    frames = [int(row.argmax()) for x_TC in clips.logits for row in x_TC]
    check(found.frames, frame_truth, frames, CEXPR_8.names)
    assert found.num_frames == len(frames)


def test_without_other_its_clips_and_its_logit_are_gone():
    clips = made_up_clips(2)
    rest = scored(clips).without_other
    assert rest is not None and rest.without_other is None
    kept = [i for i, label in enumerate(clips.label_N) if label != OTHER]
    assert 0 < rest.num_clips == len(kept) < len(clips) and rest.classes == CEXPR_7.names
    truth = [int(clips.label_N[i]) for i in kept]
    for rule in CLIP_RULES:
        predicted = [answer(clips.logits[i][:, :OTHER], rule) for i in kept]
        check(rest.clips[rule], truth, predicted, CEXPR_7.names)
    frames = [int(row[:OTHER].argmax()) for i in kept for row in clips.logits[i]]
    frame_truth = [c for i, c in zip(kept, truth, strict=True) for _ in clips.logits[i]]
    check(rest.frames, frame_truth, frames, CEXPR_7.names)
    # the probabilities are those of seven logits, not seven shares of eight
    seven_NC = np.array([clips.logits[i][:, :OTHER].mean(0, dtype=float) for i in kept])
    expected = scipy.special.softmax(seven_NC, axis=-1).max(-1).mean()
    bins = rest.calibration.bins_before
    assert sum(b.count * (b.confidence or 0) for b in bins) / len(kept) == pytest.approx(expected)


def test_only_the_set_with_other_has_a_second_report():
    assert scored(made_up_clips(3, labels=BASIC_7)).without_other is None
    assert scored(made_up_clips(3, labels=CEXPR_7)).without_other is None
    clips = made_up_clips(3)
    others = clips.only(i for i, c in zip(clips.clip_ids, clips.label_N, strict=True) if c == OTHER)
    assert len(others) == 7 and scored(others).without_other is None


def test_calibration_is_of_the_runs_rule_before_and_after_its_temperature():
    clips = made_up_clips(4, temperature=3.0)
    found = scored(clips).calibration
    mean_NC = np.array([x_TC.mean(0, dtype=float) for x_TC in clips.logits])
    for temperature, error, loss in (
        (1.0, found.error_before, found.loss_before),
        (3.0, found.error_after, found.loss_after),
    ):
        shares_NC = scipy.special.softmax(mean_NC / temperature, axis=-1)
        expected = sklearn.metrics.log_loss(clips.label_N, shares_NC, labels=range(8))
        assert loss == pytest.approx(expected)
        assert 0 < error < 1
    assert found.error_before != found.error_after
    assert sum(b.count for b in found.bins_after) == 60


def test_votes_have_no_temperature_and_no_loss():
    clips = made_up_clips(5, clip_rule="majority", temperature=2.0)
    found = scored(clips).calibration
    assert found.error_before == found.error_after > 0
    assert found.bins_before == found.bins_after
    assert found.loss_before is found.loss_after is None


def test_the_order_of_rows_changes_nothing_and_unlabelled_rows_are_left_out():
    rows = made_up_rows(6)
    unlabelled = [{**row, "clip_id": f"u{row['clip_id']}", "label": None} for row in rows[:9]]
    mixed = [*rows, *unlabelled]
    random.Random(1).shuffle(mixed)
    expected, found = (LabelledClips.from_rows(part) for part in (rows, mixed))
    assert expected is not None and found is not None
    assert plain(scored(found)) == plain(scored(expected))
    assert LabelledClips.from_rows(unlabelled) is None


def perfect(clips: LabelledClips) -> LabelledClips:
    logits = tuple(np.zeros_like(x_TC) for x_TC in clips.logits)
    for label, x_TC in zip(clips.label_N, logits, strict=True):
        x_TC[:, label] = 5
    return replace(clips, logits=logits)


def test_macro_f1_is_over_the_classes_that_have_clips_and_says_so():
    clips = perfect(made_up_clips(9, labels=CEXPR_7))
    few = clips.only(
        i for i, c in zip(clips.clip_ids, clips.label_N, strict=True) if c in (0, 3, 5)
    )
    found = scored(few)
    assert found.macro_f1_rule == "macro F1 over the 3 of 7 classes that have labelled clips"
    for level in (*found.clips.values(), found.frames):
        macro, challenge = level.metrics["macro_f1"], level.metrics["challenge_f1"]
        assert (macro.low, macro.value, macro.high) == (1, 1, 1)
        assert (challenge.low, challenge.value, challenge.high) == pytest.approx((3 / 7,) * 3)
        assert challenge.value == pytest.approx(float(challenge_f1(np.array(level.confusion))))
        assert [c.f1 is None for c in level.per_class] == [c.support == 0 for c in level.per_class]
        assert sum(c.f1 is None for c in level.per_class) == 4
    assert scored(clips).macro_f1_rule == "macro F1 over all 7 classes"
    assert "challenge_f1" not in scored(made_up_clips(9)).frames.metrics  # eight classes
    assert json.loads(json.dumps(plain(found), allow_nan=False))


def test_fewer_than_six_groups_have_no_interval():
    clips = made_up_clips(10)
    few = replace(clips, groups=tuple(f"g{i % 5}" for i in range(len(clips))))
    found = scored(few)
    assert found.num_groups == 5
    for level in (*found.clips.values(), found.frames):
        for interval in (*level.metrics.values(), *(c.f1 for c in level.per_class)):
            assert interval is not None and (interval.low, interval.high) == (None, None)
            assert interval.num_groups == 5


def test_groups_widen_the_intervals():
    clips = made_up_clips(7)
    tripled = replace(
        clips,
        clip_ids=tuple(f"{i}{part}" for i in clips.clip_ids for part in "abc"),
        groups=tuple(i for i in clips.clip_ids for _ in "abc"),
        label_N=clips.label_N.repeat(3),
        logits=tuple(x for x in clips.logits for _ in "abc"),
    )
    alone = replace(tripled, groups=tripled.clip_ids)
    widths = []
    for each in (tripled, alone):
        found = scored(each).clips["mean_logits"].metrics["accuracy"]
        widths.append(found.high - found.low)
    assert widths[0] > 1.4 * widths[1]


def test_plain_scores_are_json():
    found = plain(scored(made_up_clips(8)))
    assert json.loads(json.dumps(found, allow_nan=False))["clips"]["majority"][
        "metrics"
    ].keys() == {
        "accuracy",
        "weighted_f1",
        "macro_f1",
    }
