"""One training run as data: what it reads, what it trains, how. It travels to workers as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch

from erray.config import Model, Train, fingerprint
from erray.models import make_model
from erray.models.fusion import FusionModel
from erray.training.arrays import FeatureArrays


@dataclass(frozen=True)
class TrainJob:
    """A model over some streams, trained on ``train`` and selected on ``val``.

    The test split is not part of it: nothing that is learned or chosen can see it.
    """

    train: FeatureArrays
    val: FeatureArrays
    streams: Mapping[str, int]
    """Stream name to width, in the model's order."""
    num_classes: int
    model: Model
    settings: Train
    seed: int

    @cached_property
    def fingerprint(self) -> str:
        """Name of all that shapes the result; where it runs and with how many workers does not."""
        places = {
            "num_workers": None,
            "num_gpus": None,
            "max_failures": None,
            "checkpoint_epochs": None,
        }
        return fingerprint(
            {
                "train": self.train.folder.name,
                "val": self.val.folder.name,
                "streams": dict(self.streams),
                "num_classes": self.num_classes,
                "model": self.model.model_dump(),
                "settings": self.settings.model_dump() | places,
                "seed": self.seed,
            }
        )

    def make_model(self) -> FusionModel:
        """Fresh weights by the job's seed, normaliser from the train split alone."""
        torch.manual_seed(self.seed)
        model = make_model(self.model.name, self.streams, self.num_classes, self.model.options)
        for name in self.streams:
            mean_D, std_D = self.train.normaliser(name)
            model.fit_normaliser(name, torch.from_numpy(mean_D), torch.from_numpy(std_D))
        return model
