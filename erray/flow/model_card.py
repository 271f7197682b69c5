"""The model card of a version: what it is, on what data, how good, for what and not for what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from erray.checkpoint import ModelDescription
from erray.corpora.holdout import HOLDOUT, VAL
from erray.encoders import ENCODERS
from erray.evaluation.clips import LabelledClips
from erray.evaluation.scores import RunScores, score_run
from erray.flow.context import Flow
from erray.metrics import CHALLENGE_F1
from erray.report.card import FORBIDDEN_USES, INTENDED_USES, LIMITS, split_meanings
from erray.statistics import Interval, undecided

_SCORED = (VAL, HOLDOUT, "test")
_HOLDOUT = (
    "Compared with other versions on the holdout alone: groups of val that were set apart before "
    "training and chose neither epoch nor settings nor temperature."
)
_OPTIMISTIC = (
    "Has no holdout: all clips of val chose epoch and settings, so a comparison on them is "
    "optimistic and moves no alias that names another version already."
)
_METRICS = {
    "weighted_f1": "weighted F1",
    "macro_f1": "macro F1",
    "accuracy": "accuracy",
    CHALLENGE_F1: "challenge F1",
}


def model_card(
    flow: Flow,
    description: ModelDescription,
    rows: Sequence[Mapping[str, Any]],
    *,
    num_parameters: int,
    num_rejected: int,
    origin: str,
    test_was_searched: bool,
    judged_on_holdout: bool,
) -> str:
    """Return the card as Markdown.

    Args:
        rows: predictions of the splits that the model was scored on.
        num_rejected: clips of these splits that the model has no prediction for.
        origin: where the weights come from.
        test_was_searched: a search over folds chose the settings by clips of test, too.
        judged_on_holdout: the version keeps predictions of clips that chose nothing of it.
    """
    return "\n".join(
        [
            f"# Model card: {flow.recipe.tracking.model_name}",
            *_section("What it is", _facts(flow, description, num_parameters, origin)),
            *_section("What it reads", _streams(flow, description)),
            *_section(
                "Data", _data(flow) if rows else ["Not known: the model was trained elsewhere."]
            ),
            *_section(
                "Scores", _scores(flow, rows, split_meanings(test_was_searched=test_was_searched))
            ),
            *_rejected(num_rejected),
            *_section("Promotion", [_HOLDOUT if judged_on_holdout else _OPTIMISTIC]),
            *_section("Intended use", _bullets(INTENDED_USES)),
            *_section(
                "Not intended, and in part forbidden", _bullets(map(_marked, FORBIDDEN_USES))
            ),
            *_section("Limits", [LIMITS]),
            "",
        ]
    )


def _section(title: str, lines: Iterable[str]) -> list[str]:
    return ["", f"## {title}", "", *lines]


def _bullets(lines: Iterable[str]) -> list[str]:
    return [f"- {line}" for line in lines]


def _marked(use: tuple[str, str]) -> str:
    bold, text = use
    return f"**{bold}**{text}" if bold else text


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def _facts(
    flow: Flow, description: ModelDescription, num_parameters: int, origin: str
) -> list[str]:
    clock = "every frame" if description.clock_hz is None else f"{description.clock_hz:g} per s"
    return _bullets(
        [
            f"Names the class of a clip and of each of its ticks, out of {description.num_classes} "
            f"({description.labels}): {', '.join(description.class_names)}",
            f"Model {description.model} with {num_parameters:,} parameters, {origin}",
            f"Recipe {flow.recipe.name}, seed {flow.recipe.seed}, "
            f"code {flow.record.git_commit or 'of no known commit'}, "
            f"erray {description.erray_version}",
            f"Ticks: {clock}; windows of {description.window}, one every {description.hop}",
            f"A clip's class by {description.clip_rule.replace('_', ' ')}, temperature "
            f"{description.temperature:.3g}",
        ]
    )


def _streams(flow: Flow, description: ModelDescription) -> list[str]:
    rows = [
        [
            name,
            flow.plan.modalities[name],
            str(width),
            getattr(ENCODERS[name], "licence", None) or "no weights",
            f"`{description.features[name]}`",
        ]
        for name, width in description.streams.items()
    ]
    head = ["stream", "modality", "values per tick", "licence of its weights", "fingerprint"]
    return [*_table(head, rows), "", "Features of any other fingerprint are refused."]


def _data(flow: Flow) -> list[str]:
    clips = [clip for clip in flow.clips if clip.split in ("train", *_SCORED)]
    splits = sorted({clip.split for clip in clips}, key=["train", *_SCORED].index)
    counts = Counter((clip.split, clip.label) for clip in clips)
    rows = [
        [label or "no label", *(str(counts[split, label]) for split in splits)]
        for label in (*flow.labels.names, None)
        if any(counts[split, label] for split in splits)
    ]
    groups = [str(len({c.group for c in clips if c.split == split})) for split in splits]
    return [
        f"Corpus of kind {flow.recipe.corpus.kind}, by content `{flow.data_fingerprint}`.",
        "",
        *_table(["clips", *splits], [*rows, ["groups", *groups]]),
    ]


def _scores(
    flow: Flow, rows: Sequence[Mapping[str, Any]], meanings: Mapping[str, str]
) -> list[str]:
    lines: list[str] = []
    for split in _SCORED:
        clips = LabelledClips.from_rows(row for row in rows if row["split"] == split)
        if clips is not None:
            scores = score_run(
                clips, num_bootstrap=flow.recipe.report.num_bootstrap, seed=flow.recipe.seed
            )
            about = f"{_counts(scores)}; {meanings[split]}. {_sentence(scores.macro_f1_rule)}"
            lines += [f"### {split}", "", about, "", *_both(scores), ""]
    if not lines:
        return ["Not measured: the model was trained elsewhere."]
    return [*lines, "95 % intervals by resampling groups of clips, not corrected for their number."]


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _rejected(num_clips: int) -> list[str]:
    if not num_clips:
        return []
    line = f"{num_clips} clips of these splits have no prediction, as the model's values for them "
    return ["", f"{line}are not finite: they are in no score."]


def _counts(scores: RunScores) -> str:
    return f"{scores.num_clips} labelled clips in {scores.num_groups} groups"


def _both(scores: RunScores) -> list[str]:
    clips, frames = scores.clips[scores.clip_rule], scores.frames
    rows = [
        [title, _limits(clips.metrics[name]), _limits(frames.metrics[name])]
        for name, title in _METRICS.items()
        if name in clips.metrics
    ]
    classes = [[score.name, str(score.support), _limits(score.f1)] for score in clips.per_class]
    return [
        *_table(["", "clips", "frames"], rows),
        "",
        *_table(["class", "clips", "F1"], classes),
    ]


def _limits(found: Interval | None) -> str:
    if found is None:
        return "no clips"
    if found.low is None:
        return f"{found.value:.3f} {undecided(found.num_groups or 0)}"
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"
