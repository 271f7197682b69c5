"""``erray import``: a published checkpoint to a registered model and its recipe."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from erray.cli.display import print_json, print_line, print_plainly
from erray.cli.options import JsonOption, OutOption, OverrideOption, open_flow
from erray.run_record import erray_home

CheckpointArgument = Annotated[Path, typer.Argument(help="The published model.pt.")]
ConfigOption = Annotated[Path, typer.Option("--config", help="The config.yml beside it.")]
BaseRecipeOption = Annotated[
    str | None,
    typer.Option("--recipe", "-r", help="Recipe of its features; left out: made of the config."),
]
NameOption = Annotated[
    str | None, typer.Option(help="Name in the registry; left out: the recipe's.")
]
AliasOption = Annotated[str | None, typer.Option(help="Alias; left out: the recipe's.")]
NormaliserOption = Annotated[
    str | None,
    typer.Option(
        help="train: mean and std of the recipe's extracted train split; none: features as they "
        "are. Left out: train, or none where the published run had calc_mean_std False."
    ),
]


def import_model(
    checkpoint: CheckpointArgument,
    config: ConfigOption,
    recipe: BaseRecipeOption = None,
    override: OverrideOption = None,
    out: OutOption = None,
    name: NameOption = None,
    alias: AliasOption = None,
    normaliser: NormaliserOption = None,
    as_json: JsonOption = False,
) -> None:
    """Register a published checkpoint as a model; write the recipe that predicts with it."""
    from erray.config import with_settings
    from erray.flow.import_model import Import, import_step
    from erray.importing import imported_recipe, read_checkpoint, read_config

    options = read_config(config)
    given = Import(read_checkpoint(checkpoint), options, recipe is None, normaliser)
    made = imported_recipe(options, given.checkpoint, source=recipe, overrides=override)
    named = {"tracking.model_name": name, "tracking.alias": alias}
    made = with_settings(made, {key: value for key, value in named.items() if value is not None})
    folder = (out or erray_home() / made.name).absolute()
    with open_flow(made, folder, ["register"], quiet=as_json) as flow:
        result = import_step(flow, given)
    show_import(result, predict_command(result["recipe"], out))
    if as_json:
        print_json(result)


def show_import(result: dict[str, Any], next_command: str) -> None:
    """The registered model, what config.yml said without effect, the next step."""
    streams = ", ".join(f"{name} ({width})" for name, width in result["streams"].items())
    alias = f" as {result['alias']}" if result["alias"] else ""
    print_line(
        f"Registered [bold]{result['name']}[/] version [bold]{result['version']}[/]"
        f"{alias}: {result['model']} over {streams}, {len(result['classes'])} classes, "
        f"normaliser {result['normaliser']}"
    )
    if result["not_taken"]:
        print_plainly(f"Options without effect here: {_by_reason(result['not_taken'])}")
    print_plainly(f"Next:  {next_command}")


def predict_command(recipe: str, out: Path | None) -> str:
    """The command that predicts with the recipe that was written."""
    parts = ["erray", "predict", "-r", recipe]
    return shlex.join([*parts, "--out", str(out)] if out else parts)


def _by_reason(not_taken: dict[str, str]) -> str:
    names: dict[str, list[str]] = {}
    for name, reason in not_taken.items():
        names.setdefault(reason, []).append(name)
    return "; ".join(f"{', '.join(group)} ({reason})" for reason, group in names.items())
