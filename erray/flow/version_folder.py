"""The folder that becomes a model version: the model, its card, what it reads, what it predicts.

========================  ======================================================================
``model.safetensors``     weights, normalisers included (:mod:`erray.checkpoint`)
``model.json``            all of the model but its weights
``SHA256SUMS``            of both
``input_schema.json``     streams with width, modality and fingerprint; clock; classes
``MODEL_CARD.md``         for people
``val_predictions/``      the labelled clips of val as the model predicts them, as Parquet
``holdout_predictions/``  the same of those that are set apart (:mod:`erray.corpora.holdout`)
========================  ======================================================================

Where a search over folds has seen clips of the holdout, it is no holdout of this model: its clips
are in ``val_predictions/``, so that a comparison knows that they chose the settings.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from erray.checkpoint import ModelDescription, load_model
from erray.corpora.holdout import HOLDOUT, VAL
from erray.flow.context import Flow
from erray.flow.model_card import model_card
from erray.records import PREDICTION_SCHEMA
from erray.store import Table, write_text
from erray.training.runs import TrainingRun

CARD, INPUT_SCHEMA = "MODEL_CARD.md", "input_schema.json"
KEPT = {split: f"{split}_predictions" for split in (VAL, HOLDOUT)}
"""Split to the folder of its predictions."""


def write_version(
    flow: Flow, folder: Path, model: Path, *, run: TrainingRun | None, origin: str
) -> None:
    """Write the folder of a version.

    Args:
        folder: to be made.
        model: folder of the checkpoint.
        run: the training run that made it; None: erray did not train it, so it has neither scores
            nor val predictions.
        origin: where the weights come from, for the card.

    Raises:
        UserError: a checkpoint that is damaged.
    """
    network, description = load_model(model)
    shutil.copytree(model, folder)
    num_parameters = sum(x.numel() for x in network.parameters())
    schema = json.dumps(input_schema(description, flow.plan.modalities), indent=2)
    write_text(folder / INPUT_SCHEMA, schema + "\n")
    rows = [] if run is None else run.predictions.read().to_pylist()
    if run is not None and flow.holdout_was_searched(run):
        rows = [row | ({"split": VAL} if row["split"] == HOLDOUT else {}) for row in rows]
    kept = {
        split: [row for row in rows if row["split"] == split and row["label"] is not None]
        for split in KEPT
    }
    card = model_card(
        flow,
        description,
        rows,
        num_parameters=num_parameters,
        num_rejected=0 if run is None else len(run.rejected()),
        origin=origin,
        test_was_searched=run is not None and flow.test_was_searched(run),
        judged_on_holdout=bool(kept[HOLDOUT]),
    )
    write_text(folder / CARD, card)
    for split, part in kept.items():
        if part:
            Table(str(folder / KEPT[split]), PREDICTION_SCHEMA).replace(part)


def input_schema(description: ModelDescription, modalities: dict[str, str]) -> dict[str, Any]:
    """What the model reads and answers, in plain JSON.

    Every stream is an array [ticks, width] with a mask [ticks] of the ticks that have data; all
    streams of a clip have the same ticks.
    """
    return {
        "streams": {
            name: {
                "width": width,
                "modality": modalities[name],
                "dtype": "float32",
                "fingerprint": description.features[name],
            }
            for name, width in description.streams.items()
        },
        "clock_hz": description.clock_hz,
        "ticks_are": "frames" if description.clock_hz is None else "steps of the clock",
        "window_ticks": description.window,
        "hop_ticks": description.hop,
        "labels": description.labels,
        "classes": list(description.class_names),
    }


def kept_rows(folder: Path) -> list[dict[str, Any]]:
    """Predictions of the labelled clips of val and of the holdout that a version's folder keeps."""
    tables = (Table(str(folder / name), PREDICTION_SCHEMA) for name in KEPT.values())
    return [row for table in tables for row in table.read().to_pylist()]
