"""Scores of groups and of lengths against scikit-learn and numpy."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from erray.evaluation.clips import LabelledClips
from erray.report.parts import FEWEST, Parts, make_parts, parts_json

CLASSES = ("a", "b", "c")


def clips(groups: list[str], *, seed: int = 3, skill: float = 1.5) -> LabelledClips:
    rng = np.random.default_rng(seed)
    label_N = rng.integers(0, 3, size=len(groups))
    logits = rng.normal(size=(len(groups), 2, 3)).astype(np.float32)
    logits[np.arange(len(groups)), :, label_N] += skill
    return LabelledClips(
        clip_ids=tuple(f"{i:04d}" for i in range(len(groups))),
        groups=tuple(groups),
        classes=CLASSES,
        label_N=label_N,
        logits=tuple(logits),
        clip_rule="mean_logits",
    )


def parts_of(found: LabelledClips, lengths_s: object = None, metric: str = "macro_f1") -> Parts:
    lengths_s = np.arange(len(found), dtype=float) if lengths_s is None else lengths_s
    return make_parts(found, lengths_s, metric=metric, num_bootstrap=200, seed=0)  # type: ignore[arg-type]


def answers(found: LabelledClips) -> np.ndarray:
    return np.array([x_TC.mean(0).argmax() for x_TC in found.logits])


def test_every_group_has_scikit_learn_s_scores_lowest_first() -> None:
    found = clips(["big"] * 24 + ["small"] * 4 + ["other"] * 12)
    parts, answer_N, groups = parts_of(found), answers(found), np.array(found.groups)
    assert parts.metrics == ["macro_f1", "accuracy"]
    assert {part.name for part in parts.groups} == {"big", "small", "other"}
    values = [part.scores["macro_f1"].value for part in parts.groups]
    assert values == sorted(values)
    for part in parts.groups:
        chosen = groups == part.name
        truth, said = found.label_N[chosen], answer_N[chosen]
        expected = f1_score(truth, said, labels=np.unique(truth), average="macro", zero_division=0)
        assert part.scores["macro_f1"].value == pytest.approx(expected)
        assert part.scores["accuracy"].value == pytest.approx(accuracy_score(truth, said))
        assert (part.num_clips, part.num_groups) == (chosen.sum(), 1)


def test_few_clips_have_no_interval_and_many_have_one_around_the_score() -> None:
    found = clips(["many"] * 40 + ["enough"] * FEWEST + ["few"] * (FEWEST - 1))
    by_name = {part.name: part.scores["accuracy"] for part in parts_of(found).groups}
    assert by_name["few"].interval is None
    for name in ("many", "enough"):
        interval = by_name[name].interval
        assert interval is not None and interval.value == pytest.approx(by_name[name].value)
        assert interval.low < interval.value < interval.high
    # a group's clips are what is drawn: the interval is about that of a binomial share
    interval, value = by_name["many"].interval, by_name["many"].value
    assert interval is not None
    width = 2 * 1.96 * np.sqrt(value * (1 - value) / 40)
    assert interval.high - interval.low == pytest.approx(width, rel=0.25)


def test_one_group_and_a_group_per_clip_are_no_groups() -> None:
    assert parts_of(clips(["same"] * 30)).groups == []
    assert parts_of(clips([f"{i}" for i in range(30)])).groups == []


def test_of_many_groups_the_lowest_and_the_highest_with_enough_clips_are_chosen() -> None:
    sizes = [1] * 5 + [3 + i for i in range(20)]
    found = clips([f"g{i:02d}" for i, size in enumerate(sizes) for _ in range(size)])
    parts = parts_of(found, metric="accuracy")
    assert parts.metrics == ["accuracy"] and parts.many and len(parts.groups) == 25
    assert len(parts.worst) == len(parts.best) == 6
    assert not {p.name for p in parts.worst} & {p.name for p in parts.best}
    assert min(p.num_clips for p in (*parts.worst, *parts.best)) >= 3
    large = sorted(p.scores["accuracy"].value for p in parts.groups if p.num_clips >= 3)
    assert [p.scores["accuracy"].value for p in parts.worst] == large[:6]
    assert [p.scores["accuracy"].value for p in parts.best] == large[-6:]
    few = parts_of(clips(["x"] * 5 + ["y"] * 5))
    assert not few.many and few.worst == few.groups and few.best == []


def test_lengths_are_cut_at_the_quartiles() -> None:
    found = clips([f"g{i // 2}" for i in range(80)])
    lengths_s = np.random.default_rng(5).gamma(2.0, 2.0, size=80)
    parts, answer_N = parts_of(found, lengths_s), answers(found)
    borders_s = np.quantile(lengths_s, [0, 0.25, 0.5, 0.75, 1])
    assert len(parts.lengths) == 4
    for i, length in enumerate(parts.lengths):
        assert (length.low_s, length.high_s) == pytest.approx((borders_s[i], borders_s[i + 1]))
        inside = (lengths_s >= borders_s[i]) & (lengths_s < borders_s[i + 1])
        inside |= (i == 3) & (lengths_s == borders_s[4])
        part = length.part
        assert part.num_clips == inside.sum() == 20
        assert part.num_groups == len(set(np.array(found.groups)[inside]))
        value = accuracy_score(found.label_N[inside], answer_N[inside])
        assert part.scores["accuracy"].value == pytest.approx(value)
        assert (part.scores["accuracy"].interval is None) == (part.num_groups < FEWEST)
        assert part.name == f"{borders_s[i]:.1f} to {borders_s[i + 1]:.1f} s"


def test_equal_lengths_are_one_range_and_every_clip_is_in_one() -> None:
    found = clips(["a", "b"] * 20)
    assert parts_of(found, [2.0] * 40).lengths == []
    parts = parts_of(found, [2.0] * 30 + [5.0] * 10)
    assert sum(length.part.num_clips for length in parts.lengths) == 40
    assert [length.part.num_clips for length in parts.lengths] == [30, 10]
    short = parts_of(found, np.linspace(0.1, 0.3, 40))
    assert short.lengths[0].part.name == "0.10 to 0.15 s"
    assert parts_of(clips(["a", "b"] * 4)).lengths == []  # 8 clips are too few to cut


def test_the_rule_of_the_run_decides() -> None:
    found = clips(["a", "b"] * 20, skill=0.4)
    voted = replace(found, clip_rule="majority")
    for rule in (found, voted):
        hits = rule.predicted(rule.clip_rule) == rule.label_N
        parts = parts_of(rule, metric="accuracy")
        sums = sum(p.num_clips * p.scores["accuracy"].value for p in parts.groups)
        assert sums == pytest.approx(hits.sum())


def test_json_is_plain_numbers_with_null_for_no_interval() -> None:
    plain = parts_json(parts_of(clips(["many"] * 20 + ["few"] * 3)))
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    by_name = {row["group"]: row for row in plain["by_group"]}
    assert by_name["few"]["accuracy"]["low"] is None and by_name["few"]["num_clips"] == 3
    many = by_name["many"]["accuracy"]
    assert many["low"] <= many["value"] <= many["high"]
    assert {"low_s", "high_s", "num_clips", "num_groups", "macro_f1", "accuracy"} == set(
        plain["by_length"][0]
    )
