"""Feature tables to memory-mapped arrays (``erray.training.arrays``), one folder per split.

The folder is named after the keys of the rows it holds, written once, and mapped (not read) by
every worker and trial. A split has a folder of its own, so that a search can be handed train and
val and has no way to open test.
"""

from __future__ import annotations

import shutil
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from erray.config import fingerprint
from erray.errors import UserError
from erray.feature_rows import first_tick
from erray.labels import LabelSet
from erray.plan import Plan, done_clips, unseen_clips
from erray.records import Clip, tensor_from_columns
from erray.store import RunFolder, ShardPlaces, write_json
from erray.training.array_file import ArrayFile
from erray.training.arrays import ClipPlace, FeatureArrays
from erray.windows import UNLABELLED

TRAIN = "train"
"""The split that is trained on: the only one that needs more than the first view."""


def build_arrays(
    plan: Plan, run: RunFolder, clips: Iterable[Clip], labels: LabelSet, *, split: str, cache: Path
) -> FeatureArrays:
    """Write the arrays of ``split`` (clips that every stage has done) unless they are there.

    Raises:
        UserError: no clip of the split has features, or some were not extracted yet; the disk is
            full, or cannot be written.
    """
    of_split = [clip for clip in clips if clip.split == split]
    ready = done_clips(plan, run, of_split, plan.modalities)
    if not ready:
        lacking = [n for n in plan.modalities if not done_clips(plan, run, of_split, [n])]
        raise UserError(
            f"no clip of split {split!r} has features of {', '.join(lacking or plan.modalities)}: "
            f"check the split's name, or run `erray extract` first"
        )
    unseen = unseen_clips(plan, run, of_split, plan.modalities)
    if unseen:  # a part of the split would be another training, and nobody would know
        raise UserError(
            f"{len(unseen)} of {len(of_split)} clips of split {split!r} have no features of "
            f"{', '.join(plan.modalities)} yet, for instance {unseen[0].clip_id!r}: run `erray "
            f"extract` first, which computes only what is missing"
        )
    content = [
        [clip.clip_id, clip.group, clip.label, *(plan.key(name, clip) for name in plan.modalities)]
        for clip in ready
    ]
    folder = cache / f"{split}-{fingerprint([list(plan.modalities), labels.names, content])}"
    if not (folder / "index.json").is_file():
        num_views = plan.num_views if split == TRAIN else dict.fromkeys(plan.modalities, 1)
        with _unfinished(folder) as temporary:
            _write(temporary, plan, run, ready, labels, num_views)
            _publish(temporary, folder)
    return FeatureArrays(folder)


