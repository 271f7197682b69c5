"""The labelled clips of a split as a model predicted them, ready to be scored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from erray.errors import UserError
from erray.finite import NotFiniteError, require_finite
from erray.labels import CEXPR_7, CEXPR_8
from erray.metrics import clip_logits, clip_prediction
from erray.records import tensor_from_columns

OTHER = "Other"


def stored_logits(row: Mapping[str, Any]) -> NDArray[np.float32]:
    """Return the logits [T, C] of a row of a predictions table.

    Raises:
        UserError: they are not finite; such clips are rejected today, and were not at first.
    """
    logits_TC = tensor_from_columns(row["logits"], row["shape"], row["dtype"])
    try:
        require_finite(logits_TC, "logits")
    except NotFiniteError as error:
        raise UserError(
            f"clip {row['clip_id']!r} was predicted by an erray that did not reject it ({error}): "
            f"remove the folder of its predictions and train or predict again"
        ) from None
    return logits_TC


@dataclass(frozen=True, eq=False)
class LabelledClips:
    """N labelled clips in the order of their ids, with the logits of their frames.

    Attributes:
        classes: C names; a class id is a position.
        label_N: class ids.
        logits: of each clip, [T, C].
        clip_rule: the run's own.
        temperature: the run's own, of the probabilities by ``clip_rule``.

    Raises:
        NotFiniteError: a logit that is not finite.
    """

    clip_ids: tuple[str, ...]
    groups: tuple[str, ...]
    classes: tuple[str, ...]
    label_N: NDArray[np.int64]
    logits: tuple[NDArray[np.float32], ...]
    clip_rule: str
    temperature: float = 1.0

    def __post_init__(self) -> None:
        sizes = {len(self.clip_ids), len(self.groups), len(self.label_N), len(self.logits)}
        assert len(sizes) == 1, sizes
        assert list(self.clip_ids) == sorted(self.clip_ids), "clips must be in order of their ids"
        for x_TC in self.logits:
            require_finite(x_TC, "logits")

    @classmethod
    def from_rows(
        cls, rows: Iterable[Mapping[str, Any]], *, temperature: float = 1.0
    ) -> LabelledClips | None:
        """Labelled rows of one predictions table; None where no row has a label.

        Raises:
            UserError: see :func:`stored_logits`.
        """
        ordered = sorted(
            (row for row in rows if row["label"] is not None), key=lambda row: str(row["clip_id"])
        )
        if not ordered:
            return None
        classes = tuple(ordered[0]["classes"])
        return cls(
            clip_ids=tuple(row["clip_id"] for row in ordered),
            groups=tuple(row["group"] for row in ordered),
            classes=classes,
            label_N=np.array([classes.index(row["label"]) for row in ordered], np.int64),
            logits=tuple(map(stored_logits, ordered)),
            clip_rule=ordered[0]["clip_rule"],
            temperature=temperature,
        )

    def __len__(self) -> int:
        return len(self.clip_ids)

    @property
    def num_groups(self) -> int:
        """Distinct groups: what a resample draws."""
        return len(set(self.groups))

    def predicted(self, rule: str) -> NDArray[np.int64]:
        """Class ids [N] by a clip rule.

        Raises:
            UserError: an unknown rule.
        """
        return np.array([clip_prediction(x_TC, rule)[0] for x_TC in self.logits], np.int64)

    def probabilities(self, *, temperature: float) -> NDArray[np.float64]:
        """Probabilities [N, C] by the run's clip rule."""
        return np.array(
            [clip_prediction(x, self.clip_rule, temperature=temperature)[1] for x in self.logits]
        )

    def clip_logits(self) -> NDArray[np.float64]:
        """Values [N, C] whose softmax are the probabilities by the run's rule, at temperature 1."""
        return np.array([clip_logits(x_TC, self.clip_rule) for x_TC in self.logits])

    def frames(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.str_]]:
        """Label, prediction and group of every frame; a frame has the label of its clip."""
        lengths = [len(x_TC) for x_TC in self.logits]
        predicted = np.concatenate([x_TC.argmax(-1) for x_TC in self.logits])
        return self.label_N.repeat(lengths), predicted, np.array(self.groups).repeat(lengths)

    def only(self, clip_ids: Iterable[str]) -> LabelledClips:
        """The clips that have one of these ids."""
        wanted = set(clip_ids)
        return self._at([i for i, clip_id in enumerate(self.clip_ids) if clip_id in wanted])

    def without_other(self) -> LabelledClips | None:
        """The clips of the seven classes, their logits without the column of Other.

        None where Other is no class of these, or no clip has another label.
        """
        if self.classes != CEXPR_8.names:
            return None
        other = self.classes.index(OTHER)
        kept = self._at(np.flatnonzero(self.label_N != other).tolist())
        if not len(kept):
            return None
        assert other == len(CEXPR_7), "the ids of the seven classes stay"
        logits = tuple(np.delete(x_TC, other, axis=-1) for x_TC in kept.logits)
        return replace(kept, classes=CEXPR_7.names, logits=logits)

    def _at(self, positions: Sequence[int]) -> LabelledClips:
        return replace(
            self,
            clip_ids=tuple(self.clip_ids[i] for i in positions),
            groups=tuple(self.groups[i] for i in positions),
            label_N=self.label_N[list(positions)],
            logits=tuple(self.logits[i] for i in positions),
        )
