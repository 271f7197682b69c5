"""``erray registry``: the versions of registered models, and which of them an alias names."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from erray.cli.compare import MetricName, MetricOption, RuleOption, show_comparison
from erray.cli.display import print_hanging, print_json, print_line, print_plainly, table
from erray.cli.options import JsonOption
from erray.errors import UserError
from erray.run_record import erray_home

if TYPE_CHECKING:
    from erray.registry import Registry

registry_app = typer.Typer(help="Model versions: list, show, compare, promote, roll back.")

UriOption = Annotated[
    str | None, typer.Option("--uri", help="MLflow tracking URI; left out: sqlite in ERRAY_HOME.")
]
AliasOption = Annotated[str, typer.Option(help="Alias that names a version.")]
VersionArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="models:/name/version or models:/name@alias.")
]
_LEFT_OUT = ("erray.artifact_path", "mlflow.")


@registry_app.callback()
def registry() -> None:
    """Model versions: list, show, compare, promote, roll back."""


@registry_app.command("list")
def list_versions(
    name: Annotated[str | None, typer.Argument(help="a model; none: all")] = None,
    uri: UriOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the versions of one model, or of all: aliases, val scores, runs."""
    store = _store(uri)
    names = [name] if name else store.model_names()
    found = [version for name in names for version in store.versions(name)]
    rows = [
        [v.uri, ", ".join(v.aliases), _date(v.made_s), _val_f1(v.tags), v.tags.get("erray.run", "")]
        for v in found
    ]
    if rows:
        table("Versions", ["model", "aliases", "registered", "val weighted F1", "run"], rows)
    else:
        print_line("no model is registered")
    if as_json:
        print_json({"versions": [asdict(version) for version in found]})


@registry_app.command()
def show(
    what: Annotated[
        str,
        typer.Argument(
            metavar="MODEL|RUN", help="models:/name/version, models:/name@alias, or runs:/id."
        ),
    ],
    uri: UriOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a version was made of, or the versions that were made of a run."""
    from erray.flow.registry import describe, describe_run

    store = _store(uri)
    if what.startswith("runs:/"):
        result = describe_run(store, what.removeprefix("runs:/"))
        _show_run(result["run"], "run")
        for made in result["versions"]:
            print_plainly(f"version:  models:/{made['name']}/{made['version']}{_named(made)}")
        if not result["versions"]:
            print_line("version:  none was made of it")
    else:
        result = describe(store, store.find(what))
        _show_version(result)
    if as_json:
        print_json(result)


@registry_app.command()
def promote(
    model: VersionArgument,
    alias: AliasOption = "champion",
    metric: Annotated[MetricName, typer.Option(help="Score of the clips.")] = "weighted_f1",
    force: Annotated[bool, typer.Option("--force", help="Move it without being better.")] = False,
    why: Annotated[str | None, typer.Option(help="Reason for --force; it is kept.")] = None,
    uri: UriOption = None,
    as_json: JsonOption = False,
) -> None:
    """Move an alias to a version that is better on the same holdout; exit code 2 if it is not."""
    from erray.flow.promotion import promote as promote_version
    from erray.flow.promotion import told

    if force != bool(why):
        raise UserError("--force and --why REASON go together: the reason is kept with the model")
    store = _store(uri)
    decision = promote_version(store, store.find(model), alias, metric=metric, forced=why)
    if decision.move is None and alias not in decision.version.aliases:
        raise UserError(told(decision))
    print_hanging(Text(), told(decision))
    if as_json:
        print_json(asdict(decision))


@registry_app.command()
def compare(
    first: VersionArgument,
    second: VersionArgument,
    metric: MetricOption = None,
    rule: RuleOption = None,
    uri: UriOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two versions on the holdout that they keep, or on val where neither keeps one."""
    from erray.flow.promotion import compare_versions
    from erray.metrics import METRICS

    store = _store(uri)
    a, b = store.find(first), store.find(second)
    names = [metric] if metric else list(METRICS)
    judged = compare_versions(store, a, b, metrics=names, rule=rule)
    result = {
        "a": a.uri,
        "b": b.uri,
        "split": judged.split,
        "chosen_by": list(judged.seen),
        "left_out": [0, 0],
        **asdict(judged.found),
    }
    show_comparison(result)
    for version, seen in zip((a, b), judged.seen, strict=True):
        if seen:
            print_line(f"optimistic for {version.called}: {seen} of these clips chose its epoch")
    if as_json:
        print_json(result)


@registry_app.command()
def rollback(
    name: Annotated[str, typer.Argument(help="a model")],
    why: Annotated[str, typer.Option(help="The reason; it is kept.")],
    alias: AliasOption = "champion",
    uri: UriOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let an alias name again what it named before its last promotion."""
    from erray.flow.promotion import roll_back

    move = roll_back(_store(uri), name, alias, why=why)
    print_plainly(f"{name} version {move.to} is {alias} again, before version {move.before}: {why}")
    if as_json:
        print_json(asdict(move))


def _store(uri: str | None) -> Registry:
    from erray.registry import Registry

    if uri is None and not (erray_home() / "mlflow.db").is_file():
        raise UserError(
            f"no tracking store in {erray_home()}: `erray train -r RECIPE` makes one; or set "
            f"ERRAY_HOME to the folder that holds mlflow.db, or pass --uri"
        )
    return Registry(erray_home(), uri=uri)


def _show_version(result: dict[str, Any]) -> None:
    print_plainly(f"models:/{result['name']}/{result['version']}{_named(result)}")
    print_plainly(f"registered {_date(result['made_s'])}")
    for key in sorted(result["tags"]):
        if not key.startswith(_LEFT_OUT):
            print_plainly(f"  {key.removeprefix('erray.')}: {result['tags'][key]}")
    for title in ("run", "parent_run"):
        if result[title] is not None:
            _show_run(result[title], title.replace("_", " "))
    for move in result["moves"]:
        before = f" from version {move['before']}" if move["before"] else ""
        print_hanging(
            Text("  "),
            f"{move['when']} {move['alias']} to version {move['to']}{before} by {move['who']} "
            f"({move['how']}): {move['why']}",
        )


def _show_run(run: dict[str, Any], title: str) -> None:
    print_plainly(f"{title}: runs:/{run['run_id']} {run['name']!r}, {run['status'].lower()}")
    if run["commit"]:
        print_plainly(f"  commit: {run['commit']}")
    for key in sorted(run["tags"]):
        print_plainly(f"  {key.removeprefix('erray.')}: {run['tags'][key]}")


def _named(version: dict[str, Any]) -> str:
    return f" ({', '.join(version['aliases'])})" if version["aliases"] else ""


def _date(made_s: float) -> str:
    return datetime.fromtimestamp(made_s, UTC).strftime("%Y-%m-%d %H:%M")


def _val_f1(tags: dict[str, str]) -> str:
    score = tags.get("metric.val_weighted_f1")
    return "" if score is None else f"{float(score):.3f}"
