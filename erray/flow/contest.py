"""Two sides of runs that share their seeds: what one's test scores are above the other's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from erray.flow.spread import Answers, answers, scores, spread
from erray.metrics import METRICS, macro_f1_rule
from erray.statistics import Resamples
from erray.training.job import TrainJob
from erray.training.runs import TrainingRun, all_rejected

SPLIT = "test"


@dataclass(frozen=True)
class Contender:
    """One run of one side."""

    side: Literal["tuned", "recipe"]
    seed: int
    job: TrainJob
    run: TrainingRun


def contest(
    contenders: Sequence[Contender], *, num_bootstrap: int, seed: int
) -> dict[str, Any] | None:
    """Compare the sides on the labelled test clips; None where there are none.

    A score is of the predictions of all seeds together. Both sides are scored on the same
    resamples of groups, so that a clip predicted with several seeds does not count as several.
    A clip that one run has rejected is left out of all.

    Returns:
        ``split``, ``rejected`` (clip id to reason), ``seeds``, ``macro_f1_rule`` (which classes of
        the clips macro F1 is the mean over), ``runs`` (side, seed, run, best epoch, scores) and
        ``scores``: level to metric to ``tuned`` and ``recipe`` with intervals, ``difference`` and,
        by side, mean and deviation over seeds (see :func:`erray.flow.spread.spread`).
    """
    rejected = all_rejected([c.run for c in contenders])
    said = {(c.side, c.seed): answers(c.run, without=rejected).get(SPLIT) for c in contenders}
    whole = {key: levels for key, levels in said.items() if levels is not None}
    if len(whole) < len(contenders):
        return None
    of_side = {
        side: {seed: levels for (other, seed), levels in whole.items() if other == side}
        for side in ("tuned", "recipe")
    }
    seeds = list(of_side["tuned"])
    assert seeds == list(of_side["recipe"]), "the sides share their seeds"
    spreads = {
        side: spread({(None, s): scores(levels) for s, levels in runs.items()})
        for side, runs in of_side.items()
    }
    settings = {"num_samples": num_bootstrap, "seed": seed}
    first = of_side["tuned"][seeds[0]]["clip"]
    return {
        "split": SPLIT,
        "rejected": rejected,
        "seeds": seeds,
        "macro_f1_rule": macro_f1_rule(first.label_N, first.num_classes),
        "runs": [
            {
                "side": c.side,
                "seed": c.seed,
                "run": c.run.full_name,
                "best_epoch": c.run.history()["best_epoch"],
                "scores": scores(whole[c.side, c.seed]),
            }
            for c in contenders
        ],
        "scores": {
            level: _compared(
                [of_side["tuned"][s][level] for s in seeds],
                [of_side["recipe"][s][level] for s in seeds],
                {side: found[level] for side, found in spreads.items()},
                settings,
            )
            for level in spreads["tuned"]
        },
    }


def _compared(
    tuned: list[Answers],
    recipe: list[Answers],
    spreads: dict[str, dict[str, Any]],
    settings: dict[str, int],
) -> dict[str, Any]:
    label_N = np.concatenate([part.label_N for part in tuned])
    assert np.array_equal(label_N, np.concatenate([part.label_N for part in recipe]))
    resamples = Resamples(
        label_N,
        [np.concatenate([part.predicted_N for part in side]) for side in (tuned, recipe)],
        tuned[0].num_classes,
        groups=np.concatenate([part.group_N for part in tuned]),
        **settings,
    )
    return {
        name: {
            "tuned": asdict(resamples.interval(metric, 0)),
            "recipe": asdict(resamples.interval(metric, 1)),
            "difference": asdict(resamples.difference(metric, 0, 1)),
            "spread": {side: found[name] for side, found in spreads.items()},
        }
        for name, metric in METRICS.items()
    }
