"""What the model gets wrong: the commonest confusions, and the clips it is surest of in error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from erray.report.sources import ClipPrediction
from erray.report.thumbnails import Faces, Slot, fill_slots

_NUM_CONFUSIONS, _NUM_SLOTS = 8, 5


@dataclass(frozen=True, slots=True)
class Confusion:
    """``count`` of the ``num_label`` clips of a class that were taken for another one.

    ``class_ids`` are those of the label and of the prediction; ``confidence`` is the mean
    probability of the prediction.
    """

    label: str
    predicted: str
    class_ids: tuple[int, int]
    count: int
    num_label: int
    confidence: float


@dataclass(frozen=True, slots=True)
class WrongClip:
    """A clip and what it was taken for; ``timeline`` is the id of its timeline on the page."""

    prediction: ClipPrediction
    transcript: str | None
    slots: list[Slot]
    timeline: str | None

    @property
    def class_ids(self) -> tuple[int, int]:
        """Ids of the label and of the prediction."""
        return _class_ids(self.prediction)

    @property
    def probabilities(self) -> tuple[float, float]:
        """Of the label, and of the prediction."""
        label, predicted = (float(self.prediction.probabilities_C[i]) for i in self.class_ids)
        return label, predicted


@dataclass(frozen=True)
class Errors:
    """The wrong clips of a split; ``confusions``: most clips first; ``clips``: surest first."""

    num_clips: int
    num_wrong: int
    confusions: list[Confusion]
    num_pairs: int
    clips: list[WrongClip]


def wrong_clips(predictions: Sequence[ClipPrediction]) -> list[ClipPrediction]:
    """Return the labelled clips with another class than their label, the surest first."""
    wrong = [p for p in predictions if p.label is not None and p.label != p.predicted]
    return sorted(wrong, key=lambda p: (-p.confidence, p.clip_id))


def find_confusions(predictions: Sequence[ClipPrediction]) -> list[Confusion]:
    """Return the pairs of label and wrong prediction, most clips first, then the surest."""
    labels = Counter(p.label for p in predictions)
    pairs: dict[tuple[int, int], list[ClipPrediction]] = {}
    for p in wrong_clips(predictions):
        pairs.setdefault(_class_ids(p), []).append(p)
    found = [
        Confusion(
            label=clips[0].label or "",
            predicted=clips[0].predicted,
            class_ids=pair,
            count=len(clips),
            num_label=labels[clips[0].label],
            confidence=sum(p.confidence for p in clips) / len(clips),
        )
        for pair, clips in pairs.items()
    ]
    return sorted(found, key=lambda c: (-c.count, -c.confidence, c.class_ids))


def make_errors(predictions: Sequence[ClipPrediction], clips: list[WrongClip]) -> Errors:
    """Gather what the page shows of the errors."""
    confusions = find_confusions(predictions)
    return Errors(
        num_clips=len(predictions),
        num_wrong=sum(c.count for c in confusions),
        confusions=confusions[:_NUM_CONFUSIONS],
        num_pairs=len(confusions),
        clips=clips,
    )


def make_wrong_clip(
    prediction: ClipPrediction, *, transcript: str | None, faces: Faces, timeline: str | None
) -> WrongClip:
    """Lay out one wrong clip with a short strip of its faces."""
    times_s_T = prediction.times_s_T - prediction.times_s_T[0]
    slots = fill_slots(faces, times_s_T, num_slots=_NUM_SLOTS)
    return WrongClip(prediction, transcript, slots, timeline)


def _class_ids(prediction: ClipPrediction) -> tuple[int, int]:
    classes = prediction.classes
    return classes.index(prediction.label or ""), classes.index(prediction.predicted)
