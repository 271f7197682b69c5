"""The sections of a training run: model, train and what lies in it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from erray.config.section import Section


class Schedule(Section):
    name: str = Field("constant", description="constant or one of the six published schedules")
    options: dict[str, Any] = Field(default_factory=dict, description="its own parameters")


class Optimiser(Section):
    name: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: float = Field(1e-3, gt=0, description="learning rate before the schedule")
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD only")
    nesterov: bool = Field(True, description="SGD only")
    beta1: float = Field(0.9, ge=0, lt=1, description="Adam and AdamW only")
    beta2: float = Field(0.999, ge=0, lt=1, description="Adam and AdamW only")
    weight_decay: float = Field(1e-4, ge=0)


class Model(Section):
    name: str = Field("lfan", description="fusion model")
    options: dict[str, Any] = Field(default_factory=dict, description="the model's own settings")


class Train(Section):
    epochs: int = Field(100, ge=1)
    min_epochs: int = Field(5, ge=1, description="no early stop before this many epochs")
    patience: int = Field(50, ge=1, description="epochs without a better val metric until stop")
    window: int = Field(300, ge=1, description="ticks of a training window")
    hop: int = Field(200, ge=1, description="ticks from one window to the next")
    batch_size: int = Field(16, ge=1, description="windows per step, over all workers together")
    clip_rule: Literal["majority", "mean_probabilities", "mean_logits"] = Field(
        "mean_logits", description="how frames become the clip's class in val selection"
    )
    optimiser: Optimiser = Optimiser()
    schedule: Schedule = Schedule()
    max_grad_norm: float | None = Field(None, gt=0, description="clip gradients; null: never")
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
