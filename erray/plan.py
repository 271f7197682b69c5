"""What a recipe wants extracted: fingerprints, keys, and what is still pending. No Ray here.

Every stage has a fingerprint of all that shapes its rows, and every row a key made of that
fingerprint and of the content it is computed from. Changing a setting or a file changes keys;
nothing else is computed again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from erray.config import Recipe, fingerprint
from erray.encoders import make_encoder
from erray.faces.detect import DetectorConfig, MtcnnDetector, mtcnn_weights_sha256
from erray.faces.track import TrackerConfig
from erray.media import MediaLimits
from erray.records import DONE, REJECTED, Clip
from erray.store import RunFolder, row_key

TRACKS = "tracks"
_TRACKS_VERSION = 2
# of erray/media and erray/stages/clock.py: which frames there are, and when
_CLOCK_VERSION = 1
# of erray/encoders/words.py: where words sit. Until 2, words were lost that outnumbered the ticks.
# The slower the clock, the more: there the fingerprint changes, and models of before ask for the
# features of before. On the frames' clock it happened to few clips (1 in 150 of MELD): there models
# stay valid, and clips with words get new rows.
_WORDS_VERSION = 2
# Where weights lie (their hash counts), where an encoder runs and how much at a time.
_SHAPES_NOTHING = ("weights", "model", "device", "batch_size")


@dataclass(frozen=True)
class Plan:
    """Stages of a recipe: ``tracks`` first, then one per stream."""

    recipe: Recipe

    @cached_property
    def modalities(self) -> dict[str, str]:
        """Stream name to modality, in the recipe's order."""
        return {name: encoder.modality for name, encoder in self._encoders.items()}

    @cached_property
    def widths(self) -> dict[str, int]:
        """Stream name to number of values per tick."""
        return {name: encoder.width for name, encoder in self._encoders.items()}

    @cached_property
    def num_views(self) -> dict[str, int]:
        """Stream name to stored views of a clip; only face encoders have more than one."""
        return {
            name: encoder.num_views if encoder.modality == "face" else 1
            for name, encoder in self._encoders.items()
        }

    def uses_gpu(self, stream: str) -> bool:
        """Whether the stream's encoder runs on a GPU where there is one: those with weights do."""
        return self._encoders[stream].weights_sha256 is not None

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """Stage name to fingerprint."""
        prints = {TRACKS: fingerprint(self._tracks_settings(self.detector))}
        clock_hz = self.recipe.corpus.clock_hz
        clock: dict[str, Any] = {"clock_hz": clock_hz, "version": _CLOCK_VERSION}
        words = clock if clock_hz is None else clock | {"words_version": _WORDS_VERSION}
        reads = {"face": prints[TRACKS], "voice": clock, "text": words}
        for name, encoder in self._encoders.items():
            prints[name] = fingerprint(
                {
                    "encoder": name,
                    "version": encoder.version,
                    "config": {
                        key: value
                        for key, value in asdict(encoder.config).items()
                        if key not in _SHAPES_NOTHING
                    },
                    "weights": encoder.weights_sha256,
                    "reads": reads[encoder.modality],
                }
            )
        return prints

    @property
    def reads_media(self) -> bool:
        """Whether any stream does; else the corpus alone says how long a clip is."""
        return any(modality != "text" for modality in self.modalities.values())

    @property
    def detector(self) -> DetectorConfig | None:
        """Settings of the face detector; None where no stream asks for faces."""
        return self._detector if "face" in self.modalities.values() else None

    @property
    def _detector(self) -> DetectorConfig:
        faces = self.recipe.faces
        return DetectorConfig(
            min_face_px=faces.min_face_px,
            confidence=faces.confidence,
            frame_side_px=faces.frame_side_px,
        )

    @property
    def tracker(self) -> TrackerConfig:
        """Settings of the tracker and of the crops."""
        faces = self.recipe.faces
        return TrackerConfig(
            stride=faces.stride,
            max_gap_s=faces.max_gap_s,
            bridge_iou=faces.bridge_iou,
            smooth_s=faces.smooth_s,
            crop_size_px=faces.crop_size_px,
            jpeg_quality=faces.jpeg_quality,
        )

    @property
    def limits(self) -> MediaLimits:
        """Limits of one medium."""
        media = self.recipe.media.model_dump()
        return MediaLimits(max_memory_bytes=media.pop("max_memory_mb") * 1024**2, **media)

    def key(self, stage: str, clip: Clip) -> str:
        """Return the key of a clip's row in ``stage``: content and settings, never a name."""
        parts = self._content(clip)
        if self.modalities.get(stage) == "text":
            parts += [clip.transcript, clip.words]
            if clip.words or (clip.transcript or "").strip():
                parts.append(_WORDS_VERSION)
        return row_key(self.fingerprints[stage], *parts)

    def _content(self, clip: Clip) -> list[object]:
        """What a clip's clock is made of, besides settings."""
        if self.reads_media:
            # a missing medium has no content: its path keeps it apart from other missing ones
            return [clip.file_sha256 or clip.media, clip.start_s, clip.end_s]
        # what erray.stages.clock.stated_ticks guesses the length by
        guess: float | None = None
        if clip.stated_s is None:
            guess = clip.heard_until_s or len((clip.transcript or "").split())
        return [clip.start_s, clip.stated_s, guess]

    def clocks(self, clip: Clip) -> list[tuple[str, str]]:
        """Fingerprints in ``tracks`` and keys of rows that hold this clip's clock, its own first.

        Looking for faces changes no clock: one that was read for a recipe with faces serves a
        recipe without, and the other way round.
        """
        return [
            (print_, row_key(print_, *self._content(clip))) for print_ in self.clock_fingerprints
        ]

    def wanted(self, stage: str, clips: Iterable[Clip]) -> dict[str, Clip]:
        """Key to clip; clips of equal content share one row."""
        return {self.key(stage, clip): clip for clip in clips}

    @cached_property
    def _encoders(self) -> dict[str, Any]:
        return {name: make_encoder(name, opts) for name, opts in self.recipe.streams.items()}

    @cached_property
    def clock_fingerprints(self) -> list[str]:
        """Fingerprints in ``tracks`` of rows whose clock serves this recipe, its own first."""
        found = [self.fingerprints[TRACKS]]
        if self.reads_media:
            found += [fingerprint(self._tracks_settings(d)) for d in (self._detector, None)]
        return list(dict.fromkeys(found))

    def _tracks_settings(self, detector: DetectorConfig | None) -> dict[str, Any]:
        settings: dict[str, Any] = {
            "version": _TRACKS_VERSION,
            "clock_hz": self.recipe.corpus.clock_hz,
            "clock_version": _CLOCK_VERSION,
        }
        if not self.reads_media:
            settings["clock"] = "stated"
        if detector is not None:
            # where and in which batches the detector runs changes no result
            # crops: an option once, of every fingerprint that is out there
            tracker = asdict(self.tracker) | {"block_ticks": None, "crops": "main"}
            settings |= {
                "detector": asdict(detector) | {"device": None, "batch_size": None},
                "detector_version": MtcnnDetector.version,
                "weights": mtcnn_weights_sha256(),
                "tracker": tracker,
            }
        return settings


