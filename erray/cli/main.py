"""The erray command: a user's mistake is one line and exit code 2, everything else a traceback."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from erray.cli.demo import demo
from erray.cli.display import console
from erray.cli.doctor import doctor
from erray.cli.steps import add_steps
from erray.errors import UserError

app = typer.Typer(
    help="Videos of people to emotion predictions, from raw files to a registered model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(demo)
add_steps(app)
app.command()(doctor)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exits with 2 after a user's mistake."""
    try:
        app(list(sys.argv[1:] if arguments is None else arguments))
    except UserError as error:
        console.print(f"[bold red]error:[/] {error}", soft_wrap=True, markup=True)
        sys.exit(2)
