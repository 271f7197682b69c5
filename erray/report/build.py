"""From a run's folder to one self-contained page and its numbers."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from importlib import resources
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from erray import __version__
from erray.calibration import NUM_BINS
from erray.config import Recipe
from erray.credentials import masked
from erray.evaluation.clips import LabelledClips
from erray.plan import Plan
from erray.report import card
from erray.report.ablation import make_ablation
from erray.report.charts import number
from erray.report.curves import make_curves, run_tones
from erray.report.errors import Errors, make_errors, make_wrong_clip, wrong_clips
from erray.report.other_run import (
    Versus,
    make_versus,
    read_other,
    versus_json,
)
from erray.report.parts import FEWEST, FEWEST_LISTED, make_parts, parts_json
from erray.report.quality import assess
from erray.report.reliability import make_reliability
from erray.report.scores import (
    METRIC_NAMES,
    RULE_NAMES,
    Scores,
    labelled_clips,
    metrics_json,
    score_run,
)
from erray.report.sources import ClipPrediction, RunData, read_run
from erray.report.study import make_study
from erray.report.tables import Tables
from erray.report.thumbnails import fill_slots
from erray.report.timelines import Timeline, choose_clips, dom_id, make_timeline
from erray.statistics import MIN_GROUPS, p_text, undecided
from erray.store import Folder, RunFolder

_CHALLENGE_TIMELINES = 4
_SPLITS = ("train", "val", "holdout", "test", "challenge")
_STYLES = ("style.css", "sections.css", "timeline.css")


def build_report(out: str, recipe: Recipe, *, compare: str | None = None) -> dict[str, Any]:
    """Write ``<out>/report/index.html`` and ``<out>/report/metrics.json``.

    The page needs nothing but itself: style, script, drawings and faces are inline, and its
    content security policy forbids any request.

    Args:
        out: folder of the run.
        recipe: what the run was made from.
        compare: folder of another run on the same test clips; None: the page compares with none.

    Returns:
        What metrics.json holds: scores of the fused model by clip rule and of single streams,
        intervals, paired differences, scores by group and by length, rejected test clips, the
        comparison, the registered model, seconds per stage, clip counts.

    Raises:
        UserError: no test predictions, or runs that predict other test clips.
    """
    data = read_run(RunFolder.of(recipe, out), streams=list(recipe.streams))
    tables = Tables(data, Plan(recipe))
    rule, metric = recipe.train.clip_rule, recipe.train.select.metric
    settings = {"num_bootstrap": recipe.report.num_bootstrap, "seed": recipe.seed}
    clips = labelled_clips(data.shown, rule, data.temperatures.get(data.main, 1.0))
    versus = None if compare is None else _versus(compare, data, clips, tables, **settings)
    scores = score_run(
        data.test,
        data.clips.values(),
        main=data.main,
        clip_rule=rule,
        temperatures=data.temperatures,
        **settings,
    )
    parts = make_parts(clips, [p.length_s for p in data.shown], metric=metric, **settings)
    record = data.record
    metrics = metrics_json(scores) | {
        **parts_json(parts),
        "rejected": data.left_out,
        "comparison": versus_json(versus),
        "model": record.model and {key: record.model[key] for key in ("name", "version")},
        "registered_run": data.registered,
        "seconds": record.seconds,
        "clips": record.clips,
    }
    shown = _from_scores(scores, data, recipe) | _from_clips(data, tables, recipe)
    page = _render(shown | {"parts": parts, "versus": versus, "recipe": recipe})
    _write(data.folder.path("report", "metrics.json"), json.dumps(metrics, indent=2) + "\n")
    _write(data.folder.path("report", "index.html"), page)
    return metrics


def _from_scores(scores: Scores, data: RunData, recipe: Recipe) -> dict[str, Any]:
    """What the page shows of scores and of training."""
    metric = recipe.train.select.metric
    return {
        "scores": scores,
        "tones": run_tones(data.test),
        "ablation": make_ablation(data.ablation, streams=list(recipe.streams), metric=metric),
        "curves": make_curves(data.histories, main=data.main),
        "reliability": make_reliability(scores.shown.calibration),
        "study": make_study(data.study),
    }


def _from_clips(data: RunData, tables: Tables, recipe: Recipe) -> dict[str, Any]:
    """What the page shows of single clips, and of the data."""
    num_unlabelled = min(_CHALLENGE_TIMELINES, recipe.report.num_timelines)
    unlabelled = choose_clips(data.challenge, num_unlabelled)
    chosen = choose_clips(data.shown, recipe.report.num_timelines)
    predicted = Counter(p.predicted for p in data.challenge)
    return {
        "record": data.record,
        "fingerprints": tables.plan.fingerprints,
        "modalities": tables.plan.modalities,
        "timelines": [_timeline(p, tables, recipe) for p in chosen],
        "errors": _errors(data.shown, tables, num=recipe.report.num_errors, with_timeline=chosen),
        "challenge": [(name, predicted[name]) for name in data.shown[0].classes],
        "num_challenge": len(data.challenge),
        "challenge_timelines": [_timeline(p, tables, recipe) for p in unlabelled],
        "submission": data.submission,
        "left_out": data.left_out,
        "registered": data.registered,
        "quality": assess(data, tables, _SPLITS),
        "split_facts": card.split_facts(
            data.clips.values(),
            test_was_searched=data.test_was_searched,
            holdout_was_searched=data.holdout_was_searched,
        ),
        "test_was_searched": data.test_was_searched,
    }


def _render(shown: dict[str, Any]) -> str:
    script = _asset("timeline.js")
    recipe = masked(shown["recipe"].model_dump(mode="json"))
    fixed = {
        "metric_names": METRIC_NAMES,
        "rule_names": RULE_NAMES,
        "num_bins": NUM_BINS,
        "fewest": FEWEST,
        "min_groups": MIN_GROUPS,
        "fewest_listed": FEWEST_LISTED,
        "card": card,
        "version": __version__,
        "recipe_yaml": yaml.safe_dump(recipe, sort_keys=False),
        "style": "".join(map(_asset, _STYLES)),
        "script": script,
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    return _environment().get_template("page.html.j2").render(shown | fixed)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("erray.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = lambda value: "" if value is None else number(value)
    environment.filters["undecided"] = undecided
    environment.filters["p_text"] = p_text
    return environment


def _errors(
    predictions: list[ClipPrediction],
    tables: Tables,
    *,
    num: int,
    with_timeline: list[ClipPrediction],
) -> Errors:
    timelines = {p.clip_id: dom_id(p) for p in with_timeline}
    clips = []
    for prediction in wrong_clips(predictions)[:num]:
        clip = tables.clips[prediction.clip_id]
        clips.append(
            make_wrong_clip(
                prediction,
                transcript=clip.transcript,
                faces=tables.faces(clip),
                timeline=timelines.get(prediction.clip_id),
            )
        )
    return make_errors(predictions, clips)


def _versus(
    folder: str, data: RunData, clips: LabelledClips, tables: Tables, **settings: int
) -> Versus:
    times_s = {p.clip_id: p.times_s_T - p.times_s_T[0] for p in data.shown}

    def portrait(clip_id: str) -> str | None:
        faces = tables.faces(tables.clips[clip_id])
        return fill_slots(faces, times_s[clip_id], num_slots=1)[0].jpeg

    this = data.folder.path("training", data.main)
    other = read_other(folder, this=this, without=data.left_out)
    return make_versus(clips, other, this=this, portrait_of=portrait, **settings)


def _timeline(prediction: ClipPrediction, tables: Tables, recipe: Recipe) -> Timeline:
    clip = tables.clips[prediction.clip_id]
    return make_timeline(
        prediction,
        transcript=clip.transcript,
        faces=tables.faces(clip),
        presence=tables.presence(clip),
        smoothing=recipe.predict.smoothing,
    )


def _asset(name: str) -> str:
    return (resources.files("erray.report") / "templates" / name).read_text(encoding="utf-8")


def _write(path: str, text: str) -> None:
    """Write a whole file: readers never see half a page."""
    folder, _, name = path.rpartition("/")
    Folder(folder).write(name, lambda file: file.write(text.encode()))
