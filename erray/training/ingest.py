"""Feature tables to memory-mapped arrays, one folder per split, and seeded batches over them.

An array folder holds, over the ticks of all its clips one after the other, ``times_s.npy`` [N] and
for every stream ``<stream>.values.npy`` [N, D] float32 and ``<stream>.present.npy`` [N] bool;
``index.json`` has each clip's place. It is named after the keys of the rows it holds, written
once, and mapped (not read) by every worker and trial. A split has a folder of its own, so that a
search can be handed train and val and has no way to open test.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from erray.config import fingerprint
from erray.errors import UserError
from erray.labels import LabelSet
from erray.plan import TRACKS, Plan, states
from erray.records import DONE, Clip, tensor_from_columns
from erray.store import RunFolder, Table, latest_status
from erray.windows import UNLABELLED, WindowSample

_CHUNK_TICKS = 65_536


@dataclass(frozen=True)
class ClipPlace:
    """Where a clip lies in the arrays, and what is known of it."""

    clip_id: str
    split: str
    group: str
    label: int
    offset: int
    num_ticks: int


@dataclass(frozen=True)
class FeatureArrays:
    """Mapped streams of the clips of one split."""

    folder: Path

    @cached_property
    def clips(self) -> list[ClipPlace]:
        """Every clip, in the order of the corpus."""
        index = json.loads((self.folder / "index.json").read_text(encoding="utf-8"))
        return [ClipPlace(**row) for row in index["clips"]]

    @cached_property
    def streams(self) -> list[str]:
        """Names of the streams in the recipe's order."""
        index = json.loads((self.folder / "index.json").read_text(encoding="utf-8"))
        return list(index["streams"])

    def values(self, stream: str) -> NDArray[np.float32]:
        """Values of all ticks, [N, D]."""
        return self._mapped[f"{stream}.values"]

    def present(self, stream: str) -> NDArray[np.bool_]:
        """Presence of all ticks, [N]."""
        return self._mapped[f"{stream}.present"]

    def times_s(self, clip: int) -> NDArray[np.float64]:
        """The clock of the clip at position ``clip``, [T]."""
        place = self.clips[clip]
        return self._mapped["times_s"][place.offset : place.offset + place.num_ticks]

    def window(self, clip: int, start: int, stop: int, streams: Sequence[str]) -> WindowSample:
        """Cut ticks ``[start, stop)`` of the clip at position ``clip``."""
        place = self.clips[clip]
        rows = slice(place.offset + start, place.offset + stop)
        return WindowSample(
            streams={name: self.values(name)[rows] for name in streams},
            present={name: self.present(name)[rows] for name in streams},
            label=place.label,
            clip=clip,
            start=start,
        )

    def normaliser(self, stream: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and standard deviation [D] over the ticks where the stream is present."""
        values_ND, present_N = self.values(stream), self.present(stream)
        count, width = 0, values_ND.shape[1]
        total_D, square_D = np.zeros(width), np.zeros(width)
        shift_D = np.zeros(width)
        for first in range(0, len(present_N), _CHUNK_TICKS):
            rows = slice(first, first + _CHUNK_TICKS)
            x_ND = np.asarray(values_ND[rows][present_N[rows]], dtype=np.float64)
            if count == 0 and len(x_ND):
                shift_D = x_ND.mean(axis=0)  # keeps digits when the mean is large
            count += len(x_ND)
            total_D += (x_ND - shift_D).sum(axis=0)
            square_D += ((x_ND - shift_D) ** 2).sum(axis=0)
        if count == 0:
            return np.zeros(width), np.ones(width)
        variance_D = square_D / count - (total_D / count) ** 2
        return shift_D + total_D / count, np.sqrt(np.maximum(variance_D, 0.0))

    @cached_property
    def _mapped(self) -> dict[str, NDArray]:
        return {
            path.name.removesuffix(".npy"): np.load(path, mmap_mode="r")
            for path in self.folder.glob("*.npy")
        }


def build_arrays(
    plan: Plan, run: RunFolder, clips: Iterable[Clip], labels: LabelSet, *, split: str, cache: Path
) -> FeatureArrays:
    """Write the arrays of ``split`` (clips that every stage has done) unless they are there.

    Raises:
        UserError: no clip of the split has features.
    """
    known = states(run)
    ready = [
        clip
        for clip in clips
        if clip.split == split
        and all(known.get(plan.key(name, clip)) == DONE for name in plan.modalities)
    ]
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
        _publish(_write(folder, plan, run, ready, labels), folder)
    return FeatureArrays(folder)


def _write(folder: Path, plan: Plan, run: RunFolder, clips: list[Clip], labels: LabelSet) -> Path:
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    temporary.mkdir(parents=True)
    lengths: list[int] | None = None
    for name in plan.modalities:
        found = _write_stream(temporary, plan, run, name, clips)
        if lengths is not None and found != lengths:
            raise RuntimeError(f"stream {name!r} has other lengths than the streams before it")
        lengths = found
    assert lengths is not None, "a plan without streams"
    np.save(temporary / "times_s.npy", _times_s(plan, run, clips, lengths))
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


def _times_s(
    plan: Plan, run: RunFolder, clips: list[Clip], lengths: list[int]
) -> NDArray[np.float64]:
    keys = [plan.key(TRACKS, clip) for clip in clips]
    rows = latest_status(run.status.read(columns=["key", "state", "frame_times_s"], keys=set(keys)))
    clocks = [rows[key]["frame_times_s"] for key in keys]
    if [len(clock) for clock in clocks] != lengths:
        raise RuntimeError("the streams have other lengths than the clips' clocks")
    return np.concatenate([np.asarray(clock, dtype=np.float64) for clock in clocks])


def _write_stream(
    folder: Path, plan: Plan, run: RunFolder, name: str, clips: list[Clip]
) -> list[int]:
    """Write one stream shard by shard (memory: one shard); return the clips' lengths."""
    table = run.features(name, plan.fingerprints[name])
    rows_of_key: dict[str, list[int]] = {}
    for i, clip in enumerate(clips):
        rows_of_key.setdefault(plan.key(name, clip), []).append(i)
    lengths = [0] * len(clips)
    for row in _rows(table, ["key", "shape"], rows_of_key):
        for i in rows_of_key[row["key"]]:
            lengths[i] = row["shape"][0]
    assert all(lengths), f"stream {name!r}: features of a clip that is done are missing"
    offsets = np.cumsum([0, *lengths])
    shape = (int(offsets[-1]), plan.widths[name])
    values_ND = open_memmap(folder / f"{name}.values.npy", "w+", np.float32, shape)
    present_N = open_memmap(folder / f"{name}.present.npy", "w+", np.bool_, shape[:1])
    for row in _rows(table, ["key", "present", "values", "shape", "dtype"], rows_of_key):
        values_TD = tensor_from_columns(row["values"], row["shape"], row["dtype"])
        for i in rows_of_key[row["key"]]:
            values_ND[offsets[i] : offsets[i + 1]] = values_TD
            present_N[offsets[i] : offsets[i + 1]] = row["present"]
    values_ND.flush()
    present_N.flush()
    return lengths


def _rows(table: Table, columns: list[str], keys: Iterable[str]) -> Iterator[dict[str, Any]]:
    for shard in table.shards():
        yield from table.read(columns=columns, keys=keys, shards=[shard]).to_pylist()


def _publish(temporary: Path, folder: Path) -> None:
    """Give the finished folder its name; who comes second throws an equal copy away."""
    try:
        temporary.rename(folder)
    except OSError:
        if not (folder / "index.json").is_file():
            raise
        shutil.rmtree(temporary)
