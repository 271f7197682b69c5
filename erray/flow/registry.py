"""Runs to versions, versions to the alias: what is registered, what is promoted, and why not."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from erray.credentials import without_credentials
from erray.errors import UserError
from erray.evaluation.comparison import Comparison, compare, require_same_clips
from erray.flow.context import FUSION, TUNED, VAL, Flow
from erray.flow.train import chosen_epoch
from erray.flow.version_folder import val_clips, write_version
from erray.registry import BACK, BETTER, FIRST, FORCED, Move, Registry, Version
from erray.training.runs import TrainingRun

LEVEL = 0.05
"""A version is better when the paired test gives a p value below this."""
VAL_TAG = "erray.val_fingerprint"
_NUM_BOOTSTRAP, _SEED = 2000, 0


@dataclass(frozen=True)
class Decision:
    """Whether an alias moved, and why.

    Attributes:
        move: None where it did not.
        why: one line.
    """

    version: Version
    alias: str
    move: Move | None
    why: str


def register_step(flow: Flow) -> dict[str, str]:
    """Make the run that val prefers (the fusion or the tuned one) a version; promote if better.

    A run that another recipe left in the folder is no candidate; one that is registered already is
    not registered again.

    Returns:
        ``name``, ``version``, ``run`` and ``job`` of the registered model.
    """
    # a tie keeps the fusion
    best = max(_candidates(flow), key=lambda run: run.history()["best_metric"])
    job, known, tracking = best.history()["job"], flow.record.model, flow.recipe.tracking
    if known is not None and (known["job"], known["name"]) == (job, tracking.model_name):
        return known
    # the clips' weighted F1, to compare versions by, and the score that chose the epoch
    scores = {"val_weighted_f1", best.history()["metric"]}
    with flow.step("register") as parent:
        tracked = json.loads(best.tracking.read_text(encoding="utf-8"))
        same_store = tracked["uri"] == without_credentials(flow.registry.uri)
        registered = register_model(
            flow,
            tracked["run_id"] if same_store else parent,
            best.model,
            run=best,
            origin=f"trained by erray as the run {best.name}",
            metrics={name: chosen_epoch(best)[name] for name in scores},
            tags={"erray.run": best.name, "erray.job": job},
        )
    version = registered.version
    model = {"name": version.name, "version": version.version, "run": best.name, "job": job}
    flow.record.update(model=model)
    return model


def register_model(
    flow: Flow,
    run_id: str,
    model: Path,
    *,
    run: TrainingRun | None,
    origin: str,
    tags: dict[str, str],
    metrics: dict[str, float] | None = None,
) -> Decision:
    """Register a model under the recipe's name; move the recipe's alias by the rule of promotion.

    Args:
        run_id: tracking run that the version belongs to.
        model: folder of the checkpoint.
        run, origin: see :func:`erray.flow.version_folder.write_version`.
    """
    features = {f"erray.features.{name}": flow.plan.fingerprints[name] for name in flow.plan.widths}
    data: dict[str, str] = {}
    if run is not None:
        data = {"erray.data_fingerprint": flow.data_fingerprint, VAL_TAG: flow.val_fingerprint}
    tracking = flow.recipe.tracking
    with tempfile.TemporaryDirectory(dir=flow.out, prefix=".version-") as scratch:
        folder = Path(scratch) / "version"
        write_version(flow, folder, model, run=run, origin=origin)
        version = flow.registry.register(
            run_id,
            folder,
            model_name=tracking.model_name,
            metrics=metrics,
            tags={**data, **features, **tags},
        )
    metric = flow.recipe.train.select.metric
    try:
        decision = promote(flow.registry, version, tracking.alias, metric=metric)
    except UserError as error:  # the version is there all the same, and must not be made twice
        decision = Decision(version, tracking.alias, None, str(error))
    flow.say(told(decision))
    return decision


def promote(
    registry: Registry, version: Version, alias: str, *, metric: str, forced: str | None = None
) -> Decision:
    """Let ``alias`` name ``version`` if it is better than the version named now.

    Better is: a higher ``metric`` on the same labelled clips of val, p below :data:`LEVEL` in the
    paired bootstrap over groups. The first version of an alias is not compared.

    Args:
        forced: a person's reason to move the alias without a comparison.

    Raises:
        UserError: an alias that MLflow does not take; files that are not those registered; another
            promotion at the same time.
    """
    with registry.deciding():
        current = registry.alias(version.name, alias)
        if current is not None and current.version == version.version:
            return Decision(version, alias, None, "it has the alias already")
        better, why = _verdict(registry, version, current, metric)
        how = FIRST if current is None else BETTER
        if forced is not None:
            better, how, why = True, FORCED, f"{forced} ({why})"
        if not better:
            return Decision(version, alias, None, why)
        move = registry.move_alias(version, alias, before=current, how=how, why=why)
    return Decision(version, alias, move, why)


def roll_back(registry: Registry, model_name: str, alias: str, *, why: str) -> Move:
    """Let ``alias`` name again what it named before its last promotion.

    Raises:
        UserError: no such model or alias, or nothing before.
    """
    with registry.deciding():
        current = registry.alias(model_name, alias)
        target = registry.before(model_name, alias)
        return registry.move_alias(target, alias, before=current, how=BACK, why=why)


def compare_versions(
    registry: Registry, a: Version, b: Version, *, metrics: Sequence[str], rule: str | None = None
) -> Comparison:
    """Compare the labelled val clips that two versions keep.

    Raises:
        UserError: a version without val predictions, other clips, labels or contents.
    """
    clips = []
    with tempfile.TemporaryDirectory(prefix="erray-compare-") as scratch:
        for version in (a, b):
            found = val_clips(registry.fetch(version.uri, Path(scratch)).folder)
            if found is None:
                raise UserError(f"version {version.version} keeps no predictions of val")
            clips.append(found)
    names = (f"version {a.version}", f"version {b.version}")
    prints = [version.tags.get(VAL_TAG) for version in (a, b)]
    if prints[0] != prints[1]:
        raise UserError(
            f"{names[0]} and {names[1]} were validated on other data (fingerprints "
            f"{prints[0]} and {prints[1]})"
        )
    require_same_clips(*clips, names=names, remedy="only the same val clips are compared")
    return compare(*clips, metrics=metrics, rule=rule, num_bootstrap=_NUM_BOOTSTRAP, seed=_SEED)


def told(decision: Decision) -> str:
    """A decision as one line for people."""
    version, alias, move = decision.version, decision.alias, decision.move
    name = f"{version.name} version {version.version}"
    if move is not None:
        before = f", before version {move.before}" if move.before else ""
        return f"{name} is {alias} now{before}: {decision.why}"
    return f"{name} is not promoted to {alias}: {decision.why}"


def describe(registry: Registry, version: Version) -> dict[str, Any]:
    """All that the store knows of a version: files' hash, scores, lineage, moves of its aliases."""
    run = registry.run_facts(version.run_id) if version.run_id else None
    parent = registry.run_facts(run.parent) if run is not None and run.parent else None
    moves = [m for m in registry.moves(version.name) if version.version in (m.to, m.before)]
    return {
        **asdict(version),
        "run": run and asdict(run),
        "parent_run": parent and asdict(parent),
        "moves": [asdict(move) for move in moves],
    }


