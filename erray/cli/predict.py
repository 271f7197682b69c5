"""``erray predict``: a registered model over a corpus, or over videos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from erray.cli.display import print_json, print_plainly, say, table
from erray.cli.options import (
    DryRunOption,
    JsonOption,
    OutOption,
    OverrideOption,
    open_flow,
    require_fit,
    resolve,
    show_plan,
)
from erray.cli.results import show_prediction
from erray.config import Recipe, load_recipe
from erray.credentials import masked
from erray.errors import UserError
from erray.run_record import erray_home

if TYPE_CHECKING:
    from erray.flow.media_corpus import MediaFiles

MediaArgument = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[VIDEO]...", help="Videos, or folders of videos; left out: the recipe's corpus."
    ),
]
RecipeOfModelOption = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        "-r",
        help="Name of a packaged recipe, or a .yaml file; with videos, left out: the model's own.",
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(help="models:/NAME@ALIAS or models:/NAME/VERSION; left out: the recipe's."),
]
AnnotateOption = Annotated[
    bool,
    typer.Option("--annotate", help="Also write the videos with face, label and probabilities."),
]


def predict(
    media: MediaArgument = None,
    recipe: RecipeOfModelOption = None,
    model: ModelOption = None,
    annotate: AnnotateOption = False,
    override: OverrideOption = None,
    out: OutOption = None,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Predict a split of a corpus, or videos, with a registered model."""
    if media:
        _predict_media(media, recipe, model, annotate, override, out, as_json, dry_run)
        return
    if recipe is None:
        raise UserError("nothing to predict: give videos, or -r RECIPE for the recipe's corpus")
    if annotate:
        raise UserError("--annotate is for videos on the command line: give them, or leave it out")
    more = [] if model is None else [f"predict.model={json.dumps(model)}"]
    loaded, folder, file = resolve(recipe, [*(override or []), *more], out)
    if dry_run:
        show_plan(loaded, folder, ["predict"], as_json=as_json)
        return
    from erray.flow.predict import predict_step

    with open_flow(loaded, folder, ["predict"], quiet=as_json, file=file) as flow:
        require_fit(flow, ["predict"])
        result = predict_step(flow)
    show_prediction(result)
    if as_json:
        print_json(result)


def _predict_media(
    paths: list[Path],
    recipe: str | None,
    model: str | None,
    annotate: bool,
    override: list[str] | None,
    out: Path | None,
    as_json: bool,
    dry_run: bool,
) -> None:
    from erray.flow.media_corpus import MANIFEST, find_media, with_manifest
    from erray.flow.predict_video import predict_video_step

    files = find_media(paths)
    loaded, model_uri = _recipe_and_model(files, recipe, model, override)
    folder = (out or erray_home() / f"{loaded.name}-media").absolute()
    if dry_run:
        _show_media_plan(loaded, folder, files, model_uri, as_json=as_json)
        return
    with open_flow(with_manifest(loaded, folder), folder, ["predict"], quiet=as_json) as flow:
        files.write_manifest(folder / MANIFEST)
        require_fit(flow, ["predict"])
        result = predict_video_step(flow, model_uri, with_video=annotate)
    show_videos(result)
    if as_json:
        print_json(result)


def _recipe_and_model(
    files: MediaFiles, recipe: str | None, model: str | None, override: list[str] | None
) -> tuple[Recipe, str]:
    """The recipe for the media, and the model: each may come from the other."""
    from erray.flow.media_corpus import media_recipe, recipe_of_model, tracking_of
    from erray.registry import Registry

    if recipe is not None:
        data = load_recipe(recipe).model_dump(mode="json")
        loaded = media_recipe(data, override, files, source=recipe)
        named = f"models:/{loaded.tracking.model_name}@{loaded.tracking.alias}"
        return loaded, model or loaded.predict.model or named
    if model is None:
        raise UserError("no model: give --model models:/NAME@champion, or -r RECIPE that names one")
    tracking = tracking_of(override)
    registry = Registry(erray_home(), uri=tracking.uri, experiment=tracking.experiment)
    return recipe_of_model(registry, model, override, files), model


def _show_media_plan(
    recipe: Recipe, out: Path, files: MediaFiles, model_uri: str, *, as_json: bool
) -> None:
    from erray.flow.preflight import refuse_mistakes
    from erray.plan import Plan

    refuse_mistakes(recipe, ["predict"])
    description: dict[str, Any] = {
        "recipe": masked(recipe.model_dump(mode="json")),
        "out": str(out),
        "steps": ["predict"],
        "model": model_uri,
        "media": list(files.media.values()),
        "stages": {
            name: {"fingerprint": found} for name, found in Plan(recipe).fingerprints.items()
        },
    }
    if as_json:
        print_json(description)
        return
    typer.echo(yaml.safe_dump(description, sort_keys=False, allow_unicode=True), nl=False)
    say("[dim]dry run: nothing was touched")


def show_videos(result: dict[str, Any]) -> None:
    """The emotion of every video with its confidence and what comes next; the files."""
    model, rule = result["model"], result["pair_rule"]
    rows = []
    for video in result["videos"]:
        ranked = sorted(video["probabilities"].items(), key=lambda item: -item[1])
        second = next((name, value) for name, value in ranked if name != video["predicted"])
        share = "" if video["face_share"] is None else f"{video['face_share']:.0%}"
        rows.append(
            [
                Path(video["video"]).name,
                video["predicted"],
                f"{video['confidence']:.0%}",
                f"{second[0]} {second[1]:.0%}",
                f"{video['seconds']:.1f} s",
                share,
            ]
        )
    pairs = f", the {rule} of two basic emotions" if rule else ""
    columns = ["video", "emotion", "confidence", "next", "length", "face seen"]
    table(f"{model['name']} version {model['version']}{pairs}", columns, rows)
    for name, reason in result["rejected"].items():
        print_plainly(f"not predicted: {name}: {reason}")
    for video in result["videos"]:
        if "annotated" in video:
            print_plainly(f"Annotated: {video['annotated'] or 'no pictures in ' + video['video']}")
    print_plainly(f"Files:     {result['out']}")
