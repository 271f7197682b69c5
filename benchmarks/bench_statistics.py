"""Statistics: how often noise is called a difference, how often a difference is found, coverage.

Made-up models answer made-up groups of ten clips: a group is hard or easy for both models, and a
little more so for one of them, as chance has it (normal effects on the logit of being right). A
wrong answer is any other class.

1. Level: two equal models, the share of cases with p below 0.05. At most 6 % is the mark. Beside
   it the bootstrap p-value that erray had before: twice the smaller share of resamples on either
   side of 0.
2. Power: one model is right on 0.1 more of the clips; the share of cases that find the better one,
   and that of a paired t-test on the groups' differences in accuracy. Within 0.05 is the mark.
3. Coverage of the 95 % intervals in the cases of part 1: of a score, and of the difference, which
   is 0. Beside it plain percentiles of the same resamples.

With fewer than six groups nothing is decided: their share stands beside.

    .venv/bin/python benchmarks/bench_statistics.py [--cases 3000] [--save]
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from measure import report
from numpy.typing import NDArray
from saving import add_save
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import ttest_1samp

from erray.metrics import METRICS
from erray.statistics import LEVEL, MIN_GROUPS, Metric, Resamples

NUM_GROUPS, NUM_GROUPS_POWER = (2, 5, 12, 25, 100), (25, 100)
GROUP_SIZE, NUM_CLASSES = 10, 4
SHARED, OWN = 0.8, 0.4  # deviations of a group's effect on both models and on one
ACCURACY, DIFFERENCE = 0.5, 0.1
NUM_SAMPLES = 499
MARK_LEVEL, MARK_POWER = 0.06, 0.05
SCORES = ("accuracy", "macro_f1")


@dataclass(frozen=True)
class Case:
    """Labels [N] and the answers of two models, ten clips to a group."""

    label_N: NDArray[np.int64]
    answers: list[NDArray[np.int64]]

    @property
    def group_N(self) -> NDArray[np.int64]:
        return np.arange(len(self.label_N)) // GROUP_SIZE


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=3000, help="of every number of groups")
    add_save(parser)
    options = parser.parse_args()
    level, coverage = {}, {}
    for num_groups in NUM_GROUPS:
        level[num_groups], coverage[num_groups] = equal_models(num_groups, options.cases)
        sys.stderr.write(f"{num_groups} groups: {level[num_groups]} {coverage[num_groups]}\n")
    power = {n: unequal_models(n, options.cases // 2) for n in NUM_GROUPS_POWER}
    rates = [share for row in level.values() for share in row["p_below_0.05"].values()]
    gaps = [row["swaps"] - row["t_test"] for row in power.values()]
    content: dict[str, Any] = {
        "cases": {"level": options.cases, "power": options.cases // 2},
        "level": level,
        "power": power,
        "coverage_of_95": coverage,
        "marks": {"level": MARK_LEVEL, "power_to_t_test": MARK_POWER},
        "met": max(rates) <= MARK_LEVEL and max(map(abs, gaps)) <= MARK_POWER,
    }
    report("statistics", content, save=options.save)


def equal_models(num_groups: int, cases: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parts 1 and 3: shares of cases."""
    mean = effect(ACCURACY)
    truth = {name: expected(METRICS[name]) for name in SCORES}
    found: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for seed in range(cases):
        case = make_case(num_groups, (mean, mean), seed)
        resamples, drawn_S2CC = resample(case, seed), bootstrap(case, seed)
        for name in SCORES:
            metric = METRICS[name]
            gap, one = resamples.difference(metric), resamples.interval(metric)
            scores_S2 = metric(drawn_S2CC)
            differences_S = scores_S2[:, 0] - scores_S2[:, 1]
            found["undecided"][name].append(gap.p_value is None)
            found["below"][name].append(gap.p_value is not None and gap.p_value < LEVEL)
            found["before"][name].append(old_p_value(differences_S) < LEVEL)
            if num_groups >= MIN_GROUPS:
                found["score"][name].append(within(truth[name], one.low, one.high))
                found["difference"][name].append(within(0.0, gap.low, gap.high))
            found["score, plain"][name].append(covers(scores_S2[:, 0], truth[name]))
            found["difference, plain"][name].append(covers(differences_S, 0.0))
    rows = {key: {name: share(of) for name, of in by.items()} for key, by in found.items()}
    level = {
        "p_below_0.05": rows["below"],
        "bootstrap_p_below_0.05": rows["before"],
        "undecided": rows["undecided"]["accuracy"],
    }
    covered = ("score", "difference", "score, plain", "difference, plain")
    return level, {key: rows[key] for key in covered if key in rows}


