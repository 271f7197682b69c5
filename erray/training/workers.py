"""What the workers of a run tell each other; one worker alone is the plain case of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Workers:
    """This process among the ``size`` that train together. Every worker makes the same calls."""

    rank: int = 0
    size: int = 1

    @classmethod
    def connected(cls) -> Workers:
        """The processes that ``torch.distributed`` connects; this one alone where it does not."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls()

    def summed(self, x: Tensor) -> Tensor:
        """Sum of all workers' ``x`` in float64, the same on every worker."""
        x = x.to(torch.float64)
        if self.size > 1:
            dist.all_reduce(x)
        return x

    def joined(self, items: Iterable[T]) -> list[T]:
        """All workers' items, in the order of their ranks."""
        mine = list(items)
        if self.size == 1:
            return mine
        parts: list[list[T]] = [[] for _ in range(self.size)]
        dist.all_gather_object(parts, mine)
        return [item for part in parts for item in part]
