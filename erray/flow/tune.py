"""Step 3: search the space; train the best settings and the recipe's own with several seeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from erray.corpora.holdout import HOLDOUT
from erray.credentials import without_credentials
from erray.flow.contest import Contender, contest
from erray.flow.context import FUSION, TUNED, Flow
from erray.flow.repeat import fold_flows
from erray.flow.train import account_for, scored_splits, summary, track, train_all
from erray.ray_session import ray_session
from erray.store import write_json
from erray.training.job import TrainJob
from erray.tuning import (
    FAILED,
    INTERRUPTED,
    Study,
    at_full_length,
    trial_job,
    trial_recipe,
)
from erray.tuning.search import search

_TRACKED = "tracked.json"


def tune_step(flow: Flow) -> dict[str, Any]:
    """Run the study, train its best as the run ``tuned``, keep both in ``tune/study.json``.

    A search that was cut off goes on; what is trained already stays.

    Returns:
        ``trials`` by state, ``best`` with its number and parameters, ``tuned`` and
        ``against_recipe``: the best settings minus the recipe's own on test, None without one.
    """
    folder = flow.out / "tune"
    with flow.step("tune") as parent:
        jobs = [part.job() for part in fold_flows(flow, flow.recipe.tune.folds).values()]
        with ray_session():
            study = search(flow.recipe, jobs, folder, on_trial=flow.on_trial)
            contenders = _contenders(flow, study)
            _train(flow, contenders, parent)
        against = contest(
            contenders,
            num_bootstrap=flow.recipe.report.num_bootstrap,
            seed=flow.recipe.seed,
        )
        if against is not None:
            against["test_was_searched"] = _was_searched(flow, jobs, "test")
            flow.registry.log_metrics(parent, [_tracked(against)])
        more = {
            "holdout_was_searched": _was_searched(flow, jobs, HOLDOUT),
            "tuned_settings": at_full_length(flow.recipe, study.best_settings),
        }
        write_json(
            flow.study_file, asdict(study) | _jobs(flow) | more | {"against_recipe": against}
        )
        flow.registry.log_file(parent, flow.study_file)
        _track_trials(flow, study, parent)
    return {
        "trials": study.counts,
        "best": {"number": study.best, **study.trials[study.best]["params"]},
        "tuned": summary(flow.run(TUNED)),
        "against_recipe": against,
    }


def _contenders(flow: Flow, study: Study) -> list[Contender]:
    """The best settings and the recipe's own with every seed; those of ``fusion`` if it is one."""
    base, seeds = flow.job(), flow.recipe.tune.seeds
    best = trial_job(flow.recipe, base, at_full_length(flow.recipe, study.best_settings))
    main_seed = flow.recipe.seed if flow.recipe.seed in seeds else seeds[0]
    found = []
    for seed in seeds:
        name = TUNED if seed == main_seed else f"tune/tuned-seed{seed}"
        found.append(Contender("tuned", seed, replace(best, seed=seed), flow.run(name)))
        own, fusion = replace(base, seed=seed), flow.run(FUSION)
        run = fusion if fusion.is_finished(own) else flow.run(f"tune/recipe-seed{seed}")
        found.append(Contender("recipe", seed, own, run))
    return found


def _jobs(flow: Flow) -> dict[str, str]:
    """Fingerprints of the recipe's own job and of that of ``tuned``: whose search this was."""
    return {"recipe_job": flow.job().fingerprint, "tuned_job": flow.run(TUNED).history()["job"]}


def _train(flow: Flow, contenders: Sequence[Contender], parent: str) -> None:
    account_for([(c.job, c.run) for c in contenders])
    todo = [(c.job, c.run) for c in contenders if not c.run.is_finished(c.job)]
    if todo:
        train_all(flow, todo, scored_splits(flow), parent)


def _was_searched(flow: Flow, jobs: Sequence[TrainJob], split: str) -> bool:
    """A clip of ``split`` was trained on or judged by in a trial: with folds, in another fold."""
    unseen = {clip.clip_id for clip in flow.clips if clip.split == split}
    splits = [arrays for job in jobs for arrays in (job.train, job.val)]
    return any(place.clip_id in unseen for arrays in splits for place in arrays.clips)


def _tracked(against: dict[str, Any]) -> dict[str, float]:
    """Differences under names such as ``tune.minus_recipe.clip.weighted_f1``."""
    return {
        f"tune.minus_recipe.{level}.{metric}": found["difference"]["difference"]
        for level, metrics in against["scores"].items()
        for metric, found in metrics.items()
    }


def _track_trials(flow: Flow, study: Study, parent: str) -> None:
    """Send the trials that the tracking store does not have yet, failed ones too."""
    path = flow.out / "tune" / _TRACKED
    store = {"store": without_credentials(flow.registry.uri), "study": study.name}
    sent = _sent(path, store, parent)
    base, short = flow.job(), trial_recipe(flow.recipe)
    for trial in study.trials:
        if trial["number"] in sent:
            continue
        rows = [{"epoch": i, study.metric: value} for i, value in enumerate(trial["curve"])]
        # settings that are no recipe have no job of their own: the reason says what was wrong
        job = trial_job(short, base, trial["settings"] or {})
        tags = {"erray.trial.state": trial["state"]}
        if trial["reason"] is not None:
            tags["erray.trial.reason"] = without_credentials(trial["reason"])
        name = f"trial {trial['number']} ({trial['state']})"
        failed = trial["state"] in (FAILED, INTERRUPTED)
        track(
            flow,
            name,
            job,
            rows,
            parent,
            metric=study.metric,
            times_s=_times(trial),
            more_tags=tags,
            failed=failed,
        )
        sent.append(trial["number"])
        write_json(path, store | {"parent": parent, "trials": sent})


def _times(trial: dict[str, Any]) -> list[float] | None:
    """When each epoch ended; None where the search's driver ended first."""
    known: list[float] | None = trial.get("times_s")
    return known if known is not None and len(known) == len(trial["curve"]) else None


def _sent(path: Path, store: dict[str, str], parent: str) -> list[int]:
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    # the run that they are below is the same one where the store was moved
    same_store = known.get("store") == store["store"] or known.get("parent") == parent
    return list(known["trials"]) if same_store and known["study"] == store["study"] else []
