"""Who acts what, decided before anything is drawn: classes, streams, groups and transcripts.

Every choice that a model could take for the answer (portrait, place, group, length, hint, which
stream shows which emotion) is either balanced over the classes or drawn without regard to them.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from erray.demo.transcript import CARRIERS, compose
from erray.labels import CEXPR_7, COMPOUND_PAIRS

FRAME_RANGE = (50, 100)
"""Frames of a clip at 25 per second, both ends included: 2 to 4 s."""

_NUM_PORTRAITS = 2
# Below this count a split has too few clips for one group of two per portrait.
_MIN_CLIPS_FOR_BOTH_PORTRAITS = 4


@dataclass(frozen=True)
class ClipPlan:
    """One clip before it is made. `index` counts over the whole corpus and seeds its details."""

    index: int
    clip_id: str
    split: str
    group: int
    portrait: int
    label: str
    face_emotion: str
    voice_emotion: str
    transcript: str
    num_frames: int

    @property
    def media(self) -> str:
        return f"videos/{self.split}/{self.clip_id}.mp4"


@dataclass(frozen=True)
class _Role:
    label: str
    face_emotion: str
    voice_emotion: str
    portrait: int


def _deal_roles(rng: np.random.Generator, num_clips: int) -> list[_Role]:
    """Classes in equal numbers; every four rounds show each class in all 2 x 2 ways.

    The ways are which of the pair the face shows, and which portrait shows it.
    """
    labels = [CEXPR_7.names[i] for i in rng.permutation(len(CEXPR_7.names))]
    turn = rng.integers(0, 2, size=2)
    roles = []
    for clip in range(num_clips):
        lap, seat = divmod(clip, len(labels))
        pair = COMPOUND_PAIRS[labels[seat]]
        first = (lap + seat + turn[0]) % 2
        portrait = int((lap // 2 + seat // 2 + turn[1]) % _NUM_PORTRAITS)
        if num_clips < _MIN_CLIPS_FOR_BOTH_PORTRAITS:
            portrait = int(turn[1])
        roles.append(_Role(labels[seat], pair[first], pair[1 - first], portrait))
    return roles


def _cut(rng: np.random.Generator, num_clips: int) -> list[int]:
    """Random group sizes of 2 to 4 that add up to `num_clips` (a lone clip is a group)."""
    sizes = []
    left = num_clips
    while left > 0:
        choices = [size for size in (2, 3, 4) if left - size != 1 and size <= left]
        sizes.append(int(rng.choice(choices or [left])))
        left -= sizes[-1]
    return sizes


def _next_role(cast: list[_Role], group: list[_Role]) -> _Role:
    """The first role of the class that is fewest in the group, then most in the (shuffled) cast.

    Using up the common classes first leaves a mixed rest for the last groups.
    """
    left = Counter(role.label for role in cast)
    used = Counter(role.label for role in group)
    return min(cast, key=lambda role: (used[role.label], -left[role.label]))


def _group_roles(rng: np.random.Generator, roles: list[_Role]) -> list[list[_Role]]:
    """Groups of one portrait each, with different classes inside a group where chance allows."""
    groups = []
    for portrait in range(_NUM_PORTRAITS):
        cast = [role for role in roles if role.portrait == portrait]
        cast = [cast[i] for i in rng.permutation(len(cast))]
        for size in _cut(rng, len(cast)):
            group: list[_Role] = []
            for _ in range(size):
                group.append(_next_role(cast, group))
                cast.remove(group[-1])
            groups.append(group)
    return groups


def _hinting(rng: np.random.Generator, emotions: list[str]) -> list[bool]:
    """Half of the clips hint, and half of those of every voice emotion."""
    order = sorted(rng.permutation(len(emotions)), key=lambda clip: emotions[clip])
    start = rng.integers(2)
    hinting = [False] * len(emotions)
    for place, clip in enumerate(order):
        hinting[clip] = bool((place + start) % 2)
    return hinting


def _draw_length(rng: np.random.Generator) -> int:
    """Frames of a clip; as with real utterances, short ones are the more common."""
    shortest, longest = FRAME_RANGE
    return int(rng.triangular(shortest, shortest, longest + 1))


def plan_corpus(seed: int, num_clips: dict[str, int]) -> list[ClipPlan]:
    """Plan all splits (name to number of clips), in order; the same seed gives the same plan."""
    plans: list[ClipPlan] = []
    num_groups = 0
    for split_index, (split, count) in enumerate(num_clips.items()):
        rng = np.random.default_rng((seed, split_index))
        groups = _group_roles(rng, _deal_roles(rng, count))
        cast = [(num_groups + g, role) for g, group in enumerate(groups) for role in group]
        carriers = [CARRIERS[i] for i in rng.integers(len(CARRIERS), size=len(groups))]
        hints = _hinting(rng, [role.voice_emotion for _, role in cast])
        for number, place in enumerate(rng.permutation(len(cast))):
            group, role = cast[place]
            carrier = carriers[group - num_groups]
            is_challenge = split == "challenge"
            plans.append(
                ClipPlan(
                    index=len(plans),
                    clip_id=f"{number + 1:02d}" if is_challenge else f"{split}_{number:03d}",
                    split=split,
                    group=group,
                    portrait=role.portrait,
                    label=role.label,
                    face_emotion=role.face_emotion,
                    voice_emotion=role.voice_emotion,
                    transcript=compose(
                        rng, carrier, voice_emotion=role.voice_emotion, is_hinting=hints[place]
                    ),
                    num_frames=_draw_length(rng),
                )
            )
        num_groups += len(groups)
    return plans
