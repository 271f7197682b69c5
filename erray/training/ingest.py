"""Feature tables to memory-mapped arrays (``erray.training.arrays``), one folder per split.

The folder is named after the keys of the rows it holds, written once, and mapped (not read) by
every worker and trial. A split has a folder of its own, so that a search can be handed train and
val and has no way to open test.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from erray.config import fingerprint
from erray.errors import UserError
from erray.feature_rows import first_tick
from erray.labels import LabelSet
from erray.plan import TRACKS, Plan, done_clips
from erray.records import Clip, tensor_from_columns
from erray.store import RunFolder, ShardPlaces
from erray.training.arrays import ClipPlace, FeatureArrays
from erray.windows import UNLABELLED

TRAIN = "train"
"""The split that is trained on: the only one that needs more than the first view."""


def build_arrays(
    plan: Plan, run: RunFolder, clips: Iterable[Clip], labels: LabelSet, *, split: str, cache: Path
) -> FeatureArrays:
    """Write the arrays of ``split`` (clips that every stage has done) unless they are there.

    Raises:
        UserError: no clip of the split has features.
    """
    of_split = (clip for clip in clips if clip.split == split)
    ready = done_clips(plan, run, of_split, plan.modalities)
    if not ready:
        raise UserError(
            f"no clip of split {split!r} has features of {', '.join(plan.modalities)}: "
            f"check the split's name, or run `erray extract` first"
        )
    content = [
        [clip.clip_id, clip.group, clip.label, *(plan.key(name, clip) for name in plan.modalities)]
        for clip in ready
    ]
    folder = cache / f"{split}-{fingerprint([list(plan.modalities), labels.names, content])}"
    if not (folder / "index.json").is_file():
        num_views = plan.num_views if split == TRAIN else dict.fromkeys(plan.modalities, 1)
        _publish(_write(folder, plan, run, ready, labels, num_views), folder)
    return FeatureArrays(folder)


def _write(
    folder: Path,
    plan: Plan,
    run: RunFolder,
    clips: list[Clip],
    labels: LabelSet,
    num_views: Mapping[str, int],
) -> Path:
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    temporary.mkdir(parents=True)
    lengths = _write_times(temporary, plan, run, clips)
    for name in plan.modalities:
        _write_stream(temporary, plan, run, name, clips, lengths, num_views[name])
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
    (temporary / "index.json").write_text(json.dumps(index), encoding="utf-8")
    return temporary


def _write_times(folder: Path, plan: Plan, run: RunFolder, clips: list[Clip]) -> list[int]:
    """Write the clocks shard by shard (memory: one shard); return the clips' lengths."""
    places = _places(plan, TRACKS, clips)
    lengths = [0] * len(clips)
    for key, times_s_T in _clocks(plan, run, places):
        for i in places[key]:
            lengths[i] = len(times_s_T)
    assert all(lengths), "the clock of a clip that is done is missing"
    offsets = np.cumsum([0, *lengths])
    times_s_N = open_memmap(folder / "times_s.npy", "w+", np.float64, (int(offsets[-1]),))
    for key, times_s_T in _clocks(plan, run, places):
        for i in places[key]:
            times_s_N[offsets[i] : offsets[i + 1]] = times_s_T
    times_s_N.flush()
    return lengths


def _clocks(
    plan: Plan, run: RunFolder, keys: Mapping[str, Any]
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    for part in run.status.scan_done(plan.fingerprints[TRACKS], ["frame_times_s"]):
        for key, clock in zip(part["key"].to_pylist(), part["frame_times_s"], strict=True):
            if key in keys:
                yield key, clock.values.to_numpy()


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
    views_ND = [open_memmap(folder / f"{name}.values.npy", "w+", np.float32, shape)]
    if num_views > 1:
        path = folder / f"{name}.more_views.npy"
        views_ND.extend(open_memmap(path, "w+", np.float32, (num_views - 1, *shape)))
    present_N = open_memmap(folder / f"{name}.present.npy", "w+", np.bool_, shape[:1])
    found: Counter[tuple[str, int]] = Counter()
    for row in _feature_rows(plan, run, name, places):
        view = row["view"] or 0  # rows of before there were views have none
        if view >= num_views:
            continue
        values_TD = tensor_from_columns(row["values"], row["shape"], row["dtype"])
        for i in places[row["key"]]:
            start = offsets[i] + first_tick(row)
            if start + len(values_TD) > offsets[i + 1]:
                raise RuntimeError(f"stream {name!r} has another length than the clip's clock")
            views_ND[view][start : start + len(values_TD)] = values_TD
            present_N[start : start + len(values_TD)] = row["present"]
        found[row["key"], view] += len(values_TD)
    wanted = {(key, v): lengths[i[0]] for key, i in places.items() for v in range(num_views)}
    assert found == wanted, f"stream {name!r}: features of a clip that is done are missing"
    for values_ND in views_ND:
        values_ND.flush()
    present_N.flush()


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
    """Give the finished folder its name; who comes second throws an equal copy away."""
    try:
        temporary.rename(folder)
    except OSError:
        if not (folder / "index.json").is_file():
            raise
        shutil.rmtree(temporary)
