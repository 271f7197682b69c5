"""The demo: builds its corpus, then runs the whole flow on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from erray.cli.display import print_json, say
from erray.cli.options import (
    DryRunOption,
    JsonOption,
    OverrideOption,
    open_flow,
    require_fit,
    show_plan,
)
from erray.cli.steps import PIPELINE, show_end, show_step
from erray.config import load_recipe, with_settings
from erray.run_record import erray_home


def demo(
    override: OverrideOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Put everything, the tracking store too, under this folder."),
    ] = None,
    recipe: Annotated[
        str, typer.Option("--recipe", "-r", help="Recipe to run on the demo corpus.")
    ] = "demo",
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Build the demo corpus and run everything on it: video to registered model to report."""
    home = out.absolute() if out else erray_home()
    folder = home / "demo" if out is None else home
    loaded = load_recipe(recipe, override)
    if not loaded.corpus.root:
        loaded = with_settings(loaded, {"corpus.root": str(folder / "corpus")})
    if dry_run:
        show_plan(loaded, folder, ["corpus", *PIPELINE], as_json=as_json, corpus_to_come=True)
        return
    from erray.demo.corpus import build_demo_corpus
    from erray.flow.pipeline import run_pipeline

    with open_flow(loaded, folder, PIPELINE, quiet=as_json, home=home) as flow:
        say("[bold]erray demo[/]: building the corpus (nothing is downloaded)")
        with flow.record.time("corpus"):
            build_demo_corpus(Path(loaded.corpus.root), seed=loaded.seed)
        require_fit(flow, PIPELINE)
        metrics = run_pipeline(flow, on_step=show_step)
        show_end(flow)
    if as_json:
        print_json(metrics)
