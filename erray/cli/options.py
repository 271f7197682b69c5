"""Options that every step's command has, and what they open.

The command imports torch, Ray and MLflow where a step needs them: ``--help`` waits for none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from erray.cli.display import leave_output_to_json, print_json, say, say_plainly
from erray.cli.progress import extraction_display
from erray.cli.recipe_file import RecipeFile
from erray.cli.training_progress import training_display
from erray.config import Recipe, load_recipe
from erray.credentials import masked
from erray.run_record import erray_home

if TYPE_CHECKING:
    from erray.corpora import CorpusClips
    from erray.flow.context import Flow
    from erray.plan import Plan

RecipeOption = Annotated[
    str, typer.Option("--recipe", "-r", help="Name of a packaged recipe, or a .yaml file.")
]
OverrideOption = Annotated[
    list[str] | None,
    typer.Option("-o", "--set", metavar="KEY=VALUE", help="Override, e.g. -o train.epochs=5."),
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", help="Folder of the run; if left out, the recipe's own in ERRAY_HOME."),
]
JsonOption = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print the result as one JSON object on standard output.",
        callback=leave_output_to_json,
    ),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Print the resolved recipe and the plan; touch nothing.")
]


def resolve(
    recipe: str, overrides: list[str] | None, out: Path | None
) -> tuple[Recipe, Path, RecipeFile]:
    """Load the recipe with its overrides; choose the run's folder; say which file it was.

    Raises:
        UserError: the folder of its name holds the run of another recipe.
    """
    loaded = load_recipe(recipe, overrides)
    file = RecipeFile.of(recipe, corpus_root=loaded.corpus.root)
    folder = (out or erray_home() / loaded.name).absolute()
    if out is None:
        file.require_own(folder)
    return loaded, folder, file


@contextmanager
def open_flow(
    recipe: Recipe,
    out: Path,
    steps: Collection[str],
    *,
    quiet: bool,
    home: Path | None = None,
    file: RecipeFile | None = None,
) -> Iterator[Flow]:
    """Yield the run in ``out`` with a live display; nobody else writes to it then.

    The folder then holds the run of the recipe in ``file``, where there is one.

    Before that all that ``steps`` will make of the recipe is made without data.

    Args:
        quiet: say nothing of how far extractions, trainings and searches are.

    Raises:
        UserError: what is wrong with the recipe, a line each; another process writes to the folder.
    """
    from erray.flow.preflight import refuse_mistakes

    refuse_mistakes(recipe, steps)
    from erray.flow.context import Flow  # with Ray, seconds later
    from erray.store import hold

    with extraction_display() as progress, training_display() as training:
        flow = Flow(recipe, out, home or erray_home(), say=say_plainly)
        if not quiet:
            flow = replace(flow, progress=progress, training=training, on_trial=training.trial)
        with hold(out):
            line = None if file is None else file.take(out)
            if line is not None:
                say_plainly(line)
            yield flow


def require_fit(flow: Flow, steps: Collection[str]) -> None:
    """See that the corpus has what ``steps`` want of it, and say what is odd.

    Raises:
        UserError: what cannot work, a line each.
    """
    from erray.flow.preflight import USING_CLIPS, refuse_unfit

    if USING_CLIPS & set(steps):
        refuse_unfit(flow.recipe, flow.corpus, steps, say=flow.say)


def show_plan(
    recipe: Recipe,
    out: Path,
    steps: list[str],
    *,
    as_json: bool,
    retry: bool = False,
    corpus_to_come: bool = False,
) -> None:
    """What would run: the resolved recipe, fingerprints, and clips per stage still to do.

    ``corpus_to_come``: the corpus may not be there yet, and is then not counted.
    """
    from erray.flow.corpus import recipe_corpus
    from erray.flow.preflight import refuse_mistakes, refuse_unfit
    from erray.plan import Plan

    refuse_mistakes(recipe, steps)
    plan, findings = Plan(recipe), []
    counts: dict[str, dict[str, int]] = {}
    holdout = ""
    if not corpus_to_come or Path(recipe.corpus.root or "?").is_dir():
        corpus = recipe_corpus(recipe, out, touch=False)
        findings = refuse_unfit(recipe, corpus, steps, say=say_plainly)
        counts, holdout = _pending(plan, corpus, out, retry=retry)
    description: dict[str, Any] = {
        "recipe": masked(recipe.model_dump(mode="json")),
        "out": str(out),
        "steps": steps,
        "holdout": holdout,
        "stages": {
            name: {"fingerprint": print_, **counts.get(name, {})}
            for name, print_ in plan.fingerprints.items()
        },
        "findings": [asdict(finding) for finding in findings],
    }
    if as_json:
        print_json(description)
        return
    typer.echo(yaml.safe_dump(description, sort_keys=False, allow_unicode=True), nl=False)
    say("[dim]dry run: nothing was touched")


def _pending(
    plan: Plan, corpus: CorpusClips, out: Path, *, retry: bool
) -> tuple[dict[str, dict[str, int]], str]:
    """Clips wanted and pending by stage, and what of val is set apart.

    What one stage rejected is not wanted of the next.
    """
    from erray.media import limits_print
    from erray.plan import TRACKS, pending
    from erray.records import REJECTED
    from erray.store import RunFolder

    clips = corpus.clips
    status, limits = RunFolder.of(plan.recipe, out).status, limits_print(plan.limits)
    counts = {}
    for stage in (TRACKS, *plan.modalities):
        wanted = plan.wanted(stage, clips)
        states = status.states(plan.fingerprints[stage], limits=limits)
        todo = pending(wanted, states, retry=retry)
        counts[stage] = {"wanted": len(wanted), "pending": len(todo)}
        if stage == TRACKS:
            refused = {key for key, state in states.items() if state == REJECTED} - set(todo)
            clips = [clip for clip in clips if plan.key(stage, clip) not in refused]
    return counts, corpus.holdout
