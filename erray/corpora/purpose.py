"""Whether a corpus holds what somebody wants of it: splits to train and score on, words to read.

Pure functions of the clips. An error is what cannot work; a warning is what ends well and means
something else than most people expect.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from erray.corpora.findings import ERROR, WARNING, Finding, about
from erray.corpora.holdout import HOLDOUT, VAL
from erray.errors import did_you_mean
from erray.records import Clip

TRAIN, TEST = "train", "test"
_OTHER_NAMES = {
    TRAIN: ("train", "training", "trn", "learn"),
    VAL: ("val", "valid", "validation", "validate", "dev", "devel", "development"),
    TEST: ("test", "testing", "tst", "eval", "evaluation", "heldout", "holdout"),
}
"""Split to what else people call it."""
_MOST = 0.5
"""Share of clips without words from which a text stream is said to lack them."""


def check_purpose(
    clips: Sequence[Clip], *, training: bool | None, predicted: str, text: Collection[str] = ()
) -> list[Finding]:
    """Return what stands in the way of training, scoring and predicting, errors first.

    Args:
        clips: to use.
        training: whether a model is to be trained; None: where there are clips of train or val, or
            labels outside of the splits that are tested and predicted.
        predicted: the split of ``predict.split``.
        text: names of the streams that read words, where no recogniser writes them.
    """
    labelled = Counter(clip.split for clip in clips if clip.label is not None)
    if training is None:
        splits = {clip.split for clip in clips}
        training = bool((splits & {TRAIN, VAL} | set(labelled)) - {TEST, predicted})
    findings = [*_no_words(clips, text)]
    if training:
        findings += [
            *_cannot_train(clips, labelled),
            *_no_test(clips, labelled),
            *_unused_splits(clips, {TRAIN, VAL, HOLDOUT, TEST, predicted}),
        ]
    return sorted(findings, key=lambda finding: finding.level != ERROR)


def _cannot_train(clips: Sequence[Clip], labelled: Counter[str]) -> Iterator[Finding]:
    for split, purpose in ((TRAIN, "a model is trained on"), (VAL, "the epoch is chosen by")):
        if labelled[split]:
            continue
        code, num_clips = f"no_labels_in_{split}", sum(clip.split == split for clip in clips)
        if num_clips:
            what = f"clips in split {split}, none has a label"
            advice = f"{purpose} its labelled clips: fill in label"
        else:
            what = f"clips in split {split}"
            advice = f"{purpose} it, and there are {_counts(clips)}{_meant(clips, split)}"
        yield Finding(ERROR, code, num_clips, what, (), advice)


def _no_test(clips: Sequence[Clip], labelled: Counter[str]) -> Iterator[Finding]:
    if not labelled[TEST]:
        what = f"labelled clips in split {TEST}"
        advice = f"no score will be of clips that chose nothing{_meant(clips, TEST)}"
        yield Finding(WARNING, "no_labels_in_test", 0, what, (), advice)


def _unused_splits(clips: Sequence[Clip], used: Collection[str]) -> Iterator[Finding]:
    counts = Counter(clip.split for clip in clips)
    unused = [
        f"{name} with {count} clips{_likely(name)}"
        for name, count in counts.items()
        if name not in used
    ]
    advice = f"nothing but their features is computed: use {', '.join(sorted({*used} - {HOLDOUT}))}"
    yield from about(WARNING, "unused_split", unused, "splits that no step uses", advice)


def _no_words(clips: Sequence[Clip], text: Collection[str]) -> Iterator[Finding]:
    wordless = [
        clip.clip_id for clip in clips if not clip.words and not (clip.transcript or "").strip()
    ]
    if text and clips and len(wordless) > _MOST * len(clips):
        streams = " and ".join(text)
        what = f"of {len(clips)} clips have no words for {streams}"
        advice = "fill in transcript, set transcribe.model and run `erray transcribe`, or leave "
        yield from about(WARNING, "no_words", wordless, what, f"{advice}{streams} out")


def _counts(clips: Sequence[Clip]) -> str:
    counts = Counter(clip.split for clip in clips)
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"


def _meant(clips: Sequence[Clip], split: str) -> str:
    """The question whether a split of another name is meant."""
    names = [
        name for name in dict.fromkeys(clip.split for clip in clips) if _stands_for(name, split)
    ]
    return f": rename {names[0]} to {split}, if that is it" if names else ""


def _likely(name: str) -> str:
    split = next((split for split in _OTHER_NAMES if _stands_for(name, split)), None)
    return f" (is it {split}?)" if split else ""


def _stands_for(name: str, split: str) -> bool:
    near = did_you_mean(name, _OTHER_NAMES[split])
    return name != split and (name.casefold() in _OTHER_NAMES[split] or bool(near))
