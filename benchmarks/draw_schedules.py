"""Draw the six schedules, and a ramp in front of one, into docs/images.

    .venv/bin/python benchmarks/draw_schedules.py

Rates are those that the loop applies, asked from the schedules step by step.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from erray.config import parse_recipe
from erray.training.warmup import run_schedule

HERE = Path(__file__).parent
LR, EPOCHS, STEPS = 1e-3, 100, 8
PANELS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("step", {"gamma": 0.5, "step_size": 20}),
    ("mystep", {"gamma": 0.5, "step_size": 20, "min_lr": 2e-4}),
    ("multistep", {"gamma": 0.5, "milestones": [30, 50, 80]}),
    ("cosine", {"t_max": 100, "min_lr": 1e-4}),
    ("mycosine", {"max_epochs": 100, "min_lr": 1e-4}),
    ("mywarmup", {"min_epochs": 10, "factor": 0.5, "patience": 10, "min_lr": 1e-4}),
)
LAST_BETTER = 25
"""In the panel of mywarmup no epoch after this one is better than it."""


def rates(name: str, options: Mapping[str, Any], *, warmup_epochs: int = 0) -> list[float]:
    """Rate of every step of a run, in thousandths."""
    train = {
        "schedule": {"name": name, "options": dict(options)},
        "optimiser": {"lr": LR},
        "warmup_epochs": warmup_epochs,
    }
    schedule, found = run_schedule(parse_recipe({"train": train}).train), []
    for epoch in range(EPOCHS):
        found += [schedule.lr(epoch, step, STEPS) for step in range(STEPS)]
        schedule.end_epoch(min(epoch, LAST_BETTER) / EPOCHS)
    return [1e3 * rate for rate in found]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs/images/schedules.png")
    out = parser.parse_args().out
    figure, axes = plt.subplots(2, 3, figsize=(9.6, 4.6), sharex=True, sharey=True)
    epochs = np.arange(EPOCHS * STEPS) / STEPS
    for axis, (name, options) in zip(axes.flat, PANELS, strict=True):
        axis.plot(epochs, rates(name, options), color="#1f4e79", linewidth=1.6, zorder=3)
        if name == "cosine":
            ramp = rates(name, options, warmup_epochs=10)
            axis.plot(epochs, ramp, color="#c55a11", linewidth=1.2, linestyle="--", zorder=2)
            axis.text(99, 0.93, "dashed: warmup_epochs 10", color="#c55a11", ha="right", size=8)
        if name == "mywarmup":
            axis.axvline(LAST_BETTER, color="0.6", linewidth=0.8)
            axis.text(LAST_BETTER + 1, 0.02, "last better epoch", color="0.4", size=7)
        text = ", ".join(f"{option} {value}" for option, value in options.items())
        axis.text(0, 1.2, name, transform=axis.transAxes, size=10, fontweight="bold")
        axis.text(0, 1.06, text, transform=axis.transAxes, size=7, color="0.35")
        axis.set_ylim(0, 1.08 * LR * 1e3)
        axis.set_xlim(0, EPOCHS)
        axis.grid(color="0.92")
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("rate, thousandths")
    for axis in axes[1]:
        axis.set_xlabel("epoch")
    figure.tight_layout()
    figure.savefig(out, dpi=150)
    print(out)


if __name__ == "__main__":
    main()