@contextmanager
def _unfinished(folder: Path) -> Iterator[Path]:
    """Yield a new folder beside ``folder``, which is gone after the block if it still is there.

    Raises:
        UserError: the disk is full, or cannot be written.
    """
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
    except OSError as error:
        raise UserError(
            f"the arrays for training cannot be written to {folder.parent}: "
            f"{error.strerror or error}; mend that and run again: what is extracted is kept"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(
    folder: Path,
    plan: Plan,
    run: RunFolder,
    clips: list[Clip],
    labels: LabelSet,
    num_views: Mapping[str, int],
) -> None:
    lengths = _write_times(folder, plan, run, clips)
    for name in plan.modalities:
        _write_stream(folder, plan, run, name, clips, lengths, num_views[name])
    offsets = np.cumsum([0, *lengths]).tolist()
    places = [
        ClipPlace(
            clip_id=clip.clip_id,
            split=clip.split,
            group=clip.group,
            label=UNLABELLED if clip.label is None else labels.index(clip.label),
            offset=offset,
            num_ticks=length,
        )
        for clip, offset, length in zip(clips, offsets, lengths, strict=False)
    ]
    index = {"streams": list(plan.modalities), "clips": [asdict(place) for place in places]}
    write_json(folder / "index.json", index)


def _write_times(folder: Path, plan: Plan, run: RunFolder, clips: list[Clip]) -> list[int]:
    """Write the clocks shard by shard (memory: one shard); return the clips' lengths."""
    lengths = [0] * len(clips)
    for i, times_s_T in _clocks(plan, run, clips):
        lengths[i] = len(times_s_T)
    if missing := lengths.count(0):
        raise UserError(
            f"{missing} of {len(clips)} clips have features of {', '.join(plan.modalities)} but no "
            f"clock: run `erray extract` with this recipe, which reads the clocks alone"
        )
    offsets = np.cumsum([0, *lengths])
    with ArrayFile(folder / "times_s.npy", np.float64, (int(offsets[-1]),)) as times_s_N:
        for i, times_s_T in _clocks(plan, run, clips):
            times_s_N.write((int(offsets[i]),), times_s_T)
    return lengths


def _clocks(
    plan: Plan, run: RunFolder, clips: list[Clip]
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Yield position and clock of every clip that has one, from the first stage that read it."""
    places: dict[str, dict[str, list[int]]] = {}
    for i, clip in enumerate(clips):
        for print_, key in plan.clocks(clip):
            places.setdefault(print_, {}).setdefault(key, []).append(i)
    found: set[int] = set()
    for print_, keys in places.items():
        for part in run.status.scan_done(print_, ["frame_times_s"]):
            for key, clock in zip(part["key"].to_pylist(), part["frame_times_s"], strict=True):
                for i in keys.get(key, ()):
                    if i not in found:
                        found.add(i)
                        yield i, clock.values.to_numpy()


def _write_stream(
    folder: Path,
    plan: Plan,
    run: RunFolder,
    name: str,
    clips: list[Clip],
    lengths: list[int],
    num_views: int,
) -> None:
    """Write the first views of one stream shard by shard (memory: one shard)."""
    places = _places(plan, name, clips)
    offsets = np.cumsum([0, *lengths])
    shape = (int(offsets[-1]), plan.widths[name])
    found: Counter[tuple[str, int]] = Counter()
    with ExitStack() as stack:

        def new_file(part: str, dtype: DTypeLike, shape: tuple[int, ...]) -> ArrayFile:
            return stack.enter_context(ArrayFile(folder / f"{name}.{part}.npy", dtype, shape))

        values_ND = new_file("values", np.float32, shape)
        present_N = new_file("present", np.bool_, shape[:1])
        if num_views > 1:
            more_VND = new_file("more_views", np.float32, (num_views - 1, *shape))
        for row in _feature_rows(plan, run, name, places):
            view = row["view"] or 0  # rows of before there were views have none
            if view >= num_views:
                continue
            values_TD = tensor_from_columns(row["values"], row["shape"], row["dtype"])
            for i in places[row["key"]]:
                start = int(offsets[i]) + first_tick(row)
                if start + len(values_TD) > offsets[i + 1]:
                    raise RuntimeError(f"stream {name!r} has another length than the clip's clock")
                if view:
                    more_VND.write((view - 1, start), values_TD)
                else:
                    values_ND.write((start,), values_TD)
                present_N.write((start,), row["present"])
            found[row["key"], view] += len(values_TD)
    wanted = {(key, v): lengths[i[0]] for key, i in places.items() for v in range(num_views)}
    assert found == wanted, f"stream {name!r}: features of a clip that is done are missing"


def _feature_rows(
    plan: Plan, run: RunFolder, name: str, keys: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Rows of the stream with these keys; only the shards that hold them are read."""
    table = run.features(name, plan.fingerprints[name])
    shards = ShardPlaces(table)
    paths = {
        shards.path(row)
        for part in run.status.scan_done(plan.fingerprints[name], ["num_tracks", "shard"])
        for row in part.to_pylist()
        if row["key"] in keys
    }
    columns = ["key", "view", "first_tick", "present", "values", "shape", "dtype"]
    for path in sorted(paths):
        for row in table.read(columns=columns, shards=[path]).to_pylist():
            if row["key"] in keys:
                yield row


def _places(plan: Plan, stage: str, clips: list[Clip]) -> dict[str, list[int]]:
    """Key to the positions of the clips that share its row."""
    places: dict[str, list[int]] = {}
    for i, clip in enumerate(clips):
        places.setdefault(plan.key(stage, clip), []).append(i)
    return places


def _publish(temporary: Path, folder: Path) -> None:
    """Give the finished folder its name; who comes second leaves an equal copy as it is."""
    try:
        temporary.rename(folder)
    except OSError:
        if not (folder / "index.json").is_file():
            raise
