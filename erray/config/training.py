"""The sections of a training run: model, train and what lies in it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from erray.config.section import Section


class Schedule(Section):
    name: str = Field("constant", description="constant or one of the six published schedules")
    options: dict[str, Any] = Field(default_factory=dict, description="its own parameters")


class Optimiser(Section):
    name: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: float = Field(1e-3, gt=0, description="learning rate before the schedule")
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD only")
    dampening: float = Field(0.0, ge=0, le=1, description="SGD only")
    nesterov: bool = Field(True, description="SGD only")
    beta1: float = Field(0.9, ge=0, lt=1, description="Adam and AdamW only")
    beta2: float = Field(0.999, ge=0, lt=1, description="Adam and AdamW only")
    eps: float = Field(1e-8, gt=0, description="Adam and AdamW only")
    amsgrad: bool = Field(False, description="Adam and AdamW only")
    weight_decay: float = Field(1e-4, ge=0)

    @model_validator(mode="after")
    def _only_what_it_reads(self) -> Optimiser:
        for name, optimisers in _OPTIMISERS_OF_SETTING.items():
            given = getattr(self, name) != type(self).model_fields[name].default
            if given and self.name not in optimisers:
                raise ValueError(
                    f"train.optimiser.{name} is read by {' and '.join(optimisers)} only, not by "
                    f"{self.name}: remove it"
                )
        if self.name == "sgd" and self.nesterov and (self.momentum == 0 or self.dampening > 0):
            raise ValueError(
                f"train.optimiser.nesterov needs momentum above 0 and dampening 0, found "
                f"{self.momentum} and {self.dampening}: set nesterov to false"
            )
        return self


_OPTIMISERS_OF_SETTING = {
    "momentum": ("sgd",),
    "dampening": ("sgd",),
    "nesterov": ("sgd",),
    "beta1": ("adam", "adamw"),
    "beta2": ("adam", "adamw"),
    "eps": ("adam", "adamw"),
    "amsgrad": ("adam", "adamw"),
}
"""Settings that some optimisers only read."""


class Loss(Section):
    level: Literal["frame", "clip", "both"] = Field(
        "frame", description="what the cross-entropy is of: every frame, a window's mean logits"
    )
    clip_weight: float = Field(
        0.5, gt=0, lt=1, description="both only: share of the clip's loss, the rest is the frames'"
    )
    class_weights: Literal["none", "inverse", "effective"] | list[Annotated[float, Field(ge=0)]] = (
        Field("none", description="by how frequent a class is in training, or a number per class")
    )
    beta: float = Field(0.999, ge=0, lt=1, description="effective only: 1 - 1 / prototypes")
    focal_gamma: float = Field(0.0, ge=0, description="weight (1 - p)^gamma; 0: none")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share spread over all classes")
    logit_adjustment: float = Field(0.0, ge=0, description="tau times the log prior; 0: none")

    @model_validator(mode="after")
    def _only_what_is_read(self) -> Loss:
        for name, other, needed in (
            ("clip_weight", "level", "both"),
            ("beta", "class_weights", "effective"),
        ):
            given = getattr(self, name) != type(self).model_fields[name].default
            if given and getattr(self, other) != needed:
                raise ValueError(
                    f"train.loss.{name} is read with {other} {needed} only, found "
                    f"{getattr(self, other)}: remove it"
                )
        return self


class Select(Section):
    metric: Literal["weighted_f1", "macro_f1", "accuracy"] = "weighted_f1"
    level: Literal["clip", "frame"] = Field("clip", description="clips by clip_rule, or frames")


class Percent(Section):
    train: float = Field(100.0, gt=0, le=100, description="of the clips of each class")
    val: float = Field(100.0, gt=0, le=100, description="of the clips of each class")


class Model(Section):
    name: str = Field("lfan", description="fusion model")
    options: dict[str, Any] = Field(default_factory=dict, description="the model's own settings")


class Train(Section):
    epochs: int = Field(100, ge=1)
    min_epochs: int = Field(5, ge=1, description="no early stop before this many epochs")
    patience: int = Field(50, ge=1, description="epochs without a better val metric until stop")
    window: int = Field(300, ge=1, description="ticks of a training window")
    hop: int = Field(200, ge=1, description="ticks from one window to the next")
    batch_size: int = Field(16, ge=1, description="windows per batch, over all workers together")
    accumulate: int = Field(1, ge=1, description="batches per step")
    percent: Percent = Percent()
    modality_dropout: float = Field(
        0.0, ge=0, lt=1, description="chance that a stream of a window is absent in training"
    )
    clip_rule: Literal["majority", "mean_probabilities", "mean_logits"] = Field(
        "mean_logits", description="how frames become the clip's class in val selection"
    )
    select: Select = Select()
    loss: Loss = Loss()
    optimiser: Optimiser = Optimiser()
    schedule: Schedule = Schedule()
    warmup_epochs: int = Field(0, ge=0, description="linear ramp in front of the schedule")
    max_grad_norm: float | None = Field(None, gt=0, description="clip gradients; null: never")
    average_decay: float | None = Field(
        None, gt=0, lt=1, description="decay of averaged weights; null: the last step's weights"
    )
    precision: Literal["float32", "bf16", "fp16"] = Field(
        "float32", description="of the forward and backward pass in training"
    )
    compile: bool = Field(False, description="compile the training step's model")
    max_bad_windows: int = Field(
        10, ge=0, description="windows of an epoch that may be left out as not finite"
    )
    arrays: str | None = Field(
        None, min_length=1, description="folder of the mapped features; null: the run's cache/"
    )
    num_workers: int = Field(2, ge=1, description="Ray Train workers of the main run")
    num_gpus: float | None = Field(
        None, ge=0, description="GPUs of one worker; null: one if there are enough, else none"
    )
    max_failures: int = Field(2, ge=0, description="restarts after a lost worker")
    checkpoint_epochs: int = Field(
        1, ge=1, description="epochs from one checkpoint of the main run to the next"
    )

    @model_validator(mode="after")
    def _hop_fits(self) -> Train:
        if self.hop > self.window:
            raise ValueError(f"train.hop {self.hop} must not exceed train.window {self.window}")
        return self

    @model_validator(mode="after")
    def _one_warm_up(self) -> Train:
        if self.warmup_epochs and self.schedule.name == "mywarmup":
            raise ValueError(
                "train.warmup_epochs and schedule mywarmup are two warm-ups: set warmup_epochs "
                "to 0 and give the schedule's min_epochs"
            )
        return self
