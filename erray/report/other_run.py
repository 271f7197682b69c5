"""Another run on the same test clips, and how this one compares with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from erray.errors import UserError
from erray.evaluation.clips import LabelledClips
from erray.evaluation.comparison import Comparison, compare, require_same_clips
from erray.metrics import METRICS
from erray.records import PREDICTION_SCHEMA, STATUS_SCHEMA
from erray.report.sources import FUSION, exists, read_json
from erray.run_record import RunRecord
from erray.store import Table

_NUM_LISTED = 12

PortraitOf = Callable[[str], str | None]
"""Clip id to the face in the middle of the clip, None where there is none."""


@dataclass(frozen=True, slots=True)
class Disputed:
    """A clip that one of two runs has right; ``this`` and ``other`` are what they said."""

    clip_id: str
    group: str
    label: str
    this: str
    other: str
    confidence: float
    """Probability that the run that is right gives the label."""
    portrait: str | None


@dataclass(frozen=True)
class Versus:
    """This run against another; ``reach`` is the largest distance from 0 in the classes' bars.

    ``only_this`` and ``only_other`` are the surest of the clips that one run alone has right.
    """

    name: str
    found: Comparison
    reach: float
    only_this: list[Disputed]
    only_other: list[Disputed]


@dataclass(frozen=True)
class OtherRun:
    """The test predictions of another run; ``folder`` is that of the training run.

    ``rejected`` are the clips, of any split, that it has no prediction for.
    """

    folder: str
    clips: LabelledClips
    rejected: frozenset[str]


def read_other(folder: str, *, this: str, without: Collection[str] = ()) -> OtherRun:
    """Read a training run, or of a whole run the one that its page is about.

    Args:
        this: folder of the training run that it is to be compared with.
        without: clips that ``this`` has rejected.

    Raises:
        UserError: neither is there, it is ``this``, or it predicts no labelled test clip.
    """
    place = training_folder(folder)
    if os.path.realpath(place) == os.path.realpath(this):
        raise UserError(f"{place} is the run of this page: give another one to compare with")
    rows = Table(f"{place}/predictions", PREDICTION_SCHEMA).read(where={"split": "test"})
    model = read_json(f"{place}/model/model.json") or {}
    kept = (row for row in rows.to_pylist() if row["clip_id"] not in without)
    clips = LabelledClips.from_rows(kept, temperature=model.get("temperature", 1.0))
    if clips is None:
        raise UserError(f"{place} predicts no labelled test clip: nothing to compare with")
    rejects = Table(f"{place}/rejects", STATUS_SCHEMA).read(columns=["clip_id"])
    return OtherRun(place, clips, frozenset(rejects["clip_id"].to_pylist()))


def training_folder(folder: str) -> str:
    """Return the folder of the training run that ``folder`` is, or that a whole run is about.

    Raises:
        UserError: there is none.
    """
    folder = folder.rstrip("/")
    main = (RunRecord.load(folder).model or {}).get("run", FUSION)
    places = [f"{folder}/training/{name}" for name in dict.fromkeys((main, FUSION))]
    place = next((p for p in (*places, folder) if exists(f"{p}/history.json")), None)
    if place is None:
        raise UserError(
            f"no finished training run in {folder} to compare with: expected history.json and "
            f"predictions there, or in training/{FUSION} below it; `erray train` writes them"
        )
    return place


def make_versus(
    clips: LabelledClips,
    other: OtherRun,
    *,
    this: str,
    portrait_of: PortraitOf,
    num_bootstrap: int,
    seed: int,
) -> Versus:
    """Compare the clips of ``this`` training run with another one's, each by its own clip rule.

    A clip that the other one has rejected is left out.

    Raises:
        UserError: other classes, test clips, labels or groups.
    """
    clips = clips.only(set(clips.clip_ids) - other.rejected)
    remedy = "a page compares runs on the same test clips only"
    require_same_clips(clips, other.clips, names=(this, other.folder), remedy=remedy)
    found = compare(
        clips,
        other.clips,
        metrics=list(METRICS),
        rule=None,
        num_bootstrap=num_bootstrap,
        seed=seed,
    )
    gaps = [change.f1.difference for change in found.classes]
    ends = [end for gap in gaps for end in (gap.low, gap.difference, gap.high) if end is not None]
    only_this, only_other = _disputed(clips, other.clips)
    return Versus(
        name=other.folder,
        found=found,
        reach=max(map(abs, ends), default=0.0) or 1.0,
        only_this=_listed(only_this, portrait_of),
        only_other=_listed(only_other, portrait_of),
    )


def versus_json(versus: Versus | None) -> dict[str, Any] | None:
    """Return the comparison as plain numbers; ``a`` is the run of the page, ``b`` the other."""
    return None if versus is None else {"b": versus.name, **asdict(versus.found)}


def _disputed(a: LabelledClips, b: LabelledClips) -> tuple[list[Disputed], list[Disputed]]:
    """Clips that a alone has right, and those that b alone has right, the surest first."""
    answers = [clips.predicted(clips.clip_rule) for clips in (a, b)]
    sure = [clips.probabilities(temperature=clips.temperature) for clips in (a, b)]
    hits = [answer_N == a.label_N for answer_N in answers]
    alone = (hits[0] & ~hits[1], hits[1] & ~hits[0])
    found = []
    for chosen_N, sure_NC in zip(alone, sure, strict=True):
        rows = [
            Disputed(
                clip_id=a.clip_ids[i],
                group=a.groups[i],
                label=a.classes[a.label_N[i]],
                this=a.classes[answers[0][i]],
                other=a.classes[answers[1][i]],
                confidence=float(sure_NC[i, a.label_N[i]]),
                portrait=None,
            )
            for i in np.flatnonzero(chosen_N)
        ]
        found.append(sorted(rows, key=lambda row: (-row.confidence, row.clip_id)))
    return found[0], found[1]


def _listed(rows: Iterable[Disputed], portrait_of: PortraitOf) -> list[Disputed]:
    return [replace(row, portrait=portrait_of(row.clip_id)) for row in list(rows)[:_NUM_LISTED]]
