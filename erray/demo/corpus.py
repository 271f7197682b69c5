"""Build the demo corpus: plan, draw the clips in processes, write the tables, move into place."""

import csv
import json
import multiprocessing
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch

from erray import interrupt
from erray.demo.encode import FRAME_RATE_HZ, SAMPLE_RATE_HZ, write_mp4
from erray.demo.expression import draw_activation
from erray.demo.plan import ClipPlan, plan_corpus
from erray.demo.portrait import load_portraits
from erray.demo.scene import draw_head_path, draw_scene, render
from erray.demo.voice import draw_speaker, speak
from erray.demo.warp import warp_face
from erray.errors import UserError

MANIFEST_NAME = "manifest.csv"
FRAME_LIST_NAME = "challenge_frames.txt"
TRUTH_NAME = "truth.csv"
_STAMP_NAME = "corpus.json"
_VERSION = 1
"""Rises whenever the same settings would give other files."""

_MANIFEST_COLUMNS = (
    "clip_id", "media", "start_s", "end_s", "group", "split", "label", "transcript",
)  # fmt: skip
_TRUTH_COLUMNS = ("clip_id", "split", "label", "face_emotion", "voice_emotion", "portrait")
# Plan, groups and clips draw from separate random streams of one seed.
_GROUP_STREAM, _FACE_STREAM, _VOICE_STREAM = 101, 102, 103


def build_demo_corpus(
    root: Path,
    *,
    seed: int = 0,
    num_train: int = 84,
    num_val: int = 28,
    num_test: int = 70,
    num_challenge: int = 12,
    num_processes: int = 2,
) -> Path:
    """Build the corpus in the folder `root` and return its manifest.

    The same seed and counts give the same bytes for any number of processes. A finished corpus
    with these settings is returned at once; an interrupted build leaves nothing at `root`.

    Raises:
        UserError: a number is out of range, or `root` holds something else.
    """
    num_clips = {
        "train": num_train, "val": num_val, "test": num_test, "challenge": num_challenge,
    }  # fmt: skip
    _check_numbers(num_clips, seed=seed, num_processes=num_processes)
    settings = {"version": _VERSION, "seed": seed, "num_clips": num_clips}
    root = Path(root).absolute()
    if _is_finished(root, settings):
        return root / MANIFEST_NAME
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as scratch:
        unfinished = Path(scratch) / root.name
        _build(unfinished, plan_corpus(seed, num_clips), seed=seed, num_processes=num_processes)
        (unfinished / _STAMP_NAME).write_text(json.dumps(settings, indent=2) + "\n")
        try:
            unfinished.rename(root)
        except OSError:
            # Somebody else finished the same corpus meanwhile; anything else is an error.
            if not _is_finished(root, settings):
                raise
    return root / MANIFEST_NAME


def _check_numbers(num_clips: dict[str, int], *, seed: int, num_processes: int) -> None:
    numbers = {f"num_{split}": (count, 0) for split, count in num_clips.items()}
    for name, (value, least) in {
        **numbers, "seed": (seed, 0), "num_processes": (num_processes, 1),
    }.items():  # fmt: skip
        if value < least:
            raise UserError(f"{name} is {value}; give a number of at least {least}")


def _is_finished(root: Path, settings: dict[str, object]) -> bool:
    """Whether `root` holds this very corpus; False only where it can be built."""
    if not root.exists():
        return False
    if not root.is_dir():
        raise UserError(f"{root} is a file; name a new folder for the demo corpus")
    if not any(root.iterdir()):
        return False
    stamp = root / _STAMP_NAME
    if not stamp.is_file():
        raise UserError(
            f"{root} holds files that are not a demo corpus; name a new or empty folder"
        )
    found = json.loads(stamp.read_text())
    if found != settings:
        raise UserError(
            f"{root} holds a demo corpus with other settings (expected {json.dumps(settings)}, "
            f"found {json.dumps(found)}); delete that folder or name another one"
        )
    return True


def _build(root: Path, plans: Sequence[ClipPlan], *, seed: int, num_processes: int) -> None:
    for split in dict.fromkeys(plan.split for plan in plans):
        (root / "videos" / split).mkdir(parents=True)
    root.mkdir(exist_ok=True)
    # Spawned processes inherit no threads or locks; one thread each keeps sums in one order.
    with ProcessPoolExecutor(
        max_workers=num_processes,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=torch.set_num_threads,
        initargs=(1,),
    ) as pool:
        with interrupt.deaf_children():  # they start here
            made = pool.map(partial(make_clip, root, seed), plans)
        num_frames = list(made)
    _write_tables(root, plans, num_frames)


def make_clip(root: Path, seed: int, plan: ClipPlan) -> int:
    """Draw, speak and write one clip; returns the number of frames in the file."""
    group_rng = np.random.default_rng((seed, _GROUP_STREAM, plan.group))
    scene, speaker = draw_scene(group_rng), draw_speaker(group_rng)
    face_rng = np.random.default_rng((seed, _FACE_STREAM, plan.index))
    portrait = load_portraits()[plan.portrait]
    times_s = np.arange(plan.num_frames) / FRAME_RATE_HZ
    path = draw_head_path(face_rng, times_s)
    activation = draw_activation(face_rng, times_s, plan.face_emotion)
    face = warp_face(portrait, activation, plan.num_frames)
    waveform_N = speak(
        np.random.default_rng((seed, _VOICE_STREAM, plan.index)),
        plan.voice_emotion,
        speaker,
        num_samples=plan.num_frames * SAMPLE_RATE_HZ // FRAME_RATE_HZ,
        sample_rate_hz=SAMPLE_RATE_HZ,
    )
    return write_mp4(root / plan.media, render(portrait, scene, path, face), waveform_N)


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def _write_tables(root: Path, plans: Sequence[ClipPlan], num_frames: Sequence[int]) -> None:
    """Manifest, the organisers' frame list, and the truth that the manifest keeps back."""
    _write_csv(
        root / MANIFEST_NAME,
        _MANIFEST_COLUMNS,
        (
            # Empty times stand for the whole file.
            (plan.clip_id, plan.media, "", "", f"scene_{plan.group:03d}", plan.split,
             "" if plan.split == "challenge" else plan.label, plan.transcript)
            for plan in plans
        ),
    )  # fmt: skip
    portraits = [portrait.name for portrait in load_portraits()]
    _write_csv(
        root / TRUTH_NAME,
        _TRUTH_COLUMNS,
        (
            (plan.clip_id, plan.split, plan.label, plan.face_emotion, plan.voice_emotion,
             portraits[plan.portrait])
            for plan in plans
        ),
    )  # fmt: skip
    lines = [
        f"{plan.clip_id}/{frame:05d}.jpg\n"
        for plan, count in zip(plans, num_frames, strict=True)
        if plan.split == "challenge"
        for frame in range(1, count + 1)
    ]
    (root / FRAME_LIST_NAME).write_text("".join(lines))
