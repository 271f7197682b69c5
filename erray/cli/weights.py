"""Commands about pretrained weights: list, fetch, check. Nothing else ever fetches any."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from erray.cli.display import console, print_json, print_line, print_plainly, wrapped_table
from erray.cli.options import JsonOption

weights_app = typer.Typer(help="Pretrained weights of encoders: list, fetch, check.")

NamesArgument = Annotated[list[str] | None, typer.Argument(help="names; none: all")]


@weights_app.callback()
def weights() -> None:
    """Pretrained weights of encoders: list, fetch, check."""


@weights_app.command("list")
def list_weights(as_json: JsonOption = False) -> None:
    """Show every model of the manifest: who reads it, its licence, whether it is there."""
    from erray.encoders.weights import manifest, weights_dir

    there = {
        one.name: all((weights_dir() / file.file).is_file() for file in one.files)
        for one in manifest().values()
    }
    rows = [
        [one.name, one.used_by, _there(there[one.name], fetch=one.can_be_fetched), one.licence]
        for one in manifest().values()
    ]
    print_plainly(f"weights in {weights_dir()}")
    columns = ["name", "used by", "there", "licence"]
    wrapped_table(columns, [[Text(cell) for cell in row] for row in rows])
    entries = [
        {
            "name": one.name,
            "used_by": one.used_by,
            "there": there[one.name],
            "can_be_fetched": one.can_be_fetched,
            "licence": one.licence,
        }
        for one in manifest().values()
    ]
    if as_json:
        print_json({"folder": str(weights_dir()), "weights": entries})


@weights_app.command()
def fetch(names: Annotated[list[str], typer.Argument(help="names, as `list` shows them")]) -> None:
    """Fetch weights, resuming what was begun, and check their hashes."""
    from erray.encoders.fetch import fetch as fetch_weights
    from erray.encoders.weights import find_weights

    for entry in [find_weights(name) for name in names]:
        with console.status(f"fetching {entry.name}") as status:
            came = fetch_weights(
                entry,
                on_bytes=lambda file, num: status.update(f"fetching {file}: {num / 1e6:.0f} MB"),
            )
        for path in came:
            print_plainly(f"fetched and checked {path}")
        if not came:
            print_line(f"{entry.name} is there already")


@weights_app.command()
def check(names: NamesArgument = None, as_json: JsonOption = False) -> None:
    """Hash the files that are there. Exit code 2 where one is not the manifest's."""
    from erray.encoders.weights import ALTERED, find_weights, manifest

    entries = [find_weights(name) for name in names or manifest()]
    states = {file: state for entry in entries for file, state in entry.states().items()}
    for file, state in states.items():
        print_plainly(f"{state:>13}  {file}")
    if as_json:
        print_json(states)
    if ALTERED in states.values():
        raise typer.Exit(2)


def _there(there: bool, *, fetch: bool) -> str:
    if there:
        return "yes"
    return "no" if fetch else "by path"
