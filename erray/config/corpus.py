"""The section ``corpus``: where the clips come from."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from erray.config.section import Section
from erray.labels import LABEL_SETS, LabelSet


class Corpus(Section):
    kind: Literal["manifest", "meld", "cexpr", "cexpr-challenge"] = Field(
        "manifest", description="which reader makes the clips"
    )
    root: str = Field("", description="folder that holds every medium of the corpus")
    manifest: str = Field("manifest.csv", description="manifest only: CSV or Parquet, below root")
    annotations: str | None = Field(
        None,
        description="not manifest: folder of the corpus' own files, or the challenge's frame list; "
        "relative to root, or absolute; null: root",
    )
    labels: str | None = Field(
        None, description=f"label set: {', '.join(LABEL_SETS)}; null: the kind's own"
    )
    protocol: Literal["strict", "published"] = Field(
        "strict", description="not cexpr-challenge: published allows splits that leak, and says so"
    )
    fold: int = Field(0, ge=0, description="cexpr only: which fold is tested")
    num_folds: int = Field(5, ge=2, description="cexpr under strict only: folds that are made")
    holdout_share: float = Field(
        0.3,
        ge=0,
        lt=1,
        description="not cexpr-challenge, not published: share of val's groups that chooses "
        "nothing and judges promotion",
    )
    clock_hz: float | None = Field(
        None, gt=0, description="ticks per second; null: the frames' own presentation times"
    )

    @property
    def label_set(self) -> LabelSet:
        """The classes of the corpus."""
        return LABEL_SETS[self.labels or _LABELS_OF_KIND[self.kind][0]]

    @model_validator(mode="after")
    def _known_labels(self) -> Corpus:
        known = _LABELS_OF_KIND[self.kind]
        if self.labels is not None and self.labels not in known:
            raise ValueError(
                f"corpus.labels of kind {self.kind} must be one of {', '.join(sorted(known))}, "
                f"found {self.labels!r}"
            )
        return self

    @model_validator(mode="after")
    def _only_what_the_kind_reads(self) -> Corpus:
        for name, kinds in _KINDS_OF_SETTING.items():
            given = getattr(self, name) != type(self).model_fields[name].default
            if given and self.kind not in kinds:
                raise ValueError(
                    f"corpus.{name} is read by kind {', '.join(kinds)} only, not by {self.kind}: "
                    f"remove it"
                )
        return self

    @model_validator(mode="after")
    def _splits_of_the_protocol(self) -> Corpus:
        if self.protocol == "published":
            for name in ("num_folds", "holdout_share"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(
                        f"corpus.{name} is not read under protocol published: remove it"
                    )
        elif self.fold >= self.num_folds:
            raise ValueError(
                f"corpus.fold {self.fold} must be below corpus.num_folds {self.num_folds}"
            )
        return self


_LABELS_OF_KIND = {
    "manifest": ("cexpr7", "cexpr8", "basic7"),
    "meld": ("basic7",),
    "cexpr": ("cexpr7", "cexpr8"),
    "cexpr-challenge": ("cexpr7",),
}
"""Corpus kind to its label sets, its own first."""

_KINDS_OF_SETTING = {
    "manifest": ("manifest",),
    "annotations": ("meld", "cexpr", "cexpr-challenge"),
    "protocol": ("manifest", "meld", "cexpr"),
    "fold": ("cexpr",),
    "num_folds": ("cexpr",),
    "holdout_share": ("manifest", "meld", "cexpr"),
}
"""Settings that some kinds only read."""