def describe_run(registry: Registry, run_id: str) -> dict[str, Any]:
    """A run, and the versions that were made of it or of a run below it.

    Raises:
        UserError: no such run.
    """
    versions = registry.versions_of_run(run_id)
    return {
        "run": asdict(registry.run_facts(run_id)),
        "versions": [asdict(version) for version in versions],
    }


def _candidates(flow: Flow) -> list[TrainingRun]:
    """The finished ones of the recipe's own run and of what a search of this recipe found."""
    jobs = {FUSION: flow.job().fingerprint, TUNED: flow.study().get("tuned_job")}
    return [flow.run(n) for n, job in jobs.items() if job is not None and flow.run(n).holds(job)]


def _verdict(
    registry: Registry, version: Version, current: Version | None, metric: str
) -> tuple[bool, str]:
    """Whether a version is better than the current one, and why."""
    if current is None:
        return True, "no version had the alias"
    try:
        found = compare_versions(registry, version, current, metrics=[metric])
    except UserError as error:
        return False, f"it cannot be compared with version {current.version}: {error}"
    scores, gap = found.clips[metric], found.clips[metric].difference
    why = (
        f"{metric.replace('_', ' ')} on {found.num_clips} {VAL} clips {scores.a.value:.3f}, "
        f"version {current.version} has {scores.b.value:.3f}: difference {gap.difference:+.3f} "
        f"({gap.low:+.3f} to {gap.high:+.3f}), p {gap.p_value:.3f}"
    )
    better = gap.difference > 0 and gap.p_value < LEVEL
    return better, why if better else f"{why}; a p below {LEVEL} is asked for"
