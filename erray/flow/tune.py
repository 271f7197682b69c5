"""Step 3: search the space, train the best settings at full length beside the recipe's own."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from erray.flow.context import TUNED, Flow
from erray.flow.train import keep, scored_splits, summary, track
from erray.ray_session import ray_session
from erray.training.fanout import train_each
from erray.tuning import Study, search, trial_job


def tune_step(flow: Flow) -> dict[str, Any]:
    """Run the study, keep it as ``tune/study.json``, and train its best as the run ``tuned``."""
    folder = flow.out / "tune"
    with flow.step("tune") as parent:
        base, splits = flow.job(), scored_splits(flow)
        with ray_session():
            study = search(flow.recipe, base, folder / "ray")
            best = trial_job(flow.recipe, base, study.best_settings)
            train_each(
                [(best, flow.run(TUNED))],
                on_done=lambda job, run, state: keep(flow, run, job, state, splits, parent),
            )
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "study.json").write_text(json.dumps(asdict(study), indent=1), encoding="utf-8")
        _track_trials(flow, study, parent)
    counts = {
        state: sum(t["state"] == state for t in study.trials)
        for state in ("complete", "pruned", "failed")
    }
    return {
        "trials": counts,
        "best": {"number": study.best, **study.trials[study.best]["params"]},
        "tuned": summary(flow.run(TUNED)),
    }


def _track_trials(flow: Flow, study: Study, parent: str) -> None:
    base = flow.job()
    for trial in study.trials:
        rows = [{"epoch": i, study.metric: value} for i, value in enumerate(trial["curve"])]
        job = trial_job(flow.recipe, base, trial["params"])
        track(flow, f"trial {trial['number']} ({trial['state']})", job, rows, parent)
