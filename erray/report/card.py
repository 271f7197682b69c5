"""What a model is for, what it is not for, and on whom it was measured: for the page and its card.

One text for both: the page of a run, and the ``MODEL_CARD.md`` of a registered version.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from erray.records import Clip

INTENDED_USES = (
    "Research on recognising expressed emotion in recordings whose people agreed to that use: "
    "comparing encoders, fusions and protocols.",
    "Teaching and engineering: how such a pipeline is run and tracked.",
)
FORBIDDEN_USES = (
    (
        "At work and in education",
        ": article 5(1)(f) of the EU AI Act (Regulation (EU) 2024/1689) prohibits AI systems that "
        "infer emotions of people there, except for medical or safety reasons.",
    ),
    (
        "Decisions about people",
        ": hiring, grading, insurance, credit, policing, borders, custody, diagnosis, advertising "
        "to a person by their mood.",
    ),
    ("Watching people without their knowledge", ", or identifying them."),
    (
        "",
        "Elsewhere systems that recognise emotions are high-risk under annex III of the same act, "
        "and the people in front of them must be told (article 50).",
    ),
)
"""What stands out, and the rest of the sentence."""
LIMITS = (
    "The model names the class that resembles most what raters called similar clips. It does not "
    "know what a person feels. A score on one corpus says little about another, about other "
    "languages, or about people who are not in the data."
)
SPLIT_TITLES = {
    "train": "Trained on",
    "val": "Chosen on",
    "holdout": "Compared on",
    "test": "Measured on",
}
SPLIT_MEANINGS = {
    "train": "the weights and the normaliser were fitted on it",
    "val": "val chose the epoch and the settings: its scores are optimistic",
    "holdout": "set apart from val, chosen on nothing: promotion is judged on it alone",
    "test": "chosen on nothing: the test split was scored when the weights stood",
}
assert set(SPLIT_TITLES) == set(SPLIT_MEANINGS)
SEARCHED_TEST = (
    "not unseen: the settings were searched over folds, and clips of it were train or val of other "
    "folds: its scores are optimistic"
)
"""What test was for in place of the above, where a search chose the settings by clips of it."""
SEARCHED_HOLDOUT = (
    "not apart: the settings were searched over folds, and clips of it were train or val of other "
    "folds: its scores are optimistic"
)
"""The same of the holdout."""


@dataclass(frozen=True, slots=True)
class SplitFacts:
    """How many labelled clips of how many groups a split has, and what it was for."""

    split: str
    title: str
    num_clips: int
    num_groups: int
    meaning: str


def split_meanings(
    *, test_was_searched: bool, holdout_was_searched: bool = False
) -> dict[str, str]:
    """What each split was for, of a model whose settings were searched with them or without."""
    return (
        SPLIT_MEANINGS
        | ({"test": SEARCHED_TEST} if test_was_searched else {})
        | ({"holdout": SEARCHED_HOLDOUT} if holdout_was_searched else {})
    )


def split_facts(
    clips: Iterable[Clip], *, test_was_searched: bool, holdout_was_searched: bool
) -> list[SplitFacts]:
    """Count the labelled clips of the splits that a model is made and measured with."""
    meanings = split_meanings(
        test_was_searched=test_was_searched, holdout_was_searched=holdout_was_searched
    )
    labelled = [clip for clip in clips if clip.label is not None]
    of_split = {s: [clip for clip in labelled if clip.split == s] for s in meanings}
    return [
        SplitFacts(
            split,
            SPLIT_TITLES[split],
            len(part),
            len({clip.group for clip in part}),
            meanings[split],
        )
        for split, part in of_split.items()
        if part
    ]
