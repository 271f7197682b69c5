"""An extraction whose tables lie in S3-compatible storage: moto's server, a real local Ray."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest
import torch

from erray.config import Recipe, parse_recipe
from erray.demo.corpus import build_demo_corpus
from erray.errors import UserError
from erray.extraction import Extractor
from erray.plan import Plan
from erray.records import STATUS_SCHEMA, Clip
from erray.store import RunFolder, Table
from erray.store import folder as folder_module
from tests.tiny_run import write_faceless

pytestmark = pytest.mark.integration

SCHEMA = pa.schema([("key", pa.string()), ("values", pa.binary())])
MEBIBYTE = 2**20


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Clip]]:
    """A face, a faceless clip and a file that is none."""
    root = tmp_path_factory.mktemp("corpus") / "demo"
    build_demo_corpus(root, num_train=1, num_val=0, num_test=0, num_challenge=0)
    (face,) = root.rglob("*.mp4")
    write_faceless(root / "faceless.mp4", num_frames=10)
    (root / "text.mp4").write_text("Not a film.\n", encoding="utf-8")
    media = (face, root / "faceless.mp4", root / "text.mp4")
    clips = [
        Clip(
            clip_id=path.stem,
            media=str(path.relative_to(root)),
            split="train",
            group=path.stem,
            transcript="no way",
            file_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in media
    ]
    return root, clips


def recipe_for(root: Path, tables: str | None) -> Recipe:
    return parse_recipe(
        {
            "corpus": {"root": str(root)},
            "streams": {"hog": {}},
            "extract": {
                "shard_clips": 2,
                "tables": tables,
                "pools": {stage: {"num_workers": 1} for stage in ("tracks", "hog")},
            },
        }
    )


def without_ray(
    batches: list[pa.Table], worker: type, settings: dict[str, Any], **_: object
) -> Iterator[pa.Table]:
    """What a pool of actors does, in this process."""
    yield from map(worker(**settings), batches)


def contents(run: RunFolder, plan: Plan) -> dict[str, list[str]]:
    tables = {name: getattr(run, name) for name in ("clips", "tracks", "crops", "status")}
    tables |= {name: run.features(name, plan.fingerprints[name]) for name in plan.modalities}
    return {
        name: sorted(
            repr({k: v for k, v in row.items() if k != "seconds"})
            for row in table.read().to_pylist()
        )
        for name, table in (tables | {"rejects": run.rejects}).items()
    }


def test_tables_in_object_storage_are_those_of_a_disk(
    bucket, corpus, tmp_path, ray_dir, monkeypatch
):
    root, clips = corpus
    monkeypatch.setenv("RAY_TMPDIR", str(ray_dir))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    recipe = recipe_for(root, f"{bucket}/deep/run/")
    extractor = Extractor(recipe, clips, str(tmp_path / "remote"))
    remote = extractor.extract()
    torch.set_num_threads(1)  # as an actor of one CPU has: sums of several threads round otherwise
    with monkeypatch.context() as patch:
        patch.setattr("erray.extraction.ray_session", lambda: nullcontext({"CPU": 1.0}))
        patch.setattr("erray.extraction.stream", without_ray)
        plain = Extractor(recipe_for(root, None), clips, str(tmp_path / "disk"))
        assert plain.extract() == remote
    expected = contents(plain.run, Plan(recipe))
    assert (remote.done, remote.rejected, len(expected["crops"])) == (2, 1, 1)
    assert contents(extractor.run, Plan(recipe)) == expected
    names = fsspec.filesystem("s3").find("tables/deep", maxdepth=None)
    assert names and all(name.endswith(".parquet") for name in names)
    # Ray is gone: a second run that computed anything would have to start it
    again = Extractor(recipe, clips, str(tmp_path / "remote"))
    monkeypatch.setattr("erray.extraction.ray_session", pytest.fail)
    assert set(again.extract().computed.values()) == {0}
    assert contents(again.run, Plan(recipe)) == expected
    assert not (tmp_path / "remote" / "tables").exists()


def test_status_shards_are_merged_there_too(bucket):
    table = RunFolder("/nowhere", f"{bucket}/merged").status
    for i in range(5):
        row = dict.fromkeys(STATUS_SCHEMA.names) | {"key": f"k{i}", "state": "done"}
        table.write_shard([row | {"fingerprint": "f"}], keys=[f"k{i}"])
    table.merge(least=2)
    (path,) = table.shards()
    assert path.rsplit("/", 1)[-1].startswith("merged-000001-")
    assert table.states("f") == {f"k{i}": "done" for i in range(5)}


@pytest.mark.parametrize("num_bytes", [1_000, 120 * MEBIBYTE])
def test_an_upload_that_fails_is_never_seen(bucket, num_bytes):
    """One that fits in a request, and one of several parts, some of which are there already."""
    table = Table(f"{bucket}/failed-{num_bytes}", SCHEMA)
    name = table.write_shard([{"key": "a", "values": b"old"}], keys=["a"])

    def half(file) -> None:
        file.write(bytes(num_bytes))
        raise KeyboardInterrupt

    for target in (name, "shard-other.parquet"):
        with pytest.raises(KeyboardInterrupt):
            table.folder.write(target, half)
    assert table.read().to_pylist() == [{"key": "a", "values": b"old"}]
    uploads = fsspec.filesystem("s3").call_s3("list_multipart_uploads", Bucket="tables")
    assert uploads.get("Uploads", []) == []
    table.clear()
    assert table.shards() == []


def test_storage_that_is_not_there_is_one_line(bucket, monkeypatch):
    monkeypatch.setattr(folder_module, "_PAUSES_S", (0.0, 0.0))
    with pytest.raises(UserError, match=r"could not write to s3://absent/run: .*bucket"):
        RunFolder("/nowhere", "s3://absent/run").check_writable()
    with socket.socket() as unused:  # bound, but nobody listens
        unused.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{unused.getsockname()[1]}"
        options = {"endpoint_url": nobody, "config_kwargs": {"retries": {"max_attempts": 0}}}
        fs = fsspec.filesystem("s3", skip_instance_cache=True, **options)
        monkeypatch.setattr("fsspec.core.url_to_fs", lambda path: (fs, path.removeprefix("s3://")))
        monkeypatch.setattr(type(fs), "retries", 1)
        with pytest.raises(UserError, match="Could not connect to the endpoint") as refused:
            Table("s3://tables/run", SCHEMA).shards()
    assert "\n" not in str(refused.value)
