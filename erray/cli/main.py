"""The erray command: what a user or the system got wrong is one line and exit code 2.

Everything else keeps its traceback.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import typer

from erray import __version__
from erray.cli.compare import compare
from erray.cli.corpus import corpus_app
from erray.cli.demo import demo
from erray.cli.display import console, leave_output_to_json
from erray.cli.doctor import doctor
from erray.cli.faces import faces
from erray.cli.import_model import import_model
from erray.cli.registry import registry_app
from erray.cli.steps import add_steps
from erray.cli.submit import submit
from erray.cli.weights import weights_app
from erray.errors import UserError, refusal_line
from erray.interrupt import stoppable

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"erray {__version__}")
        raise typer.Exit


@app.callback()
def erray(
    version: bool = typer.Option(
        False, "--version", is_eager=True, callback=_show_version, help="Show the version and exit."
    ),
) -> None:
    """Videos of people to emotion predictions, from raw files to a registered model."""


app.command()(demo)
add_steps(app)
app.command()(compare)
app.command()(doctor)
app.command()(faces)
app.command()(submit)
app.command("import")(import_model)
app.add_typer(corpus_app, name="corpus")
app.add_typer(registry_app, name="registry")
app.add_typer(weights_app, name="weights")


@contextmanager
def guarded() -> Iterator[None]:
    """Turn a user's mistake, and what the system refuses, into one line and exit code 2."""
    try:
        yield
    except UserError as error:
        for line in str(error).splitlines():
            _say_error(line)
        sys.exit(2)
    except OSError as error:
        refused = refusal_line(error)
        if refused is None:
            raise
        _say_error(refused)
        sys.exit(2)


def _say_error(line: str) -> None:
    console.print("[bold red]error:[/] ", end="")
    console.print(line, soft_wrap=True, markup=False)


def _say_end(line: str) -> None:
    console.print(line, soft_wrap=True, markup=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exits with 2 after a user's mistake."""
    try:
        with guarded(), stoppable(_say_end):
            app(list(sys.argv[1:] if arguments is None else arguments))
    finally:
        leave_output_to_json(False)  # as this process may run another command
