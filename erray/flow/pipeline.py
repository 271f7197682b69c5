"""All steps in their order: from raw files to a registered model, predictions and the page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from erray import interrupt
from erray.flow.context import Flow
from erray.flow.extract import extract_step
from erray.flow.predict import predict_step
from erray.flow.registry import register_step
from erray.flow.report import report_step
from erray.flow.train import train_step
from erray.flow.tune import tune_step
from erray.ray_session import ray_session

StepCallback = Callable[[str, dict[str, Any]], None]

STEPS: dict[str, Callable[[Flow], dict[str, Any]]] = {
    "extract": extract_step,
    "train": train_step,
    "tune": tune_step,
    "register": register_step,
    "predict": predict_step,
    "report": report_step,
}


def run_pipeline(flow: Flow, *, on_step: StepCallback) -> dict[str, Any]:
    """Run every step, one Ray for all of them; a split that is not there is not predicted.

    Args:
        on_step: told each step's name and result when it is done.

    Returns:
        The report's metrics.
    """
    steps = dict(STEPS)
    if flow.recipe.predict.split not in {clip.split for clip in flow.clips}:
        del steps["predict"]
    result: dict[str, Any] = {}
    done: list[str] = []
    with ray_session(), interrupt.accounts():
        interrupt.account(lambda: f"{len(done)} of {len(steps)} steps")
        for name, step in steps.items():
            result = step(flow)
            done.append(name)
            on_step(name, result)
    return result
