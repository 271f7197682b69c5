"""One training run as data: what it reads, what it trains, how. It travels to workers as it is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from erray.config import Model, Train, fingerprint
from erray.models import make_model
from erray.models.fusion import FusionModel
from erray.training.arrays import FeatureArrays
from erray.training.batches import share_of_clips, training_spans
from erray.training.losses import ClassCounts
from erray.windows import UNLABELLED


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
        """Name of all that shapes the result.

        Where it runs, with how many workers, and what it tolerates before it fails does not.
        """
        places = {
            "num_workers": None,
            "num_gpus": None,
            "max_failures": None,
            "checkpoint_epochs": None,
            "max_bad_windows": None,
        }
        # until these were scored one window at a time, val chose by what shared a batch
        alone = {"scored": "alone"} if self.model.options.get("fusion_axis") == "published" else {}
        # until then the loss of ticks weighed its classes by their clips
        counted = {"counted": "averaged"} if self._counts_classes else {}
        # until then a class without val clips had F1 0: such epochs and runs rank by another scale
        absent = {"absent": "skipped"} if self._chosen_by_some_classes else {}
        return fingerprint(
            {
                "train": self.train.folder.name,
                "val": self.val.folder.name,
                "streams": dict(self.streams),
                "num_classes": self.num_classes,
                "model": self.model.model_dump(),
                # no trace of where arrays lie: jobs of before there was a choice keep their names
                "settings": self.settings.model_dump(exclude={"arrays"}) | places,
                "seed": self.seed,
            }
            | alone
            | counted
            | absent
        )

    @property
    def _counts_classes(self) -> bool:
        loss = self.settings.loss
        return loss.logit_adjustment > 0 or loss.class_weights in ("inverse", "effective")

    @property
    def _chosen_by_some_classes(self) -> bool:
        labels = {self.val.clips[i].label for i in self.val_clips} - {UNLABELLED}
        return self.settings.select.metric == "macro_f1" and len(labels) < self.num_classes

    @property
    def train_clips(self) -> list[int]:
        """Positions of the clips of ``train`` that ``train.percent`` keeps."""
        return share_of_clips(self.train, self.settings.percent.train, seed=self.seed)

    @property
    def val_clips(self) -> list[int]:
        """Positions of the clips of ``val`` that ``train.percent`` keeps."""
        return share_of_clips(self.val, self.settings.percent.val, seed=self.seed)

    @property
    def class_counts(self) -> list[int]:
        """Labelled clips of every class among those that are trained on."""
        labels = [self.train.clips[i].label for i in self.train_clips]
        assert max(labels) < self.num_classes, (max(labels), self.num_classes)
        return [labels.count(label) for label in range(self.num_classes)]

    @property
    def loss_counts(self) -> ClassCounts:
        """How often each class is there among clips, windows and ticks: what losses average."""
        settings = self.settings
        spans = training_spans(
            self.train, window=settings.window, hop=settings.hop, clips=self.train_clips
        )
        labels = [self.train.clips[span.clip].label for span in spans]
        windows = np.bincount(labels, minlength=self.num_classes)
        frames = np.bincount(labels, weights=list(map(len, spans)), minlength=self.num_classes)
        return ClassCounts(self.class_counts, windows.tolist(), frames.astype(int).tolist())

    def make_model(self) -> FusionModel:
        """Fresh weights by the job's seed, normaliser from the train split alone."""
        torch.manual_seed(self.seed)
        model = make_model(self.model.name, self.streams, self.num_classes, self.model.options)
        clips = None if self.settings.percent.train == 100 else self.train_clips
        for name in self.streams:
            mean_D, std_D = self.train.normaliser(name, clips=clips)
            model.fit_normaliser(name, torch.from_numpy(mean_D), torch.from_numpy(std_D))
        return model


def model_over(model: Model, streams: Sequence[str], *, all_streams: Collection[str]) -> Model:
    """The model of a recipe with ``all_streams`` over some of them.

    A subset without the recipe's leader is led by its own first stream, and options of the streams
    that it lacks are left out. A name that is none of the recipe's streams stays, to be refused.
    """
    others = set(all_streams) - set(streams)
    options = dict(model.options)
    if options.get("leader") in others:
        options["leader"] = streams[0]
    if isinstance(options.get("channels"), dict):
        options["channels"] = {k: v for k, v in options["channels"].items() if k not in others}
    return model.model_copy(update={"options": options})