def done_clips(
    plan: Plan, run: RunFolder, clips: Iterable[Clip], stages: Iterable[str]
) -> list[Clip]:
    """Return the clips that every one of ``stages`` has done, in their order."""
    kept = list(clips)
    for stage in stages:
        states = run.status.states(plan.fingerprints[stage])
        kept = [clip for clip in kept if states.get(plan.key(stage, clip)) == DONE]
    return kept


def unseen_clips(
    plan: Plan, run: RunFolder, clips: Iterable[Clip], stages: Iterable[str]
) -> list[Clip]:
    """Return the clips that a stage has neither done nor rejected, and no other one has rejected.

    Their extraction was stopped, or has not been asked for yet.
    """
    clocks = {print_: run.status.states(print_) for print_ in plan.clock_fingerprints}

    def clock_state(clip: Clip) -> str | None:
        return next((clocks[p][k] for p, k in plan.clocks(clip) if k in clocks[p]), None)

    kept = [clip for clip in clips if clock_state(clip) != REJECTED]
    unseen: set[str] = set()
    for stage in stages:
        states = run.status.states(plan.fingerprints[stage])
        found = {clip.clip_id: states.get(plan.key(stage, clip)) for clip in kept}
        kept = [clip for clip in kept if found[clip.clip_id] != REJECTED]
        unseen |= {clip_id for clip_id, state in found.items() if state is None}
    return [clip for clip in kept if clip.clip_id in unseen]


def pending(wanted: dict[str, Clip], states: dict[str, str], *, retry: bool) -> dict[str, Clip]:
    """Wanted minus present; what was rejected stays so unless ``retry``."""
    return {
        key: clip
        for key, clip in wanted.items()
        if key not in states or (retry and states[key] != DONE)
    }