def unequal_models(num_groups: int, cases: int) -> dict[str, float]:
    """Part 2: shares of cases that find the better model, by accuracy."""
    means = (effect(ACCURACY + DIFFERENCE), effect(ACCURACY))
    swaps, t_test = [], []
    for seed in range(cases):
        case = make_case(num_groups, means, seed)
        swaps.append(resample(case, seed).difference(METRICS["accuracy"]).better is True)
        hits = [(answer_N == case.label_N).reshape(-1, GROUP_SIZE) for answer_N in case.answers]
        test = ttest_1samp(hits[0].mean(1) - hits[1].mean(1), 0)
        t_test.append(test.statistic > 0 and test.pvalue < LEVEL)
    return {"swaps": share(swaps), "t_test": share(t_test)}


def make_case(num_groups: int, means: tuple[float, float], seed: int) -> Case:
    """``means``: of the logits that a model is right."""
    rng = np.random.default_rng((seed, num_groups))
    label_N = rng.integers(0, NUM_CLASSES, num_groups * GROUP_SIZE)
    wrong_2N = (label_N + rng.integers(1, NUM_CLASSES, (2, len(label_N)))) % NUM_CLASSES
    logit_2G = np.array(means)[:, None] + SHARED * rng.standard_normal(num_groups)
    logit_2G += OWN * rng.standard_normal((2, num_groups))
    right_2N = rng.random(wrong_2N.shape) < expit(logit_2G).repeat(GROUP_SIZE, axis=1)
    return Case(label_N, list(np.where(right_2N, label_N, wrong_2N)))


def resample(case: Case, seed: int) -> Resamples:
    return Resamples(
        case.label_N,
        case.answers,
        NUM_CLASSES,
        groups=case.group_N,
        num_samples=NUM_SAMPLES,
        seed=seed,
    )


def effect(accuracy: float) -> float:
    """Mean of the logits with which a model is right on this share of the clips."""
    points, weights = np.polynomial.hermite_e.hermegauss(60)
    spread = points * np.hypot(SHARED, OWN)

    def above(mean: float) -> float:
        return float(weights @ expit(mean + spread) / weights.sum() - accuracy)

    return float(brentq(above, -5, 5))


def expected(metric: Metric) -> float:
    """The score over infinitely many groups: right on ``ACCURACY`` of each class alike."""
    off = (1 - ACCURACY) / (NUM_CLASSES - 1)
    return float(metric(np.full((NUM_CLASSES,) * 2, off) + (ACCURACY - off) * np.eye(NUM_CLASSES)))


def bootstrap(case: Case, seed: int) -> NDArray[np.float64]:
    """Confusion matrices of both models on groups drawn with replacement: [S, 2, C, C]."""
    num_groups = len(case.label_N) // GROUP_SIZE
    rng = np.random.default_rng(seed)
    drawn_SG = rng.multinomial(num_groups, np.full(num_groups, 1 / num_groups), NUM_SAMPLES)
    counts_G2CC = np.zeros((num_groups, 2, NUM_CLASSES, NUM_CLASSES))
    for model, answer_N in enumerate(case.answers):
        np.add.at(counts_G2CC[:, model], (case.group_N, case.label_N, answer_N), 1)
    return np.tensordot(drawn_SG, counts_G2CC, axes=1)


def old_p_value(differences_S: NDArray[np.float64]) -> float:
    smaller = min((differences_S <= 0).sum(), (differences_S >= 0).sum())
    return min(1.0, 2 * float(smaller + 1) / (len(differences_S) + 1))


def covers(samples_S: NDArray[np.float64], truth: float) -> bool:
    low, high = np.quantile(samples_S, [0.025, 0.975])
    return within(truth, float(low), float(high))


def within(value: float, low: float | None, high: float | None) -> bool:
    assert low is not None and high is not None
    return low <= value <= high


def share(of: list[bool]) -> float:
    return round(float(np.mean(of)), 4)


if __name__ == "__main__":
    main()
