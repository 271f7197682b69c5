"""Verdicts: by the holdout alone, and optimistic where the clips chose the version."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from erray.corpora import holdout
from erray.errors import UserError
from erray.flow.promotion import Decision, Judged, compare_kept, told, verdict
from erray.metrics import score
from erray.registry import Version
from erray.statistics import MIN_GROUPS
from tests.unit.evaluation.made_up import made_up_rows

WEAK, GOOD, BEST = 0.0, 1.5, 4.0
NAMES = ("films version 2", "films version 1")
Rows = list[dict[str, Any]]


def kept(skill: float, *, apart: int = 8, of_val: float | None = None, seed: int = 0) -> Rows:
    """A version's rows: 20 groups of three clips, the first ``apart`` of them the holdout.

    Val is predicted with another skill where ``of_val`` is given.
    """
    rows = made_up_rows(seed, skill=skill, split="holdout")
    rest = made_up_rows(seed, skill=skill if of_val is None else of_val, split="val")
    return rows[: 3 * apart] + rest[3 * apart :]


def judged(a: Rows, b: Rows) -> Judged:
    return compare_kept(a, b, names=NAMES, metrics=["accuracy"])


def decided(a: Rows, b: Rows) -> tuple[bool, str]:
    return verdict(judged(a, b), "accuracy", names=NAMES)


def test_the_holdout_alone_decides():
    # val says the opposite, and more of it
    better, why = decided(kept(BEST, of_val=WEAK), kept(WEAK, of_val=BEST, seed=1))
    assert better and why.startswith("accuracy on 24 holdout clips 1.000, films version 1 has 0.")
    many, why = decided(kept(BEST, apart=20), kept(WEAK, apart=20, seed=1))
    assert many and why.endswith(", p < 0.001")
    worse, why = decided(kept(WEAK, of_val=BEST), kept(GOOD, of_val=WEAK, seed=1))
    assert not worse and why.endswith("promotion needs p below 0.05")


def test_fewer_than_six_groups_decide_nothing():
    best, weak = (kept(skill, apart=MIN_GROUPS - 1, seed=i) for i, skill in enumerate((BEST, WEAK)))
    better, why = decided(best, weak)
    assert not better and "undecided (5 groups); the test of a difference needs 6 groups" in why
    six = (kept(skill, apart=MIN_GROUPS, seed=i) for i, skill in enumerate((BEST, WEAK)))
    assert decided(*six)[0]
    # a holdout is never too small for a verdict
    assert holdout.MIN_GROUPS == MIN_GROUPS


def test_the_scores_are_those_of_the_holdout():
    a, b = kept(GOOD), kept(WEAK, seed=1)
    found = judged(a, b)
    assert (found.split, found.seen, found.found.num_groups) == ("holdout", (0, 0), 8)
    for rows, scored in (
        (a, found.found.clips["accuracy"].a),
        (b, found.found.clips["accuracy"].b),
    ):
        part = [row for row in rows if row["split"] == "holdout"]
        classes = part[0]["classes"]
        label, predicted = (
            np.array([classes.index(row[column]) for row in part])
            for column in ("label", "predicted")
        )
        assert scored.value == pytest.approx(score("accuracy", label, predicted, len(classes)))


def test_a_version_without_a_holdout_is_optimistic_however_good_it_is():
    for champion in (kept(WEAK, apart=0), kept(WEAK, apart=8)):
        better, why = decided(kept(BEST, apart=0), champion)
        assert not better and why.startswith("optimistic: accuracy on ")
        assert "chose epoch and settings of films version 2" in why
        assert "corpus.holdout_share, at least 12 groups in val" in why


def test_a_champion_whose_val_holds_the_slice_may_be_beaten_and_it_is_said():
    better, why = decided(kept(BEST), kept(WEAK, apart=0, seed=1))
    assert better
    assert why.endswith("24 of these clips chose the epoch of films version 1, which favours it")


def test_of_two_shares_the_smaller_one_is_fair_to_both():
    for shares in ((8, 12), (12, 8)):
        found = judged(*(kept(GOOD, apart=apart, seed=apart) for apart in shares))
        assert (found.found.num_groups, found.seen) == (8, (0, 0))


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([], kept(GOOD), "films version 2 keeps no predictions of val"),
        (
            kept(GOOD),
            kept(GOOD)[24:],
            "24 only in films version 2",
        ),
        (kept(GOOD), kept(GOOD)[1:], "1 only in films version 2 .clip000."),
    ],
)
def test_what_does_not_cover_the_same_clips_is_refused_by_name(a, b, message):
    with pytest.raises(UserError, match=message):
        judged(a, b)


def test_what_is_not_promoted_names_the_model_and_the_command():
    version = Version("films", "2", "run", 0.0, (), {})
    line = told(Decision(version, "champion", None, "it is worse"))
    assert line == (
        "films version 2 is not promoted to champion: it is worse; `erray registry promote "
        "models:/films/2 --alias champion --force --why REASON` moves it anyway"
    )
