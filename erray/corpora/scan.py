"""What the media files hold: hash of the content, size, length. Every file is looked at once.

The results are kept beside the run, by path, size and time of the last change. A file that was
changed less than two seconds before it was scanned may change again without a new time stamp; such
an entry is not trusted the next time.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from erray.corpora.media_root import resolve_media
from erray.errors import MediaError, UserError
from erray.media import Decoder, MediaFacts, MediaLimits

_HASH_THREADS = 8
_PROBE_THREADS = 4
_TIME_STAMP_GRAIN_NS = 2_000_000_000  # of FAT, the coarsest file system in use
_SAVE_EVERY_S = 30.0

Probe = Callable[[Path], MediaFacts]
"""What the header of a medium says; raises MediaError for one that cannot be opened."""


@dataclass(frozen=True, slots=True)
class ScannedMedium:
    """What a file holds.

    Attributes:
        path: absolute, links followed.
        mtime_ns: last change, when the scan began to read it.
        scanned_ns: when that was.
        probed: whether its header was read; else what follows means nothing.
        start_s: first time on the medium's own clock.
        duration_s: length by its header, None where the header has none.
        num_video: streams of pictures; None where an earlier version scanned the file.
        problem: why it cannot be opened, None if it can.
    """

    path: str
    num_bytes: int
    mtime_ns: int
    scanned_ns: int
    sha256: str
    probed: bool = False
    start_s: float = 0.0
    duration_s: float | None = None
    num_video: int | None = None
    problem: str | None = None


_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("num_bytes", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("scanned_ns", pa.int64()),
        ("sha256", pa.string()),
        ("probed", pa.bool_()),
        ("start_s", pa.float64()),
        ("duration_s", pa.float64()),
        ("num_video", pa.int32()),
        ("problem", pa.string()),
    ]
)


def scan_media(
    root: str,
    media: Iterable[str],
    *,
    probe: Probe | None = None,
    cache: Path | None = None,
    keep: bool = True,
) -> dict[str, ScannedMedium | None]:
    """Return what every medium holds, None for one that is not there or cannot be read.

    Args:
        root: folder of the corpus.
        media: file names relative to ``root``.
        probe: called in threads; None: no header is read.
        cache: file of earlier results.
        keep: write the results to ``cache``; without, nothing on the disk changes.

    Raises:
        UserError: a medium outside ``root``.
    """
    paths = {name: resolve_media(root, name) for name in sorted(set(media))}
    known = _Known(cache, keep=keep)
    known.each(_hashed, paths.values(), num_threads=_HASH_THREADS)
    if probe is not None:
        there = [path for path in paths.values() if str(path) in known.media]
        known.each(lambda path, found: _probed(path, found, probe), there, _PROBE_THREADS)
    return {name: known.media.get(str(path)) for name, path in paths.items()}


@contextmanager
def header_probe(limits: MediaLimits | None = None) -> Iterator[Probe]:
    """Yield a probe that opens media in child processes, one for each thread that calls it."""
    local, decoders = threading.local(), list[Decoder]()

    def probe(path: Path) -> MediaFacts:
        if not hasattr(local, "decoder"):
            local.decoder = Decoder(limits)
            decoders.append(local.decoder)
        return local.decoder.probe(path)

    try:
        yield probe
    finally:
        for decoder in decoders:
            decoder.close()


class _Known:
    """What is known of files, on disk too."""

    def __init__(self, cache: Path | None, *, keep: bool) -> None:
        self._cache, self._keep = cache, keep and cache is not None
        self.media: dict[str, ScannedMedium] = {}
        if cache is not None and cache.is_file():
            with suppress(pa.ArrowInvalid):  # damaged: made anew
                rows = pq.read_table(cache, schema=_SCHEMA).to_pylist()
                self.media = {row["path"]: ScannedMedium(**row) for row in rows}

    def each(
        self,
        work: Callable[[Path, ScannedMedium | None], ScannedMedium | None],
        paths: Iterable[Path],
        num_threads: int,
    ) -> None:
        """Bring the entries of ``paths`` up to date; an interrupted scan keeps what it has."""
        todo, saved_s, changed = list(paths), time.monotonic(), False
        try:
            with ThreadPoolExecutor(num_threads) as pool:
                before = [self.media.get(str(path)) for path in todo]
                for path, old, new in zip(todo, before, pool.map(work, todo, before), strict=True):
                    changed |= new != old
                    self._set(path, new)
                    if changed and time.monotonic() - saved_s > _SAVE_EVERY_S:
                        self._save()
                        saved_s, changed = time.monotonic(), False
        finally:
            if changed:
                self._save()

    def _set(self, path: Path, entry: ScannedMedium | None) -> None:
        if entry is None:
            self.media.pop(str(path), None)
        else:
            self.media[str(path)] = entry

    def _save(self) -> None:
        if not self._keep or self._cache is None:
            return
        table = pa.Table.from_pylist([asdict(e) for e in self.media.values()], schema=_SCHEMA)
        temporary = self._cache.with_name(f".{self._cache.name}.{os.getpid()}")
        try:
            self._cache.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, temporary)
            temporary.replace(self._cache)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            raise UserError(
                f"{self._cache} cannot be written ({error.strerror}): free space, "
                f"or give another folder with --out"
            ) from None


def _hashed(path: Path, known: ScannedMedium | None) -> ScannedMedium | None:
    try:
        if not path.is_file():
            return None
        state, now_ns = path.stat(), time.time_ns()
        if known is not None and _is_trusted(known, state):
            return known
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:  # no permission, a broken disk: as good as not there
        return None
    if known is not None and known.sha256 == sha256:
        return replace(known, mtime_ns=state.st_mtime_ns, scanned_ns=now_ns)
    return ScannedMedium(str(path), state.st_size, state.st_mtime_ns, now_ns, sha256)


def _is_trusted(known: ScannedMedium, state: os.stat_result) -> bool:
    unchanged = (known.num_bytes, known.mtime_ns) == (state.st_size, state.st_mtime_ns)
    return unchanged and known.mtime_ns < known.scanned_ns - _TIME_STAMP_GRAIN_NS


def _probed(path: Path, known: ScannedMedium | None, probe: Probe) -> ScannedMedium | None:
    # what could not be opened is tried again: the limits of media may be others now
    if known is None or (known.probed and known.problem is None):
        return known
    try:
        facts = probe(path)
    except MediaError as error:
        return replace(known, probed=True, problem=str(error))
    return replace(
        known,
        probed=True,
        start_s=facts.start_s,
        duration_s=facts.duration_s,
        num_video=facts.num_video,
        problem=None,
    )
