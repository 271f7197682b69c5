"""The ``config.yml`` beside a published checkpoint: which options there are, and what they did.

It is a flat mapping of the published command line's options. Each is read (its value is checked
here), or is a leftover whose reason stands in ``LEFTOVERS``; any other name is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from erray.errors import UserError

OPTIONS: dict[str, Any] = {
    "dataset_name": "",
    "modality": "",
    "model_name": "",
    "calc_mean_std": True,
    "use_other_class": False,
    "num_heads": 2,
    "modal_dim": 32,
    "tcn_kernel_size": 5,
    "seed": 0,
    "train_p": 100.0,
    "valid_p": 100.0,
    "amp": False,
    "fold_to_run": 0,
    "num_epochs": 100,
    "min_num_epochs": 5,
    "window_length": 300,
    "hop_length": 200,
    "train_batch_size": 16,
    "opt__name_optimizer": "SGD",
    "opt__momentum": 0.9,
    "opt__dampening": 0.0,
    "opt__nesterov": True,
    "opt__weight_decay": 1e-4,
    "opt__beta1": 0.9,
    "opt__beta2": 0.999,
    "opt__eps_adam": 1e-8,
    "opt__amsgrad": False,
    "opt__lr_scheduler": True,
    "opt__name_lr_scheduler": "MYSTEP",
    "opt__gamma": 0.1,
    "opt__step_size": 40,
    "opt__min_lr": 1e-7,
    "opt__t_max": 100,
    "opt__milestone": "0",
    "opt__factor": 0.5,
    "opt__patience": 10,
    "eval_set": "test",
    "case_best_model": "FRAMES_AVG_LOGITS",
}
"""Options that are read, with the published default; its type is the option's. Empty text: none."""

NO_EFFECT = "had no effect"
_PLACE = "how and where it ran"
_FOLDER = "a folder of the machine it ran on"
_OTHER_TASK = "belongs to another task"

LEFTOVERS: dict[str, str] = {
    "opt__lr": "never reached the optimiser, which ran at 0.001",
    "early_stopping": f"{NO_EFFECT}, every epoch ran",
    "resume": NO_EFFECT,
    "opt__gradual_release": NO_EFFECT,
    "opt__release_count": NO_EFFECT,
    "opt__load_best_at_each_epoch": NO_EFFECT,
    "mode": _PLACE,
    "exp_id": _PLACE,
    "cudaid": _PLACE,
    "verbose": _PLACE,
    "num_workers": _PLACE,
    "eval_batch_size": _PLACE,
    "opt__last_epoch": _PLACE,
    "num_folds": "the published split files say which folds there are",
    "test_p": "every clip of the test split is scored here",
    "opt__mode": "the score that selects an epoch is one to raise here",
    "target_ds_name": "the recipe names the corpus of a prediction",
    "dataset_path": _FOLDER,
    "load_path": _FOLDER,
    "save_path": _FOLDER,
    "fd_exp": _FOLDER,
    "emotion": _OTHER_TASK,
    "metrics": _OTHER_TASK,
    "time_delay": _OTHER_TASK,
    "save_plot": _OTHER_TASK,
}
"""Options that become no key of a recipe, and why."""


@dataclass(frozen=True)
class PublishedConfig:
    """The options that a config.yml holds, checked; those that are null count as not given."""

    path: Path
    given: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        """Value of an option that is read, or its published default."""
        return self.given.get(name, OPTIONS[name])

    def names(self, name: str) -> str | None:
        """Value of a text option without a default; None where it is not given."""
        return self.given.get(name) or None

    @property
    def modalities(self) -> tuple[str, ...] | None:
        """Streams in their order, the label taken off; None where they are not given."""
        listed = self.names("modality")
        if listed is None:
            return None
        return tuple(part for part in listed.split("+") if not part.endswith("_label"))


def read_config(path: Path) -> PublishedConfig:
    """Read a config.yml.

    Raises:
        UserError: no such file, no YAML mapping, an unknown option, a value of another type.
    """
    if not path.is_file():
        raise UserError(f"no config at {path}: expected the config.yml beside the checkpoint")
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        detail = " ".join(str(error).split())[:200]
        raise UserError(f"{path} is not plain YAML: {detail}") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a mapping of options, found {type(data).__name__}")
    unknown = sorted(str(name) for name in data if name not in OPTIONS and name not in LEFTOVERS)
    if unknown:
        raise UserError(
            f"{path}: unknown options {', '.join(unknown)}: remove what did not shape the model; "
            f"options that are read: {', '.join(OPTIONS)}"
        )
    given = {name: value for name, value in data.items() if value is not None}
    checked = {n: _checked(path, n, value) if n in OPTIONS else value for n, value in given.items()}
    return PublishedConfig(path, checked)


def _checked(path: Path, name: str, value: Any) -> Any:
    """The value as the type of the option's default; YAML takes 1e-3 for text."""
    kind = type(OPTIONS[name])
    if isinstance(value, kind) and isinstance(value, bool) == (kind is bool):
        return value
    if kind is float and isinstance(value, int | str) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            pass
    if name == "opt__milestone" and type(value) is int:
        return str(value)
    if name == "modality" and isinstance(value, list) and all(type(v) is str for v in value):
        return "+".join(value)
    raise UserError(f"{path}: expected {name} of type {kind.__name__}, found {value!r}")
