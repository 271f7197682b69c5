"""The main run under Ray Train: workers, restarts, checkpoints. The only file that knows it.

The loop is the plain one of ``loop.py``; here it is given its device, its state comes and goes as
Ray Train checkpoints (every epoch's scores are in it). ``report()`` is a barrier, which every
worker calls equally often.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
from ray.train import (
    Checkpoint,
    CheckpointConfig,
    FailureConfig,
    RunConfig,
    ScalingConfig,
)

from erray.checkpoint import load_state, save_state
from erray.errors import UserError
from erray.training.job import TrainJob
from erray.training.loop import TrainingLoop
from erray.training.runs import TrainingRun

_STATE = "state.pt"


def train_distributed(job: TrainJob, run: TrainingRun) -> Mapping[str, Any]:
    """Train ``job`` with the recipe's number of workers on the connected cluster.

    Running it again with the same folder goes on from the last checkpoint; a worker that dies is
    replaced ``train.max_failures`` times, and all workers go on from there.

    Returns:
        The final training state.

    Raises:
        UserError: the cluster has fewer CPUs or GPUs than the workers need.
    """
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    trainer = ray.train.torch.TorchTrainer(
        _worker,
        train_loop_config={"job": job},
        scaling_config=_scaling(job, dict(ray.cluster_resources())),
        run_config=RunConfig(
            name=job.fingerprint,
            storage_path=str(run.folder / "ray"),
            failure_config=FailureConfig(max_failures=job.settings.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
        ),
    )
    checkpoint = trainer.fit().checkpoint
    assert checkpoint is not None, "Ray Train returned no checkpoint"
    with checkpoint.as_directory() as folder:
        return load_state(Path(folder) / _STATE)


def _scaling(job: TrainJob, cluster: Mapping[str, float]) -> ScalingConfig:
    num_workers, num_gpus = job.settings.num_workers, job.settings.num_gpus
    if num_gpus is None:
        num_gpus = 1.0 if cluster.get("GPU", 0) >= num_workers else 0.0
    needed = {"CPU": float(num_workers), "GPU": num_workers * num_gpus}
    for name, amount in needed.items():
        if amount > cluster.get(name, 0):
            raise UserError(
                f"train.num_workers={num_workers} need {amount:g} {name}, the cluster has "
                f"{cluster.get(name, 0):g}: lower train.num_workers or train.num_gpus"
            )
    resources = {"CPU": 1.0} | ({"GPU": num_gpus} if num_gpus else {})
    return ScalingConfig(
        num_workers=num_workers, use_gpu=num_gpus > 0, resources_per_worker=resources
    )


def _worker(config: dict[str, Any]) -> None:
    job: TrainJob = config["job"]
    loop = TrainingLoop(job, device=ray.train.torch.get_device())
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            loop.load_state_dict(load_state(Path(folder) / _STATE))
    if loop.finished:  # resumed at the end: a result needs one report
        _report(loop, loop.history[-1])
    for row in loop.run():
        # a report is a barrier that costs about a second: every worker makes the same ones
        if loop.finished or loop.epoch % job.settings.checkpoint_epochs == 0:
            _report(loop, row)


def _report(loop: TrainingLoop, row: dict[str, float]) -> None:
    if loop.rank != 0:
        ray.train.report(row)
        return
    with tempfile.TemporaryDirectory() as folder:
        save_state(Path(folder) / _STATE, loop.state_dict())
        ray.train.report(row, checkpoint=Checkpoint.from_directory(folder))
