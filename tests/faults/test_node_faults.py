"""A node of the cluster is killed during an extraction, then another: the tables end the same.

The cluster is raylets on this machine; a killed one takes its actors with it at once. And a node
with a GPU, which is made up, joins during an extraction.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

import erray.extraction
from erray import clip_batches
from erray.config import Recipe, parse_recipe
from erray.corpora import read_corpus
from erray.extraction import Extractor
from erray.stages import TracksStage
from tests.faults.tables import contents, rows
from tests.tiny_run import write_faceless

pytestmark = pytest.mark.timeout(900)

NUM_CLIPS = 24
CLIP_S = 0.5
NODE = {"num_cpus": 1, "object_store_memory": 100 * 1024**2}


class SlowStage(TracksStage):
    """Takes its time, so that a node can be killed in the middle."""

    def _process(self, row: dict[str, Any], shard: Any) -> None:
        time.sleep(CLIP_S)
        super()._process(row, shard)


class WitnessStage(SlowStage):
    """Writes down beside the run how many GPUs its actor has, for every clip."""

    def _process(self, row: dict[str, Any], shard: Any) -> None:
        super()._process(row, shard)
        with gpus_given(Path(self.run.out)).open("a", encoding="utf-8") as file:
            file.write(f"{len(ray.get_gpu_ids())}\n")


def gpus_given(out: Path) -> Path:
    return out.with_suffix(".gpus")


@pytest.fixture
def cluster(ray_dir: Path) -> Iterator[Cluster]:
    (ray_dir / "ray").mkdir(exist_ok=True)  # the address of the cluster is written there
    cluster = Cluster(initialize_head=True, head_node_args=NODE | {"include_dashboard": False})
    ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
    try:
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    lines = ["clip_id,media,split,transcript"]
    for i in range(NUM_CLIPS):
        write_faceless(corpus / f"clip_{i}.mp4", num_frames=10 + i)
        lines.append(f"clip_{i},clip_{i}.mp4,train,clip number {i}")
    (corpus / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    pools = {stage: {"num_workers": 3} for stage in ("tracks", "logmel", "hash")}
    extract = {"shard_clips": 2, "pools": pools}
    streams: dict[str, Any] = {"logmel": {}, "hash": {}}
    return parse_recipe({"corpus": {"root": str(corpus)}, "streams": streams, "extract": extract})


def extract(recipe: Recipe, out: Path) -> float:
    """Return the seconds that the extraction took."""
    clips = read_corpus(recipe.corpus, needs_media=True).clips
    start_s = time.monotonic()
    extracted = Extractor(recipe, clips, str(out)).extract()
    assert (extracted.wanted, extracted.done, extracted.rejected) == (NUM_CLIPS, NUM_CLIPS, 0)
    return time.monotonic() - start_s


def kill_nodes(cluster: Cluster, nodes: list[Any], status: Path, thresholds: list[int]) -> None:
    """Kill the next node when so many clips are done."""
    for node, least in zip(nodes, thresholds, strict=True):
        give_up_s = time.monotonic() + 120
        while not status.is_dir() or len(rows(status)) < least:
            assert time.monotonic() < give_up_s, "the extraction does not get on"
            time.sleep(0.05)
        cluster.remove_node(node, allow_graceful=False)


def test_a_node_killed_twice_changes_nothing(cluster, recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(erray.extraction, "TracksStage", SlowStage)
    nodes = [cluster.add_node(**NODE) for _ in range(2)]
    cluster.wait_for_nodes()
    undisturbed_s = extract(recipe, tmp_path / "whole")

    out = tmp_path / "run"
    killer = threading.Thread(
        target=kill_nodes, args=(cluster, nodes, out / "tables" / "status", [2, 12])
    )
    killer.start()
    disturbed_s = extract(recipe, out)
    killer.join(timeout=1)
    assert not killer.is_alive(), "the extraction was over before both were killed"
    assert len([n for n in ray.nodes() if not n["Alive"]]) == 2
    print(f"undisturbed {undisturbed_s:.1f} s, a node killed twice {disturbed_s:.1f} s")
    assert contents(out) == contents(tmp_path / "whole")


def test_a_gpu_that_joins_is_used_from_the_next_pool_on(cluster, recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(erray.extraction, "TracksStage", WitnessStage)
    monkeypatch.setattr(clip_batches, "_GROUP_BATCHES", 4)
    settings = {"streams": {"hog": {}}, "extract": {"shard_clips": 2}}  # hog wants faces
    recipe = parse_recipe({"corpus": recipe.corpus.model_dump(), **settings})
    given, status = gpus_given(tmp_path / "run"), tmp_path / "run" / "tables" / "status"

    with ThreadPoolExecutor() as pool:  # a node can be added from the main thread alone
        extracting = pool.submit(extract, recipe, tmp_path / "run")
        while not extracting.done() and not (status.is_dir() and rows(status)):
            time.sleep(0.05)
        cluster.add_node(**NODE, num_gpus=1)
        extracting.result()
    found = given.read_text("utf-8").split()
    # pools of 8 clips each: the first began before the node was there, the last after it
    assert len(found) == NUM_CLIPS
    assert set(found[:8]) == {"0"} and set(found[16:]) == {"1"}
