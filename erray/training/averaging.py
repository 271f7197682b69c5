"""Exponential moving average of a model's weights over the steps of its training."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch

from erray.models.fusion import FusionModel


class WeightAverage:
    """A second model whose weights follow the trained one's: average += (1 - d) (weight - average).

    After step n (from 0) d is min(decay, (1 + n) / (10 + n)), so that the weights of the start are
    soon forgotten. Buffers (the norms' statistics, which average themselves) are copied.
    """

    def __init__(self, model: FusionModel, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self.decay, self.num_steps = decay, 0

    @torch.no_grad()
    def update(self, model: FusionModel) -> None:
        """Take in the weights after a step."""
        decay = min(self.decay, (1 + self.num_steps) / (10 + self.num_steps))
        for mine, theirs in zip(self.model.parameters(), model.parameters(), strict=True):
            mine.lerp_(theirs, 1 - decay)
        for kept, current in zip(self.model.buffers(), model.buffers(), strict=True):
            kept.copy_(current)
        self.num_steps += 1

    def state_dict(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "num_steps": self.num_steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.num_steps = state["num_steps"]
