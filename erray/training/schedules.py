"""Learning rate schedules: the six published ones by their formulas, and a constant.

Epochs count from 0. The loop asks ``lr(epoch, batch, num_batches)`` before every step and calls
``end_epoch(metric)`` after every validation. Only ``mywarmup`` looks at the batch and remembers
the metric; the others depend on the epoch alone. ``in_epochs`` names the options that count epochs:
they change where a run has another length.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

from erray.errors import UserError, did_you_mean
from erray.options import parse_options


@dataclass(frozen=True, slots=True)
class Schedule(ABC):
    """A learning rate for every step of a run."""

    in_epochs: ClassVar[tuple[str, ...]] = ()
    base_lr: float

    @abstractmethod
    def lr(self, epoch: int, batch: int = 0, num_batches: int = 1) -> float:
        """Rate of step ``batch`` of ``num_batches`` in ``epoch``."""

    def end_epoch(self, metric: float) -> None:  # noqa: B027 - most have nothing to remember
        """Tell the selection metric of the epoch that ended."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must give to ``load_state_dict``."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        assert not state, f"{type(self).__name__} has no state, found {sorted(state)}"


@dataclass(frozen=True, slots=True)
class Constant(Schedule):
    """base_lr."""

    def lr(self, epoch: int, batch: int = 0, num_batches: int = 1) -> float:
        return self.base_lr


