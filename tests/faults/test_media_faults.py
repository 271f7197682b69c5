"""Media that break, crash their decoder, stall or take all memory, in a real extraction.

Every clip ends done or rejected, the others are not touched, and no actor dies of it.
"""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import erray.extraction
from erray.config import Recipe, parse_recipe
from erray.corpora import read_corpus
from erray.errors import MediaError, UserError
from erray.extraction import Extracted, Extractor
from erray.media import Decoder, MediaLimits
from erray.stages import TracksStage
from tests.faults.odd_media import ODD_MEDIA, plain
from tests.unit.media_files import write_video

pytestmark = pytest.mark.timeout(1200)

CLIPS = Path(__file__).parents[3] / "shared" / "clips"
NUM_MUTATIONS = 2000
NUM_PICTURED = 400
SEED = 20261124
MAX_SOURCE_BYTES = 200_000


def write_manifest(root: Path, media: list[str]) -> None:
    lines = ["clip_id,media,split,transcript", *(f"{m},{m},train,words" for m in media)]
    (root / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def recipe_for(root: Path, **sections: Any) -> Recipe:
    corpus = {"root": str(root), "protocol": "published"}  # equal media lie in one split here
    return parse_recipe({"corpus": corpus, "streams": {"logmel": {}, "hash": {}}, **sections})


def extract(root: Path, out: Path, **sections: Any) -> Extracted:
    recipe = recipe_for(root, **sections)
    clips = read_corpus(recipe.corpus, needs_media=True).clips
    return Extractor(recipe, clips, str(out)).extract()


def rows(out: Path, table: str) -> list[dict[str, Any]]:
    shards = sorted((out / "tables" / table).rglob("*.parquet"))
    return [row for shard in shards for row in pq.ParquetFile(shard).read().to_pylist()]


def states(out: Path, stage: str) -> dict[str, dict[str, Any]]:
    return {row["clip_id"]: row for row in rows(out, "status") if row["stage"] == stage}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    return folder


def test_every_odd_medium_gets_its_status(root, tmp_path):
    for name, (write, *_) in ODD_MEDIA.items():
        write(root / name)
    write_manifest(root, list(ODD_MEDIA))
    extracted = extract(root, tmp_path / "run", extract={"shard_clips": 4})
    found = states(tmp_path / "run", "tracks")
    assert set(found) == set(ODD_MEDIA)
    for name, (_, state, reason, note) in ODD_MEDIA.items():
        row = found[name]
        assert row["state"] == state, (name, row["reason"])
        assert reason is None or row["reason"].startswith(f"{reason}: "), (name, row["reason"])
        assert (row["note"] is None) == (note is None), (name, row["note"])
    num_rejected = sum(state == "rejected" for _, state, _, _ in ODD_MEDIA.values())
    assert (extracted.rejected, extracted.wanted) == (num_rejected, len(ODD_MEDIA))
    assert extracted.wanted == extracted.done + extracted.rejected
    assert {row["clip_id"] for row in rows(tmp_path / "run", "rejects")} == {
        name for name, (_, state, _, _) in ODD_MEDIA.items() if state == "rejected"
    }


@pytest.mark.parametrize(
    "media",
    [
        "../secret.mp4",
        "inside/../../secret.mp4",
        "{outside}/secret.mp4",
        "link.mp4",
        "folder/secret.mp4",
        "http://127.0.0.1:9/a.mp4",
        "file:///etc/passwd",
        "concat:plain.mp4|plain.mp4",
    ],
)
def test_nothing_outside_the_root_is_read(root, tmp_path, media):
    plain(tmp_path / "secret.mp4")
    (root / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    (root / "folder").symlink_to(tmp_path)
    write_manifest(root, [media.format(outside=tmp_path)])
    before_ns = (tmp_path / "secret.mp4").stat().st_atime_ns
    with pytest.raises(UserError, match=r"corpus root"):
        extract(root, tmp_path / "run")
    assert (tmp_path / "secret.mp4").stat().st_atime_ns == before_ns
    assert not (tmp_path / "run" / "tables").exists()


CRASHING, STALLING, HUNGRY, EXITING = "crash.mp4", "stall.mp4", "memory.mkv", "exit.mp4"
SIGNALS = {CRASHING: signal.SIGSEGV, STALLING: signal.SIGSTOP, EXITING: signal.SIGTERM}
REASONS = {
    CRASHING: "decoder_died: signal SIGSEGV",
    STALLING: "timeout: ",
    HUNGRY: "no_memory: ",
    EXITING: "decoder_died: signal SIGTERM",
}


class HurtDecoder(Decoder):
    """Has its child meet a signal before it works on one of the media ``SIGNALS``."""

    def _request(self, job: str, path: str | Path, **span: Any) -> Any:
        number = SIGNALS.get(Path(path).name)
        if number is None:
            return super()._request(job, path, **span)
        self.probe(Path(path).with_name("good_0.mp4"))
        assert self._child is not None
        pid = self._child._process.pid
        os.kill(pid, signal.SIGSTOP)
        answer = super()._request(job, path, **span)
        if number != signal.SIGSTOP:
            os.kill(pid, number)
            os.kill(pid, signal.SIGCONT)
        return answer


class HurtStage(TracksStage):
    """Decodes with a :class:`HurtDecoder` and writes down which process works on which clip."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.decoder = HurtDecoder(settings["limits"])

    def _process(self, row: dict[str, Any], shard: Any) -> None:
        with Path(self.root, "attempts.txt").open("a") as file:
            file.write(f"{row['clip_id']} {os.getpid()}\n")
        super()._process(row, shard)


def test_a_decoder_that_crashes_stalls_or_eats_memory_costs_its_clip(root, tmp_path, monkeypatch):
    good = [f"good_{i}.mp4" for i in range(6)]
    for i, name in enumerate([*good, *SIGNALS]):
        write_video(root / name, [40 * k for k in range(20 + i)])
    write_video(root / HUNGRY, [0, 40, 80], size_px=(4096, 2304), codec="ffv1", pix_fmt="yuv444p")
    media = [CRASHING, *good[:3], STALLING, HUNGRY, *good[3:], EXITING]
    write_manifest(root, media)
    monkeypatch.setattr(erray.extraction, "TracksStage", HurtStage)
    limits = {"stall_s": 3.0, "max_memory_mb": 128}
    pools = {"tracks": {"num_workers": 1}}
    out = tmp_path / "run"
    extracted = extract(root, out, media=limits, extract={"pools": pools, "shard_clips": 4})
    found = states(out, "tracks")
    assert set(found) == set(media) and extracted.rejected == len(REASONS)
    for name, reason in REASONS.items():
        assert found[name]["reason"].startswith(reason), found[name]
    assert all(found[name]["state"] == "done" for name in good)
    attempts = [line.split() for line in (root / "attempts.txt").read_text().splitlines()]
    assert sorted(clip for clip, _ in attempts) == sorted(media), "one attempt at every clip"
    assert len({pid for _, pid in attempts}) == 1, "the actor lived through all of it"

    monkeypatch.undo()
    again = extract(root, out, media=limits)
    assert sum(again.computed.values()) == 0, "what was rejected stays so"
    more = extract(root, out, media=limits | {"max_memory_mb": 1024})
    assert more.computed["tracks"] == len(REASONS), "other limits run their rejects again"
    assert (more.rejected, more.done) == (0, len(media))


class WitnessStage(TracksStage):
    """Leaves the number of its process: an actor that was restarted leaves another one."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        Path(self.root, f"{os.getpid()}.worker").touch()


def sources(folder: Path) -> list[Path]:
    """Small real media where they are there, and one that is made here."""
    plain(folder / "plain.mp4")
    real = sorted(CLIPS.glob("*.*")) if CLIPS.is_dir() else []
    suffixes = {".mp4", ".mov", ".mkv", ".webm", ".wav"}
    small = [p for p in real if p.suffix in suffixes and p.stat().st_size <= MAX_SOURCE_BYTES]
    return [folder / "plain.mp4", *small]


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Flip, cut, repeat or drop bytes, in the header or anywhere."""
    content = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        reach = min(len(content), chance.choice([256, 4096, len(content)])) or 1
        at = chance.randrange(reach)
        size = chance.choice([1, 1, 4, 64, 1024])
        kind = chance.choice(["flip", "fill", "drop", "repeat", "cut"])
        if kind == "flip" and content:
            content[at] ^= 1 << chance.randrange(8)
        elif kind == "fill":
            content[at : at + size] = chance.randbytes(size)
        elif kind == "drop":
            del content[at : at + size]
        elif kind == "repeat":
            content[at:at] = content[at : at + size]
        elif chance.random() < 0.2:
            del content[at + len(content) // 8 :]
    return bytes(content)


def code_of(decoder: Decoder, path: Path) -> str:
    """Read every picture; return ``done`` or the first word of the reason."""
    try:
        for _ in decoder.frames(path):
            pass
    except MediaError as error:
        return str(error).split(":")[0]
    return "done"


def test_thousands_of_mutated_media_leave_no_row_missing(root, tmp_path, monkeypatch):
    monkeypatch.setattr(erray.extraction, "TracksStage", WitnessStage)
    chance = random.Random(SEED)
    wells = [(path.suffix, path.read_bytes()) for path in sources(tmp_path)]
    media = []
    for i in range(NUM_MUTATIONS):
        suffix, data = wells[i % len(wells)]
        media.append(f"{i:04d}{suffix}")
        (root / media[-1]).write_bytes(mutated(data, chance))
    write_manifest(root, media)
    out = tmp_path / "run"
    settings = {"shard_clips": 50, "pools": {"tracks": {"num_workers": 2}}}
    extracted = extract(root, out, media={"stall_s": 20.0}, extract=settings)
    assert extracted.wanted == extracted.done + extracted.rejected == NUM_MUTATIONS
    reasons = extracted.reasons
    print(f"{extracted.done} done, rejected: {reasons}")
    assert len(list(root.glob("*.worker"))) == 2, "no actor died"
    assert "worker_died" not in reasons
    with Decoder(MediaLimits(stall_s=20.0)) as decoder:  # the stages above asked for no pictures
        codes = [code_of(decoder, root / name) for name in media[:NUM_PICTURED]]
    assert len(codes) == NUM_PICTURED and "done" in codes
    assert extracted.done > NUM_MUTATIONS // 10 and len(reasons) > 3, "the mutations are of use"
