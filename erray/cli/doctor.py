"""What a run would find: this machine, the services it uses, and what to do where it fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Annotated

import typer
from rich.text import Text

from erray.cli import doctor_machine as machine
from erray.cli.display import print_hanging, print_json
from erray.cli.doctor_machine import FAILURE, OK, WARNING, Check
from erray.cli.options import JsonOption, OverrideOption
from erray.config import Recipe, load_recipe

_STYLES = {OK: "green", WARNING: "yellow", FAILURE: "red"}

RecipeToCheck = Annotated[
    str | None,
    typer.Option("--recipe", "-r", help="Also check what this recipe needs and where it writes."),
]
ClusterOption = Annotated[
    str | None,
    typer.Option("--address", help="A cluster to check; if left out, RAY_API_SERVER_ADDRESS."),
]


def doctor(
    recipe: RecipeToCheck = None,
    override: OverrideOption = None,
    address: ClusterOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check this machine and its services: each line ok, warning or failure with what to do.

    The exit code is that of the worst line: 1 for a failure, else 0.
    """
    loaded = load_recipe(recipe, override) if recipe is not None else None
    checks = []
    for run_check in _checks(loaded, address):
        checks.append(run_check())
        if not as_json:
            _show(checks[-1])
    if as_json:
        print_json({"checks": [asdict(check) for check in checks]})
    if any(check.state == FAILURE for check in checks):
        raise typer.Exit(1)


def _checks(recipe: Recipe | None, address: str | None) -> Iterator[Callable[[], Check]]:
    from erray.cli import doctor_services as services

    yield machine.check_python
    yield machine.check_packages
    yield machine.check_gpu
    yield machine.check_decoder
    yield machine.check_detector
    yield machine.check_weights
    if recipe is not None:
        yield lambda: services.check_recipe(recipe)
    yield machine.check_home
    yield machine.check_disk
    yield lambda: services.check_storage(recipe.extract.tables if recipe else None)
    yield lambda: services.check_cluster(address)
    yield lambda: services.check_tracking(recipe.tracking.uri if recipe else None)


def _show(check: Check) -> None:
    lead = Text.assemble((f"{check.state:<8}", _STYLES[check.state]), f" {check.name:<9} ")
    print_hanging(lead, f"{check.found} - {check.advice}" if check.advice else check.found)
