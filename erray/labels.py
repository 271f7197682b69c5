"""Label sets, and the pairs of basic emotions behind the compound classes."""

from __future__ import annotations

from dataclasses import dataclass

from erray.errors import UserError


@dataclass(frozen=True, slots=True)
class LabelSet:
    """Ordered class names; a class id is a position in ``names``."""

    name: str
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        assert len(set(self.names)) == len(self.names), f"{self.name}: class names repeat"

    def __len__(self) -> int:
        return len(self.names)

    def index(self, label: str) -> int:
        """Return the class id of ``label``.

        Raises:
            UserError: the label is not one of this set.
        """
        try:
            return self.names.index(label)
        except ValueError:
            raise UserError(
                f"label {label!r} is not in the label set {self.name!r}; "
                f"expected one of: {', '.join(self.names)}"
            ) from None


BASIC_7 = LabelSet(
    "basic7",
    ("Neutral", "Happiness", "Surprise", "Fear", "Anger", "Disgust", "Sadness"),
)
"""MELD's ids (its "joy" is Happiness here)."""

CEXPR_7 = LabelSet(
    "cexpr7",
    (
        "Fearfully Surprised",
        "Happily Surprised",
        "Sadly Surprised",
        "Disgustedly Surprised",
        "Angrily Surprised",
        "Sadly Fearful",
        "Sadly Angry",
    ),
)
"""The compound classes of C-EXPR-DB and the ABAW-7 challenge."""

CEXPR_8 = LabelSet("cexpr8", (*CEXPR_7.names, "Other"))

LABEL_SETS: dict[str, LabelSet] = {s.name: s for s in (BASIC_7, CEXPR_7, CEXPR_8)}

COMPOUND_PAIRS: dict[str, tuple[str, str]] = {
    "Fearfully Surprised": ("fear", "surprise"),
    "Happily Surprised": ("happiness", "surprise"),
    "Sadly Surprised": ("sadness", "surprise"),
    "Disgustedly Surprised": ("disgust", "surprise"),
    "Angrily Surprised": ("anger", "surprise"),
    "Sadly Fearful": ("fear", "sadness"),
    "Sadly Angry": ("anger", "sadness"),
}
"""Compound class name to its unordered pair of basic emotions (lower case)."""
