"""The main run under Ray Train: workers, restarts, checkpoints. The only file that knows it.

The loop is the plain one of ``loop.py``; here it is given its device, its state comes and goes as
Ray Train checkpoints (every epoch's scores are in it). ``report()`` is a barrier, which every
worker calls equally often.

A run goes on from the newest checkpoint in its folder that is whole by its hash, whatever Ray
Train's own list of them says: a checkpoint may be cut off by the death of who copies it, or be
damaged on the disk, and the list is no better off.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.collective
import ray.train.torch
from ray.train import (
    Checkpoint,
    CheckpointConfig,
    ControllerError,
    FailureConfig,
    RunConfig,
    ScalingConfig,
    TrainingFailedError,
    WorkerGroupError,
)

from erray.checkpoint import load_state, save_state
from erray.errors import UserError, refusal_line
from erray.training.events import EpochNews, OnEpoch, epoch_end, tell_nobody
from erray.training.job import TrainJob
from erray.training.loop import TrainingLoop
from erray.training.runs import TrainingRun, usable_state

_STATE = "state.pt"
_LIST = "checkpoint_manager_snapshot.json"  # Ray Train's own name for it


def train_distributed(
    job: TrainJob, run: TrainingRun, *, on_epoch: OnEpoch = tell_nobody
) -> Mapping[str, Any]:
    """Train ``job`` with the recipe's number of workers on the connected cluster.

    Running it again with the same folder goes on from the last whole checkpoint, with any number of
    workers; a worker that dies is replaced ``train.max_failures`` times, and all workers go on from
    there.

    Args:
        on_epoch: told of every epoch as it ends.

    Returns:
        The final training state.

    Raises:
        UserError: the cluster has fewer CPUs or GPUs than the workers need, a worker raised it, or
            the system refused one something, such as space on a disk.
    """
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    storage = run.folder / "ray"
    folder = storage / job.fingerprint
    _drop_broken_list(folder)
    trainer = _Trainer(
        _worker,
        train_loop_config={"job": job, "run": run, "folder": folder},
        scaling_config=_scaling(job, dict(ray.cluster_resources())),
        run_config=RunConfig(
            name=job.fingerprint,
            storage_path=str(storage),
            failure_config=FailureConfig(max_failures=job.settings.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
        ),
    )
    try:
        with EpochNews([run.folder], on_epoch).while_waiting():
            checkpoint = trainer.fit().checkpoint
    except TrainingFailedError as error:
        line = _line(error)
        if line is None:
            raise
        raise UserError(line) from None  # without the worker's traceback
    assert checkpoint is not None, "Ray Train returned no checkpoint"
    with checkpoint.as_directory() as kept:
        return load_state(Path(kept) / _STATE)


def _line(error: TrainingFailedError) -> str | None:
    """What a worker or Ray Train's controller says of a user's mistake, or of a full disk."""
    failures: list[Exception] = []
    if isinstance(error, WorkerGroupError):
        failures = list(error.worker_failures.values())
    elif isinstance(error, ControllerError):
        failures = [error.controller_failure]
    for failure in failures:
        line = str(failure) if isinstance(failure, UserError) else refusal_line(failure)
        if line is not None:
            return line
    return None


class _Trainer(ray.train.torch.TorchTrainer):
    """A trainer that leaves Ctrl-C to the command: Ray's own handler goes on after it."""

    def _register_sigint_handler(self, controller: Any) -> None:
        """Register none."""


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
    _train(config["job"], config["run"], config["folder"])


def _train(job: TrainJob, run: TrainingRun, folder: Path) -> None:
    loop = TrainingLoop(job, device=ray.train.torch.get_device())
    # one worker chooses: the folder may look different from two nodes
    newest = _newest_whole(job, folder) if loop.rank == 0 else None
    newest = ray.train.collective.broadcast_from_rank_zero(newest)
    if newest is not None:
        loop.load_state_dict(load_state(Path(newest)))
    if loop.finished:  # resumed at the end: a result needs one report
        _report(loop, loop.history[-1])
    for row in loop.run():
        if loop.rank == 0:
            run.epochs.append(epoch_end(loop, row, run=run.name))
        # a report is a barrier that costs about a second: every worker makes the same ones
        if loop.finished or loop.epoch % job.settings.checkpoint_epochs == 0:
            _report(loop, row)


def _newest_whole(job: TrainJob, folder: Path) -> str | None:
    """Path of the state with most epochs that is whole and of this job; None: start anew.

    Not the newest name: names hold the time of the node that wrote them.
    """
    epochs = {}
    for path in folder.glob(f"checkpoint_*/{_STATE}"):
        state = usable_state(job, path)
        if state is not None:
            epochs[str(path)] = state["epoch"]
    return max(epochs, key=lambda path: epochs[path], default=None)


def _drop_broken_list(folder: Path) -> None:
    """Remove Ray Train's list of checkpoints where Ray Train would refuse to start with it.

    It is written in place, so a driver that is killed meanwhile leaves a part of it, and it may
    name a checkpoint that is gone.
    """
    path = folder / _LIST
    if not path.is_file():
        return
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))["checkpoint_results"]
    except (ValueError, KeyError):
        listed = None
    if listed is None or not all((folder / c["checkpoint_dir_name"]).is_dir() for c in listed):
        path.unlink()


def _report(loop: TrainingLoop, row: dict[str, float]) -> None:
    if loop.rank != 0:
        ray.train.report(row)
        return
    with tempfile.TemporaryDirectory() as folder:
        save_state(Path(folder) / _STATE, loop.state_dict())
        ray.train.report(row, checkpoint=Checkpoint.from_directory(folder))
