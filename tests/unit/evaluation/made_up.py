"""Rows of a predictions table that are right more often than by chance."""

from __future__ import annotations

from typing import Any

import numpy as np

from erray.evaluation.clips import LabelledClips
from erray.labels import CEXPR_8, LabelSet
from erray.scoring import prediction_row


def made_up_rows(
    seed: int,
    *,
    labels: LabelSet = CEXPR_8,
    skill: float = 1.0,
    num_clips: int = 60,
    split: str = "test",
    temperature: float = 1.0,
    clip_rule: str = "mean_logits",
) -> list[dict[str, Any]]:
    """One row per clip, three clips to a group; labels and lengths are those of every seed."""
    rng, lengths = np.random.default_rng(seed), np.random.default_rng(0)
    rows = []
    for i in range(num_clips):
        label = i % len(labels)
        num_frames = int(lengths.integers(1, 9))
        logits_TC = rng.normal(size=(num_frames, len(labels))) + rng.normal(size=len(labels))
        logits_TC[:, label] += skill
        rows.append(
            prediction_row(
                logits_TC.astype(np.float32),
                clip_id=f"clip{i:03d}",
                split=split,
                group=f"group{i // 3}",
                label=labels.names[label],
                times_s_T=np.arange(num_frames) / 25,
                classes=labels.names,
                clip_rule=clip_rule,
                temperature=temperature,
                model_name="fusion",
                model_version="0",
            )
        )
    return rows


def made_up_clips(seed: int, *, temperature: float = 1.0, **options: Any) -> LabelledClips:
    """The same, read."""
    found = LabelledClips.from_rows(made_up_rows(seed, **options), temperature=temperature)
    assert found is not None
    return found
