"""What is wrong with a corpus, found before anything is extracted from it.

Pure functions of the clips and of what their media hold. An error refuses the corpus: a score on it
would mean nothing, or hardly a clip could be read. A warning goes on: the clips concerned become
rejected rows, or somebody should look at them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping

from erray.config import Corpus
from erray.corpora.clips import CorpusClips
from erray.corpora.findings import ERROR, WARNING, Finding, about
from erray.corpora.holdout import HOLDOUT, VAL
from erray.corpora.meld import MAX_UTTERANCE_S
from erray.corpora.scan import ScannedMedium
from erray.records import Clip

Media = Mapping[str, ScannedMedium | None]

MIN_LENGTH_S, MAX_LENGTH_S = 0.1, 600.0
"""Shorter than three frames, longer than ten minutes: no utterance and no expression."""

_FAR_SHARE, _FAR_S = 0.5, 1.0
_SPAN_SLACK_S = 0.5  # headers round, and sound and pictures end at different times


def check_corpus(config: Corpus, corpus: CorpusClips) -> list[Finding]:
    """Return everything that is wrong with the corpus, errors first."""
    clips, media = corpus.clips, corpus.media
    published, is_meld = config.protocol == "published", config.kind == "meld"
    findings = [
        *_no_clips(clips),
        *_repeated_ids(clips),
        *_across_splits(clips, WARNING if published else ERROR),
        *_unused_classes(clips, config.label_set.names),
        *_implausible(clips, media, max_length_s=MAX_UTTERANCE_S if is_meld else MAX_LENGTH_S),
    ]
    if media is None:
        findings += _no_clock(config, clips)
        findings += _no_length(clips)
    else:
        findings += _missing(clips, media, all_needed=config.kind == "cexpr-challenge")
        findings += _unreadable(clips, media)
        findings += _no_pictures(config, clips, media)
        findings += _same_content(clips)
        findings += _against_headers(clips, media)
    findings += [Finding(WARNING, "note", 1, text, (), "") for text in corpus.warnings]
    return sorted(findings, key=lambda finding: finding.level != ERROR)


def _no_clips(clips: list[Clip]) -> Iterator[Finding]:
    if not clips:
        yield Finding(ERROR, "no_clips", 0, "clips to use", (), "look at what is left out, and why")


def _repeated_ids(clips: list[Clip]) -> Iterator[Finding]:
    counts = Counter(clip.clip_id for clip in clips)
    repeated = [clip_id for clip_id, count in counts.items() if count > 1]
    what = "ids of more than one clip"
    yield from about(ERROR, "repeated_id", repeated, what, "give every clip an id of its own")


def _across_splits(clips: list[Clip], level: str) -> Iterator[Finding]:
    """Groups, and contents of files, that are in two splits."""
    group_splits, file_splits, names = defaultdict(set), defaultdict(set), dict[str, str]()
    for clip in clips:
        group_splits[clip.group].add(clip.split)
        if clip.file_sha256 is not None:
            file_splits[clip.file_sha256].add(clip.split)
            names.setdefault(clip.file_sha256, clip.media)
    advice = "put each into one split, or accept inflated scores with protocol: published"
    if level == WARNING:
        advice = "protocol: published accepts it; scores are too high for new videos"
    groups = [f"{g} in {_and(s)}" for g, s in group_splits.items() if len(s) > 1]
    yield from about(level, "group_across_splits", groups, "groups in several splits", advice)
    # groups of one file may lie in val, and erray sets some of them apart: nothing to refuse
    within = {h for h, s in file_splits.items() if s == {VAL, HOLDOUT}}
    files = [
        f"{names[h]} in {_and(s)}" for h, s in file_splits.items() if len(s) > 1 and h not in within
    ]
    yield from about(level, "file_across_splits", files, "files in several splits", advice)
    shared, advice = [names[h] for h in within], "give all clips of a file one group"
    what = "files of which val has one group and the holdout another"
    yield from about(WARNING, "file_across_holdout", shared, what, advice)


def _and(splits: Iterable[str]) -> str:
    return " and ".join(sorted(splits))


def _same_content(clips: list[Clip]) -> Iterator[Finding]:
    """The same span of the same content twice in one split, under any file name."""
    first: dict[tuple[object, ...], str] = {}
    repeated = []
    for clip in clips:
        content = (clip.split, clip.file_sha256, clip.start_s, clip.end_s)
        if clip.file_sha256 is None:
            continue
        if content in first:
            repeated.append(f"{clip.clip_id} is {first[content]}")
        first.setdefault(content, clip.clip_id)
    advice = "drop one of each, unless it is meant to count twice"
    yield from about(WARNING, "same_content", repeated, "clips repeat another's content", advice)


def _unused_classes(clips: list[Clip], names: Iterable[str]) -> Iterator[Finding]:
    if not any(clip.split == "train" and clip.label is not None for clip in clips):
        return  # nothing is to be trained on it
    trained = {clip.label for clip in clips if clip.split == "train"}
    advice = "it can never be predicted: add clips, or take another label set or fold"
    unused = [name for name in names if name not in trained]
    yield from about(WARNING, "class_not_in_train", unused, "classes without train clips", advice)


def _missing(clips: list[Clip], media: Media, *, all_needed: bool) -> Iterator[Finding]:
    """Media that are not there: one is a rejected row, a whole split is a wrong folder."""
    by_split: dict[str, dict[str, bool]] = defaultdict(dict)
    for clip in clips:
        by_split[clip.split][clip.media] = media[clip.media] is None
    missing = {name for found in by_split.values() for name, gone in found.items() if gone}
    lost_splits = [split for split, found in by_split.items() if all(found.values())]
    level, advice = WARNING, "their clips will be rejected: put the files there if you have them"
    if all_needed:
        level, advice = ERROR, "a submission needs all of them: put the files there"
    elif lost_splits:
        level, advice = ERROR, f"every file of {_and(lost_splits)} is missing: set corpus.root"
    yield from about(level, "no_media", missing, "media are not below corpus.root", advice)


def _unreadable(clips: list[Clip], media: Media) -> Iterator[Finding]:
    found = {clip.media: media[clip.media] for clip in clips}
    broken = [
        f"{name} ({m.problem.partition(':')[0]})"
        for name, m in found.items()
        if m is not None and m.problem is not None
    ]
    advice = "their clips will be rejected: replace the files if you can"
    yield from about(WARNING, "unreadable", broken, "media cannot be opened", advice)


def _no_pictures(config: Corpus, clips: list[Clip], media: Media) -> Iterator[Finding]:
    """Sound alone has no frames whose times could be the clock."""
    if config.clock_hz is not None:
        return
    found = {clip.media: media[clip.media] for clip in clips}
    silent = [name for name, m in found.items() if m is not None and m.num_video == 0]
    advice = "their clips will be rejected: set corpus.clock_hz"
    yield from about(WARNING, "no_pictures", silent, "media hold sound only", advice)


def _no_clock(config: Corpus, clips: list[Clip]) -> Iterator[Finding]:
    if config.clock_hz is None and clips:
        what, advice = "clips have no clock", "no stream reads the media: set corpus.clock_hz"
        yield Finding(ERROR, "no_clock", len(clips), what, (), advice)


def _no_length(clips: list[Clip]) -> Iterator[Finding]:
    unknown = [clip.clip_id for clip in clips if clip.stated_s is None]
    advice = "it is guessed from the words: give duration_s, or start_s and end_s"
    yield from about(WARNING, "no_length", unknown, "clips have no known length", advice)


def _implausible(
    clips: list[Clip], media: Media | None, *, max_length_s: float
) -> Iterator[Finding]:
    lengths = {clip.clip_id: _length_s(clip, media) for clip in clips}
    known = [(name, length) for name, length in lengths.items() if length is not None]
    for code, wrong, what in (
        ("too_short", [k for k in known if k[1] < MIN_LENGTH_S], f"clips below {MIN_LENGTH_S} s"),
        (
            "too_long",
            [k for k in known if k[1] > max_length_s],
            f"clips above {max_length_s:.0f} s",
        ),
    ):
        names = [f"{name} {length:.3g} s" for name, length in wrong]
        yield from about(WARNING, code, names, what, "look at them: a wrong cut, or a wrong file")


def _against_headers(clips: list[Clip], media: Media) -> Iterator[Finding]:
    """Stated lengths and spans that do not fit the medium."""
    differs, outside = [], []
    for clip in clips:
        header = _header(clip, media)
        if header is None:
            continue
        start_s, end_s = header
        if clip.start_s is None and clip.end_s is None and clip.duration_s is not None:
            far_s = max(_FAR_S, _FAR_SHARE * clip.duration_s)
            if abs(end_s - start_s - clip.duration_s) > far_s:
                found_s = end_s - start_s
                differs.append(f"{clip.clip_id} is {found_s:.3g} s, not {clip.duration_s:.3g} s")
        last_s = max(clip.start_s or 0.0, clip.end_s or 0.0)
        if last_s > end_s + _SPAN_SLACK_S:
            outside.append(f"{clip.clip_id} goes to {last_s:.6g} s of {end_s:.6g} s")
    advice = "look at them: a wrong cut, or a wrong file"
    what = "media differ from the length that the corpus states"
    yield from about(WARNING, "length_differs", differs, what, advice)
    advice = "correct start_s and end_s: they are cut, or rejected where nothing is left"
    yield from about(WARNING, "span_outside", outside, "spans leave their medium", advice)


def _length_s(clip: Clip, media: Media | None) -> float | None:
    """The clip's length, by its span, by the medium's header, by what the corpus states."""
    header = _header(clip, media)
    if clip.end_s is None and header is None:
        return clip.duration_s
    first_s, last_s = header or (0.0, 0.0)
    start_s = first_s if clip.start_s is None else clip.start_s
    end_s = last_s if clip.end_s is None else clip.end_s
    return max(end_s - start_s, 0.0)


def _header(clip: Clip, media: Media | None) -> tuple[float, float] | None:
    """First and last time of the medium by its header, None where it has no length."""
    medium = None if media is None else media[clip.media]
    if medium is None or medium.duration_s is None:
        return None
    return medium.start_s, medium.start_s + medium.duration_s
