"""What a stage asks of the cluster; the pool itself is tested with a real Ray."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from erray.config import Pool
from erray.streaming import PoolSize, plan_pool

LAPTOP, SERVER = {"CPU": 4.0}, {"CPU": 16.0, "GPU": 2.0}


def plan(pool: Pool | None = None, *, cluster: dict[str, float], **options) -> PoolSize:
    options = {"uses_gpu": True, "num_batches": 100} | options
    return plan_pool(pool or Pool(), cluster=cluster, **options)


def test_a_stage_that_can_use_a_gpu_asks_for_one_where_there_is_one():
    assert plan(cluster=SERVER) == PoolSize(num_workers=2, num_cpus=1, num_gpus=1)
    assert plan(cluster=LAPTOP) == PoolSize(num_workers=4, num_cpus=1, num_gpus=0)
    assert plan(cluster=SERVER, uses_gpu=False) == PoolSize(num_workers=16, num_cpus=1, num_gpus=0)


def test_the_recipe_has_the_last_word():
    assert plan(Pool(num_gpus=0.25), cluster=SERVER) == PoolSize(8, 1, 0.25)
    assert plan(Pool(num_gpus=0), cluster=SERVER) == PoolSize(16, 1, 0)
    assert plan(Pool(num_gpus=0.5), cluster=SERVER, uses_gpu=False) == PoolSize(4, 1, 0.5)
    assert plan(Pool(num_workers=3), cluster=LAPTOP) == PoolSize(3, 1, 0)
    assert plan(Pool(num_cpus=2.5), cluster=LAPTOP) == PoolSize(1, 2.5, 0)


def test_no_more_actors_than_batches():
    assert plan(cluster=SERVER, uses_gpu=False, num_batches=3).num_workers == 3
    assert plan(Pool(num_workers=9), cluster=LAPTOP, num_batches=2).num_workers == 2


@given(
    cpus=st.integers(1, 64),
    gpus=st.integers(0, 8),
    num_cpus=st.sampled_from([0.5, 1, 2, 3]),
    num_batches=st.integers(0, 50),
    uses_gpu=st.booleans(),
)
def test_what_is_planned_fits_whenever_one_actor_fits(cpus, gpus, num_cpus, num_batches, uses_gpu):
    cluster = {"CPU": float(cpus), "GPU": float(gpus)}
    size = plan_pool(
        Pool(num_cpus=num_cpus), uses_gpu=uses_gpu, num_batches=num_batches, cluster=cluster
    )
    assert 1 <= size.num_workers <= max(num_batches, 1)
    assert size.num_gpus == (1.0 if uses_gpu and gpus else 0.0)
    if num_cpus <= cpus:
        assert size.num_workers * size.num_cpus <= cpus
        assert size.num_workers * size.num_gpus <= gpus


@given(
    cpus=st.integers(1, 64),
    gpus=st.integers(0, 8),
    share=st.sampled_from([0.25, 0.5, 1.0, 2.0]),
)
def test_a_share_of_a_gpu_each_fills_what_the_cluster_has(cpus, gpus, share):
    cluster = {"CPU": float(cpus), "GPU": float(gpus)}
    size = plan(Pool(num_gpus=share), cluster=cluster, num_batches=1000)
    assert size.num_gpus == share
    if share > gpus:
        assert size.num_workers == 1, "it waits for a node that can take it"
        return
    assert size.num_workers * share <= gpus and size.num_workers <= cpus
    one_more = size.num_workers + 1
    assert one_more * share > gpus or one_more > cpus
