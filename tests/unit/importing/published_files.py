"""Published checkpoints and configs, made of the published names and shapes by the rule."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

_ASSETS = Path(__file__).parents[2] / "assets" / "reference"
MODELS = ("lfan", "can", "jmt", "mt")

CONFIG: dict[str, Any] = {
    "mode": "TRAINING",
    "dataset_name": "MELD",
    "exp_id": "07_24_2024_10_11_12_345678",
    "seed": 0,
    "cudaid": "0",
    "modality": "video+vggish+bert+EXPR_continuous_label",
    "calc_mean_std": True,
    "model_name": "LFAN",
    "num_epochs": 1000,
    "train_batch_size": 2,
    "opt__name_optimizer": "SGD",
    "opt__lr": 0.0001,
    "opt__name_lr_scheduler": "MYSTEP",
    "opt__gamma": 0.9,
    "opt__step_size": 50,
    "dataset_path": "/home/somebody/meld",
    "emotion": "arousal",
}
"""The published command for MELD, as its run writes it down."""


def cases() -> dict[str, dict[str, Any]]:
    """Published models: case to ``options``, ``inputs`` and ``parameters``, as in the assets."""
    files = [_ASSETS / f"{model}.json" for model in MODELS]
    return {k: v for file in files for k, v in json.loads(file.read_text("utf-8")).items()}


def outputs() -> dict[str, Any]:
    """Case to the logits [B, T, C] that the published module gave."""
    files = [_ASSETS / f"{model}.npz" for model in MODELS]
    return {k: v for file in files for k, v in np.load(file).items()}


def made_by_rule(name: str, shape: list[int]) -> Tensor:
    """The tensor that the reference outputs were computed with, made from its name."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("num_batches_tracked"):
        return torch.tensor(0)
    if name.endswith("running_var"):
        return torch.from_numpy((0.5 + random.random(shape)).astype(np.float32))
    values = random.standard_normal(shape).astype(np.float32)
    if len(shape) > 1 and not name.startswith("input/"):
        values /= np.float32(np.sqrt(np.prod(shape[1:])))
    elif not name.startswith("input/"):
        values = values * np.float32(0.1) + np.float32(name.endswith(".weight"))
    return torch.from_numpy(values)


def all_tensors(case: Mapping[str, Any]) -> dict[str, Tensor]:
    """Every tensor of the published state dict: convolutions stand there under two names."""
    tensors = {}
    for name, shape in case["parameters"].items():
        tensors[name] = made_by_rule(name, shape)
        tensors[name.replace(".net.0.", ".conv1.").replace(".net.4.", ".conv2.")] = tensors[name]
    return tensors


def write_checkpoint(path: Path, tensors: Mapping[str, Any]) -> Path:
    torch.save(dict(tensors), path)
    return path


def write_config(path: Path, **options: Any) -> Path:
    """Write :data:`CONFIG` with some options changed; None takes one away."""
    data = {name: value for name, value in (CONFIG | options).items() if value is not None}
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path