@dataclass(frozen=True, slots=True)
class Step(Schedule):
    """base_lr * gamma^floor(epoch / step_size)."""

    in_epochs: ClassVar[tuple[str, ...]] = ("step_size",)
    gamma: float = 0.1
    step_size: int = 40

    def __post_init__(self) -> None:
        _check_positive(gamma=self.gamma, step_size=self.step_size)

    def lr(self, epoch: int, batch: int = 0, num_batches: int = 1) -> float:
        return self.base_lr * self.gamma ** (epoch // self.step_size)


@dataclass(frozen=True, slots=True)
class MyStep(Schedule):
    """``Step``, not below min_lr."""

    in_epochs: ClassVar[tuple[str, ...]] = ("step_size",)
    gamma: float = 0.1
    step_size: int = 40
    min_lr: float = 1e-7

    def __post_init__(self) -> None:
        _check_positive(gamma=self.gamma, step_size=self.step_size)

    def lr(self, epoch: int, batch: int = 0, num_batches: int = 1) -> float:
        return max(self.base_lr * self.gamma ** (epoch // self.step_size), self.min_lr)


@dataclass(frozen=True, slots=True)
class MultiStep(Schedule):
    """base_lr * gamma^(milestones passed); a milestone is passed in the epoch of its number."""

    in_epochs: ClassVar[tuple[str, ...]] = ("milestones",)
    gamma: float = 0.1
    milestones: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        _check_positive(gamma=self.gamma)
        if list(self.milestones) != sorted(self.milestones):
            raise UserError(f"milestones must ascend, found {list(self.milestones)}")

    def lr(self, epoch: int, batch: int = 0, num_batches: int = 1) -> float:
        return self.base_lr * self.gamma ** bisect_right(self.milestones, epoch)


@dataclass(frozen=True, slots=True)
class Cosine(Schedule):
    """min_lr + (base_lr - min_lr) (1 + cos(pi epoch / t_max)) / 2; rises again after t_max."""

    in_epochs: ClassVar[tuple[str, ...]] = ("t_max",)
    t_max: int = 100
    min_lr: float = 1e-7

    def __post_init__(self) -> None:
        _check_positive(t_max=self.t_max)

    def lr(self, epoch: int, batch: int = 0, num_batches: int = 1) -> float:
        wave = (1 + math.cos(math.pi * epoch / self.t_max)) / 2
        return self.min_lr + (self.base_lr - self.min_lr) * wave


@dataclass(frozen=True, slots=True)
class MyCosine(Schedule):
    """max(base_lr * coef (1 + cos((epoch - 1) pi / max_epochs)), min_lr)."""

    in_epochs: ClassVar[tuple[str, ...]] = ("max_epochs",)
    coef: float = 0.5
    max_epochs: int = 100
    min_lr: float = 1e-7

    def __post_init__(self) -> None:
        _check_positive(coef=self.coef, max_epochs=self.max_epochs)

    def lr(self, epoch: int, batch: int = 0, num_batches: int = 1) -> float:
        wave = 1 + math.cos((epoch - 1) * math.pi / self.max_epochs)
        return max(self.base_lr * self.coef * wave, self.min_lr)


@dataclass(slots=True)
class Plateau:
    """What ``MyWarmup`` remembers from one epoch to the next."""

    num_epochs: int = 0
    best: float | None = None
    num_bad_epochs: int = 0
    num_cuts: int = 0


@dataclass(frozen=True, slots=True)
class MyWarmup(Schedule):
    """A linear ramp over the first ``min_epochs`` epochs, then lower rates at plateaus.

    Step b of epoch r < min_epochs: base_lr (b + 1 + r * batches) / (min_epochs * batches). From
    then on base_lr, times ``factor`` whenever more than ``patience`` epochs in a row have not
    improved the best metric of the run, not below ``min_lr``. Epochs of the ramp set the best
    metric but are not counted as bad. A metric that is not a number is no improvement.
    """

    in_epochs: ClassVar[tuple[str, ...]] = ("min_epochs", "patience")
    min_epochs: int = 5
    factor: float = 0.5
    patience: int = 10
    min_lr: float = 1e-7
    mode: Literal["max", "min"] = "max"
    plateau: Plateau = field(default_factory=Plateau, init=False, repr=False)

    def __post_init__(self) -> None:
        _check_positive(min_epochs=self.min_epochs)
        if not 0 < self.factor < 1:
            raise UserError(f"factor must be between 0 and 1, found {self.factor}")
        if self.patience < 0:
            raise UserError(f"patience must not be negative, found {self.patience}")

    def lr(self, epoch: int, batch: int = 0, num_batches: int = 1) -> float:
        if epoch < self.min_epochs:
            step = batch + 1 + epoch * num_batches
            return self.base_lr * step / (self.min_epochs * num_batches)
        if self.plateau.num_cuts == 0:
            return self.base_lr
        return max(self.base_lr * self.factor**self.plateau.num_cuts, self.min_lr)

    def end_epoch(self, metric: float) -> None:
        plateau = self.plateau
        plateau.num_epochs += 1
        if self._improves(metric):
            plateau.best = metric
            plateau.num_bad_epochs = 0
        elif plateau.num_epochs > self.min_epochs:
            plateau.num_bad_epochs += 1
        if plateau.num_bad_epochs > self.patience:
            plateau.num_cuts += 1
            plateau.num_bad_epochs = 0

    def state_dict(self) -> dict[str, Any]:
        return asdict(self.plateau)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in asdict(self.plateau):
            setattr(self.plateau, name, state[name])

    def _improves(self, metric: float) -> bool:
        best = self.plateau.best
        if math.isnan(metric):
            return False
        return best is None or (metric > best if self.mode == "max" else metric < best)


SCHEDULES: dict[str, type[Schedule]] = {
    "constant": Constant,
    "step": Step,
    "mystep": MyStep,
    "multistep": MultiStep,
    "cosine": Cosine,
    "mycosine": MyCosine,
    "mywarmup": MyWarmup,
}


def make_schedule(name: str, lr: float, options: Mapping[str, Any]) -> Schedule:
    """Build the schedule ``name`` with the base rate ``lr``.

    Raises:
        UserError: an unknown schedule, an unknown option (valid ones listed) or a wrong value.
    """
    if name not in SCHEDULES:
        raise UserError(
            f"no schedule named {name!r}; expected one of: {', '.join(SCHEDULES)}"
            f"{did_you_mean(name, SCHEDULES)}"
        )
    owner = f"schedule {name}"
    return parse_options(SCHEDULES[name], options, owner=owner, given={"base_lr": lr})


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise UserError(f"{name} must be positive, found {value}")
