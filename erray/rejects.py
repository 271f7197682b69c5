"""Clips that are not done, as status rows: left out by the corpus, fatal, rejected by a stage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from erray.config import fingerprint
from erray.media import limits_print
from erray.plan import TRACKS, Plan
from erray.records import REJECTED, STATUS_SCHEMA, Clip
from erray.store import RunFolder, row_key

CORPUS = "corpus"
"""Stage of the status rows of clips that the corpus leaves out."""

WORKER_DIED = "worker_died: the process that worked on this clip ended without an answer"


def write_excluded(run: RunFolder, excluded: Sequence[tuple[Clip, str]]) -> pa.Table:
    """Return the status rows of clips that the corpus leaves out; write those not there yet."""
    print_ = fingerprint({"stage": CORPUS})
    rows = [
        _row(clip.clip_id, CORPUS, print_, row_key(print_, clip.clip_id, reason), reason)
        | {"file_sha256": clip.file_sha256}
        for clip, reason in excluded
    ]
    known = run.status.states(print_) if rows else {}
    missing = [row for row in rows if row["key"] not in known]
    run.status.write_shard(missing, keys=[row["key"] for row in missing])
    return pa.Table.from_pylist(rows, schema=STATUS_SCHEMA)


def died_row(row: Mapping[str, Any], stage: str, stage_print: str) -> dict[str, Any]:
    """Return the status row of a clip that ended its worker every time."""
    died = _row(row["clip_id"], stage, stage_print, row["key"], WORKER_DIED)
    return died | {"file_sha256": row["file_sha256"], "frame_times_s": None}


def reject_rows(run: RunFolder, plan: Plan, rejected: Mapping[str, tuple[str, str]]) -> pa.Table:
    """Return the status row that rejects each clip, in the order of the stages.

    Args:
        rejected: clip id to stage and key.
    """
    parts = [STATUS_SCHEMA.empty_table()]
    for name in (TRACKS, *plan.modalities):
        keys = {clip: key for clip, (stage, key) in rejected.items() if stage == name}
        if not keys:
            continue
        where = {"fingerprint": plan.fingerprints[name], "state": REJECTED}
        rows = run.status.latest(
            columns=STATUS_SCHEMA.names, where=where, limits=limits_print(plan.limits)
        )
        place = {key: i for i, key in enumerate(rows["key"].to_pylist())}
        found = rows.take(pa.array([place[key] for key in keys.values()], pa.int64()))
        parts.append(found.set_column(0, STATUS_SCHEMA.field("clip_id"), [list(keys)]))
    return pa.concat_tables(parts)


def reasons(rejects: pa.Table) -> tuple[dict[str, int], dict[str, str]]:
    """Count the first words of the reasons, the most frequent first; one clip for each."""
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    names, texts = rejects["clip_id"].to_pylist(), rejects["reason"].to_pylist()
    for clip, reason in zip(names, texts, strict=True):
        code = reason.split(":", 1)[0]
        counts[code] += 1
        examples.setdefault(code, f"{clip}: {reason}")
    return dict(counts.most_common()), examples


def _row(clip_id: str, stage: str, stage_print: str, key: str, reason: str) -> dict[str, Any]:
    return {
        "clip_id": clip_id,
        "stage": stage,
        "fingerprint": stage_print,
        "key": key,
        "state": REJECTED,
        "reason": reason,
    }
