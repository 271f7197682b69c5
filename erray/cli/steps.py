"""A command for every step of a run; all take the same options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from erray.cli.display import print_json, print_line, results
from erray.cli.options import (
    DryRunOption,
    JsonOption,
    OutOption,
    OverrideOption,
    RecipeOption,
    open_flow,
    require_fit,
    resolve,
    show_plan,
)
from erray.cli.predict import predict
from erray.cli.recipe_file import RecipeFile
from erray.cli.repeat import REPEAT, repeat, show_repeat
from erray.cli.results import (
    show_ablation,
    show_extraction,
    show_model,
    show_prediction,
    show_report,
    show_runs,
    show_study,
    show_training,
    show_transcription,
)
from erray.config import Recipe

if TYPE_CHECKING:
    from erray.flow.context import Flow

Step = Callable[["Flow"], dict[str, Any]]
Show = Callable[[dict[str, Any]], None]
CompareOption = Annotated[
    Path | None,
    typer.Option(help="Folder of another run on the same test clips, to compare with."),
]

PIPELINE: dict[str, Show] = {
    "extract": show_extraction,
    "train": show_runs,
    "tune": show_study,
    "register": show_model,
    "predict": show_prediction,
    "report": show_report,
}
"""The steps of a pipeline in their order, and how each one's result is shown."""


def add_steps(app: typer.Typer) -> None:
    """Add the commands of this file to ``app``."""
    app.command("extract")(extract)
    app.command("predict")(predict)
    app.command("report")(report)
    for name, step, show, text in (
        ("transcribe", _transcribe, show_transcription, _TRANSCRIBE),
        ("train", _train, show_training, _TRAIN),
        ("tune", _tune, show_study, _TUNE),
        ("ablate", _ablate, show_ablation, _ABLATE),
        ("repeat", repeat, show_repeat, REPEAT),
        ("pipeline", _pipeline, _nothing, _PIPELINE),
    ):
        app.command(name, help=text)(_command(name, step, show))


_TRANSCRIBE = "Recognise the speech of clips whose words, or their times, are not known."
_TRAIN = "Train the fusion and each stream alone; register the model."
_TUNE = "Search the recipe's space, train the best settings, register what val prefers."
_ABLATE = "Train every subset of the streams; one table with intervals."
_PIPELINE = "Run all steps: extract, train, tune, register, predict, report."


def extract(
    recipe: RecipeOption,
    override: OverrideOption = None,
    out: OutOption = None,
    retry: bool = typer.Option(False, "--retry", help="Also run again what was rejected."),
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Find faces and compute the features of every clip; a rerun does only what is missing."""

    def step(flow: Flow) -> dict[str, Any]:
        from erray.flow.extract import extract_step

        return extract_step(flow, retry=retry)

    loaded, folder, file = resolve(recipe, override, out)
    if dry_run:
        show_plan(loaded, folder, ["extract"], as_json=as_json, retry=retry)
        return
    run_step("extract", step, show_extraction, loaded, folder, file, as_json, dry_run)


def report(
    recipe: RecipeOption,
    override: OverrideOption = None,
    out: OutOption = None,
    compare: CompareOption = None,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Write the run's page (report/index.html) and report/metrics.json."""

    def step(flow: Flow) -> dict[str, Any]:
        from erray.flow.report import report_step

        result = report_step(flow, compare=None if compare is None else str(compare))
        show_end(flow)
        return result

    run_step("report", step, show_report, *resolve(recipe, override, out), as_json, dry_run)


def run_step(
    name: str,
    step: Step,
    show: Show,
    recipe: Recipe,
    out: Path,
    file: RecipeFile,
    as_json: bool,
    dry_run: bool,
) -> None:
    """Run one step of a recipe, or show its plan; print its result."""
    steps = list(PIPELINE) if name == "pipeline" else [name]
    if dry_run:
        show_plan(recipe, out, steps, as_json=as_json)
        return
    with open_flow(recipe, out, steps, quiet=as_json, file=file) as flow:
        require_fit(flow, steps)
        result = step(flow)
    show(result)
    if as_json:
        print_json(result)


def show_step(name: str, result: dict[str, Any]) -> None:
    """Print the result of one step of a pipeline."""
    results.rule(f"[bold]{name}", align="left", style="dim")
    PIPELINE[name](result)


def show_end(flow: Flow) -> None:
    """The registered model, where the page is, how to see the runs."""
    model = flow.record.model
    if model is not None:
        print_line(
            f"\nModel:   [bold]models:/{model['name']}/{model['version']}[/] ({model['run']})"
        )
    print_line(f"Report:  [bold]{flow.out / 'report' / 'index.html'}[/]")
    print_line(f"Runs:    {flow.registry.ui_command()}")


def _command(name: str, step: Step, show: Show) -> Callable[..., None]:
    def command(
        recipe: RecipeOption,
        override: OverrideOption = None,
        out: OutOption = None,
        as_json: JsonOption = False,
        dry_run: DryRunOption = False,
    ) -> None:
        run_step(name, step, show, *resolve(recipe, override, out), as_json, dry_run)

    return command


def _transcribe(flow: Flow) -> dict[str, Any]:
    from erray.flow.transcribe import transcribe_step

    return transcribe_step(flow)


def _train(flow: Flow) -> dict[str, Any]:
    from erray.flow.registry import register_step
    from erray.flow.train import train_step

    return {"runs": train_step(flow), "model": register_step(flow)}


def _tune(flow: Flow) -> dict[str, Any]:
    from erray.flow.registry import register_step
    from erray.flow.tune import tune_step

    return {**tune_step(flow), "model": register_step(flow)}


def _ablate(flow: Flow) -> dict[str, Any]:
    from erray.flow.report import ablation
    from erray.flow.train import ablate_step

    return ablation(flow, ablate_step(flow))


def _pipeline(flow: Flow) -> dict[str, Any]:
    from erray.flow.pipeline import run_pipeline

    metrics = run_pipeline(flow, on_step=show_step)
    show_end(flow)
    return metrics


def _nothing(result: dict[str, Any]) -> None:
    """The pipeline has shown its steps as they ended."""
