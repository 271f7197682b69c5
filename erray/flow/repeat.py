"""The fusion again with other seeds and on other folds: how far its score depends on either."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from erray.config import with_settings
from erray.corpora.cexpr import fold_numbers
from erray.corpora.findings import WARNING, refuse_errors
from erray.flow.context import Flow
from erray.flow.spread import Answers, answers, pooled, scores, spread
from erray.flow.train import account_for, follow, keep, scored_splits
from erray.ray_session import ray_session
from erray.store import write_json
from erray.training.fanout import train_each
from erray.training.job import TrainJob
from erray.training.runs import TrainingRun, all_rejected

FILE_NAME = "repeat.json"


@dataclass(frozen=True)
class Repetition:
    """One run of the recipe's fusion.

    Attributes:
        fold: None where the corpus has no folds.
        flow: the run with the clips and the splits of this fold.
    """

    fold: int | None
    seed: int
    flow: Flow
    job: TrainJob
    run: TrainingRun


def repeat_step(flow: Flow) -> dict[str, Any]:
    """Train what is missing in plain processes, score all, write ``repeat.json``.

    Features are neither of a fold nor of a seed: all runs read the same tables.

    Returns:
        ``runs`` (fold, seed, best epoch, scores by split), ``rejected`` (clip id to reason: left
        out of every score), ``spread`` by split, and ``pooled``: the test predictions of all runs
        together.

    Raises:
        UserError: the clips of a fold have errors, or a split has no features.
    """
    with flow.step("repeat") as parent:
        repetitions = _repetitions(flow)
        _train(flow, repetitions, parent)
        result = _result(flow, repetitions)
        path = flow.out / FILE_NAME
        write_json(path, result)
        flow.registry.log_metrics(parent, [_tracked(result["spread"])])
        flow.registry.log_file(parent, path)
    return result


def _repetitions(flow: Flow) -> list[Repetition]:
    found = []
    for fold, part in fold_flows(flow, flow.recipe.repeat.folds).items():
        base = part.job()
        for seed in flow.recipe.repeat.seeds:
            name = f"seed{seed}" if fold is None else f"fold{fold}-seed{seed}"
            run = flow.run(f"repeat/{name}")
            found.append(Repetition(fold, seed, part, replace(base, seed=seed), run))
    return found


def fold_flows(flow: Flow, folds: Literal["all"] | list[int] | None) -> dict[int | None, Flow]:
    """Fold to the run with the clips of that fold, each checked as an extraction checks them.

    ``folds`` None: the recipe's own fold, or the run itself where the corpus has no folds.
    """
    corpus = flow.recipe.corpus
    if corpus.kind != "cexpr":
        return {None: flow}
    if folds is None:
        return {corpus.fold: flow}
    numbers = fold_numbers(corpus) if folds == "all" else folds
    flows: dict[int | None, Flow] = {}
    said: set[str] = set()
    for fold in numbers:
        part = replace(flow, recipe=with_settings(flow.recipe, {"corpus.fold": fold}))
        refuse_errors(part.findings)
        warnings = [f.line() for f in part.findings if f.level == WARNING]
        for line in warnings:
            if line not in said:
                flow.say(f"{WARNING}: fold {fold}: {line}")
        said.update(warnings)
        flows[fold] = part
    return flows


def _train(flow: Flow, repetitions: list[Repetition], parent: str) -> None:
    """Train what is not finished, as many at a time as there is room for."""
    account_for([(r.job, r.run) for r in repetitions])
    todo = {r.run.folder: r for r in repetitions if not r.run.is_finished(r.job)}
    if not todo:
        return
    splits = {r.fold: scored_splits(r.flow) for r in todo.values()}

    def on_done(job: TrainJob, run: TrainingRun, state: Mapping[str, Any]) -> None:
        done = todo[run.folder]
        keep(done.flow, run, job, state, splits[done.fold], parent)

    on_epoch = follow(flow, [(r.flow, r.job, r.run) for r in todo.values()], parent)
    with ray_session():
        train_each([(r.job, r.run) for r in todo.values()], on_done=on_done, on_epoch=on_epoch)


def _result(flow: Flow, repetitions: list[Repetition]) -> dict[str, Any]:
    runs: list[dict[str, Any]] = []
    rejected = all_rejected(r.run for r in repetitions)
    said: dict[str, dict[tuple[int | None, int], dict[str, Answers]]] = {}
    for r in repetitions:
        of_split = answers(r.run, without=rejected)
        for split, by_level in of_split.items():
            said.setdefault(split, {})[r.fold, r.seed] = by_level
        runs.append(
            {
                "run": str(r.run.folder.relative_to(flow.out / "training")),
                "fold": r.fold,
                "seed": r.seed,
                "best_epoch": r.run.history()["best_epoch"],
                "scores": {split: scores(by_level) for split, by_level in of_split.items()},
            }
        )
    # a split that some fold lacks has no mean over the folds
    whole = {split: of_runs for split, of_runs in said.items() if len(of_runs) == len(runs)}
    test, num_bootstrap = whole.get("test"), flow.recipe.report.num_bootstrap
    return {
        "streams": list(flow.recipe.streams),
        "model": flow.recipe.model.name,
        "clip_rule": flow.recipe.train.clip_rule,
        "runs": runs,
        "rejected": rejected,
        "spread": {
            split: spread({key: scores(by_level) for key, by_level in of_runs.items()})
            for split, of_runs in whole.items()
        },
        "pooled": pooled(list(test.values()), num_bootstrap=num_bootstrap) if test else None,
    }


def _tracked(spreads: Mapping[str, Any]) -> dict[str, float]:
    """Spreads under names such as ``repeat.test.clip.weighted_f1.mean``."""
    return {
        f"repeat.{split}.{level}.{metric}.{name}": value
        for split, levels in spreads.items()
        for level, metrics in levels.items()
        for metric, numbers in metrics.items()
        for name, value in numbers.items()
        if value is not None
    }
