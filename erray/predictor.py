"""The worker of a prediction: clips whose features lie in the tables to rows of predictions."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from erray.checkpoint import load_model
from erray.feature_rows import joined
from erray.finite import NotFiniteError
from erray.labels import CEXPR_7
from erray.pairs import compound_logits
from erray.records import PREDICTION_SCHEMA, STATUS_SCHEMA
from erray.scoring import prediction_row, rejected_row, score_clips
from erray.store import RunFolder, Table
from erray.windows import WindowSample, cut

KEY_PREFIX, SHARD_PREFIX = "key_", "shard_"
"""Of the columns with a stream's key and the path of its shard, before the stream's name."""


class Predictor:
    """Predict the clips of a batch with one model; called by an actor or in a plain shell.

    The model is loaded once; batches of clips come, rows of the predictions table are written, and
    status rows of the clips whose logits are not finite.

    Args:
        model: folder of the checkpoint.
        run: whose features are read.
        table: folder of the predictions table.
        rejects: folder of the table of clips without a prediction.
        model_name: written into every row.
        model_version: written into every row.
        pair_rule: predict compound classes with a model of basic emotions, see
            :mod:`erray.pairs`; None: the model's own classes.
    """

    def __init__(
        self,
        *,
        model: str,
        run: RunFolder,
        table: str,
        rejects: str,
        model_name: str,
        model_version: str,
        pair_rule: str | None = None,
    ) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model, self.description = load_model(Path(model))
        self.model.to(self.device)
        self.run, self.table = run, Table(table, PREDICTION_SCHEMA)
        self.rejects = Table(rejects, STATUS_SCHEMA)
        self.model_name, self.model_version = model_name, model_version
        self.pair_rule = pair_rule

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Predict clocked rows with a key and a shard per stream; return clip ids."""
        rows = batch.to_pylist()
        features = {
            name: self._features(name, fingerprint, rows)
            for name, fingerprint in self.description.features.items()
        }
        windows = (w for i, row in enumerate(rows) for w in self._windows(i, row, features))
        predictions, rejected = [], []
        for i, logits_TC in score_clips(self.model, windows, device=self.device):
            try:
                predictions.append(self._row(rows[i], logits_TC))
            except NotFiniteError as why:
                rejected.append(rejected_row(why, clip_id=rows[i]["clip_id"], **self._model_facts))
        keys = [row["clip_id"] for row in rows]
        self.table.write_shard(predictions, keys=keys)
        self.rejects.write_shard(rejected, keys=keys)
        return pa.table({"clip_id": keys})

    def _features(self, name: str, fingerprint: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
        keys = {row[KEY_PREFIX + name] for row in rows}
        shards = sorted({row[SHARD_PREFIX + name] for row in rows})
        table = self.run.features(name, fingerprint).read(keys=keys, shards=shards)
        rows_of_key: dict[str, list[dict[str, Any]]] = {}
        for row in table.to_pylist():
            if not row["view"]:  # view 0 alone; rows of before there were views have none
                rows_of_key.setdefault(row["key"], []).append(row)
        return {key: joined(rows) for key, rows in rows_of_key.items()}

    def _windows(
        self, clip: int, row: dict[str, Any], features: dict[str, Any]
    ) -> Iterable[WindowSample]:
        values, present = {}, {}
        for name in self.description.streams:
            values[name], present[name] = features[name][row[KEY_PREFIX + name]]
        num_ticks = len(row["frame_times_s"])
        for start, stop in cut(num_ticks, self.description.window, self.description.hop):
            yield WindowSample(
                streams={name: x_TD[start:stop] for name, x_TD in values.items()},
                present={name: mask_T[start:stop] for name, mask_T in present.items()},
                label=-1,
                clip=clip,
                start=start,
            )

    @property
    def _model_facts(self) -> dict[str, str]:
        return {"model_name": self.model_name, "model_version": self.model_version}

    def _row(self, row: dict[str, Any], logits_TC: Any) -> dict[str, Any]:
        classes, temperature = self.description.class_names, self.description.temperature
        if self.pair_rule is not None:
            logits_TC = compound_logits(logits_TC, self.pair_rule)
            classes, temperature = CEXPR_7.names, 1.0  # val has fitted none for them
        return prediction_row(
            logits_TC,
            clip_id=row["clip_id"],
            split=row["split"],
            group=row["group"],
            label=row["label"],
            times_s_T=np.asarray(row["frame_times_s"]),
            classes=classes,
            clip_rule=self.description.clip_rule,
            temperature=temperature,
            **self._model_facts,
        )
