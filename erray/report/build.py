"""From a run's folder to one self-contained page and its numbers."""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from collections import Counter
from importlib import resources
from typing import Any

import fsspec
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from erray import __version__
from erray.calibration import NUM_BINS
from erray.config import Recipe
from erray.plan import Plan
from erray.report.charts import number
from erray.report.curves import make_curves, run_tones
from erray.report.quality import Tables, assess
from erray.report.reliability import make_reliability
from erray.report.scores import METRIC_NAMES, RULE_NAMES, Scores, metrics_json, score_run
from erray.report.sources import ClipPrediction, RunData, read_run
from erray.report.study import make_study
from erray.report.timelines import Timeline, choose_clips, make_timeline
from erray.run_record import masked
from erray.store import RunFolder

_CHALLENGE_TIMELINES = 4
_SPLITS = ("train", "val", "test", "challenge")


def build_report(out: str, recipe: Recipe) -> dict[str, Any]:
    """Write ``<out>/report/index.html`` and ``<out>/report/metrics.json``.

    The page needs nothing but itself: style, script, drawings and faces are inline, and its
    content security policy forbids any request.

    Args:
        out: folder of the run.
        recipe: what the run was made from.

    Returns:
        What metrics.json holds: scores of the fused model by clip rule and of single streams,
        intervals, paired differences, the registered model, seconds per stage, clip counts.

    Raises:
        UserError: no test predictions, or runs that predict other test clips.
    """
    data = read_run(RunFolder.of(recipe, out), streams=list(recipe.streams))
    scores = score_run(
        data.test,
        data.clips.values(),
        main=data.main,
        clip_rule=recipe.train.clip_rule,
        temperatures=data.temperatures,
        num_bootstrap=recipe.report.num_bootstrap,
        seed=recipe.seed,
    )
    record = data.record
    metrics = metrics_json(scores) | {
        "model": record.model and {key: record.model[key] for key in ("name", "version")},
        "seconds": record.seconds,
        "clips": record.clips,
    }
    page = _render(data, scores, recipe)
    _write(data.folder.path("report", "metrics.json"), json.dumps(metrics, indent=2) + "\n")
    _write(data.folder.path("report", "index.html"), page)
    return metrics


def _render(data: RunData, scores: Scores, recipe: Recipe) -> str:
    tables = Tables(data, Plan(recipe))
    chosen = choose_clips(data.shown, recipe.report.num_timelines)
    num_unlabelled = min(_CHALLENGE_TIMELINES, recipe.report.num_timelines)
    unlabelled = choose_clips(data.challenge, num_unlabelled)
    predicted = Counter(p.predicted for p in data.challenge)
    script = _asset("timeline.js")
    environment = Environment(
        loader=PackageLoader("erray.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = lambda value: "" if value is None else number(value)
    return environment.get_template("page.html.j2").render(
        recipe=recipe,
        fingerprints=tables.plan.fingerprints,
        recipe_yaml=yaml.safe_dump(masked(recipe.model_dump(mode="json")), sort_keys=False),
        record=data.record,
        scores=scores,
        metric_names=METRIC_NAMES,
        rule_names=RULE_NAMES,
        tones=run_tones(data.test),
        curves=make_curves(data.histories, main=data.main),
        reliability=make_reliability(scores.shown.calibration),
        num_bins=NUM_BINS,
        study=make_study(data.study),
        timelines=[_timeline(p, tables) for p in chosen],
        challenge=[(name, predicted[name]) for name in scores.shown.classes],
        num_challenge=len(data.challenge),
        challenge_timelines=[_timeline(p, tables) for p in unlabelled],
        submission=data.submission,
        quality=assess(data, tables, _SPLITS),
        version=__version__,
        style=_asset("style.css") + _asset("timeline.css"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _timeline(prediction: ClipPrediction, tables: Tables) -> Timeline:
    clip = tables.clips[prediction.clip_id]
    return make_timeline(
        prediction,
        transcript=clip.transcript,
        faces=tables.faces(clip),
        presence=tables.presence(clip),
    )


def _asset(name: str) -> str:
    return (resources.files("erray.report") / "templates" / name).read_text(encoding="utf-8")


def _write(path: str, text: str) -> None:
    """Write a whole file under a temporary name, then rename: readers never see half a page."""
    fs, target = fsspec.core.url_to_fs(path)
    fs.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
    temporary = f"{target}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        with fs.open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
        fs.mv(temporary, target)
    except BaseException:
        if fs.exists(temporary):
            fs.rm(temporary)
        raise
