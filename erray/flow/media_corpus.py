"""Media files that belong to no corpus: as a manifest, and with the recipe that fits a model."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from erray.config import Recipe, Tracking, parse_recipe
from erray.corpora.media_root import FILM_SUFFIXES, clip_ids, resolve_media
from erray.errors import UserError
from erray.registry import Registry
from erray.store import write_csv

SPLIT = "media"
MANIFEST = "manifest.csv"


@dataclass(frozen=True)
class MediaFiles:
    """Files to predict.

    Attributes:
        root: the folder that holds all of them.
        media: clip id to path below ``root``, both with slashes.
    """

    root: Path
    media: dict[str, str]

    def write_manifest(self, path: Path) -> None:
        """Write them as the manifest of a corpus; a clip is a whole file."""
        rows = [[clip_id, name, SPLIT] for clip_id, name in self.media.items()]
        write_csv(path, ["clip_id", "media", "split"], rows)


def find_media(paths: Iterable[Path]) -> MediaFiles:
    """Return the files that ``paths`` name: files as they are, the films below folders.

    Clips are named after their file, by as much of its path as tells them apart.

    Raises:
        UserError: a path that is not there, a folder without films, a name that is not UTF-8.
    """
    files: set[Path] = set()
    for path in paths:
        if path.is_dir():
            below = [p for p in path.rglob("*") if p.suffix.lower() in FILM_SUFFIXES]
            found = {p.resolve() for p in below if p.is_file()}
            if not found:
                kinds = ", ".join(FILM_SUFFIXES)
                raise UserError(f"{path} holds no video: expected files that end in {kinds}")
            files |= found
        elif path.is_file():
            files.add(path.resolve())
        else:
            raise UserError(f"no file or folder {str(path)!r}: give videos or folders of videos")
    assert files, "no paths"
    root = Path(os.path.commonpath([path.parent for path in files]))
    names = [path.relative_to(root).as_posix() for path in sorted(files)]
    for name in names:
        resolve_media(str(root), name)
    return MediaFiles(root, dict(zip(clip_ids(names), names, strict=True)))


def tracking_of(overrides: Sequence[str] | None) -> Tracking:
    """The tracking section that overrides alone make: where a model is looked for."""
    own = [text for text in overrides or () if text.strip().startswith("tracking.")]
    return parse_recipe({}, overrides=own).tracking


def recipe_of_model(
    registry: Registry, model_uri: str, overrides: Sequence[str] | None, files: MediaFiles
) -> Recipe:
    """The recipe that a model was trained with, for other media.

    It comes from the run that made the version. Tables that its extraction shared with others are
    not used: they stay as they are.

    Raises:
        UserError: no such model, or its run keeps no recipe.
    """
    version = registry.find(model_uri)
    parent = registry.run_facts(version.run_id).parent
    for run_id in (version.run_id, parent):
        data = None if run_id is None else registry.read_dict(run_id, "recipe.json")
        if data is not None:
            break
    else:
        raise UserError(
            f"{model_uri}: its run {version.run_id} keeps no recipe.json: give the recipe that it "
            f"was trained with, -r RECIPE"
        )
    data["extract"] |= {"tables": None}
    data["tracking"] = tracking_of(overrides).model_dump()
    return media_recipe(data, overrides, files, source=model_uri)


def media_recipe(
    data: dict[str, Any], overrides: Sequence[str] | None, files: MediaFiles, *, source: str
) -> Recipe:
    """The recipe ``data`` with ``files`` in place of its corpus, and with ``overrides``.

    Of the corpus only its clock and its label set are kept.

    Raises:
        UserError: what a recipe refuses, and overrides that name another corpus.
    """
    before = parse_recipe(data, source=source).corpus
    corpus = {
        "kind": "manifest",
        "root": str(files.root),
        "labels": before.label_set.name,
        "clock_hz": before.clock_hz,
    }
    data = data | {"corpus": dict(corpus)}  # overrides change it in place
    data["repeat"] = data.get("repeat", {}) | {"folds": None}
    data["predict"] = data.get("predict", {}) | {"split": SPLIT}
    for name in ("frame_list", "submission"):
        data["predict"].pop(name, None)
    recipe = parse_recipe(data, source=source, overrides=list(overrides or ()))
    for key in ("kind", "root", "manifest"):
        if getattr(recipe.corpus, key) != corpus.get(key, MANIFEST):
            raise UserError(f"-o corpus.{key}: the videos on the command line are the corpus")
    if recipe.predict.split != SPLIT or recipe.predict.frame_list is not None:
        raise UserError("predict.split and predict.frame_list need a corpus: leave them out")
    return recipe


def with_manifest(recipe: Recipe, out: Path) -> Recipe:
    """The recipe with the manifest of :meth:`MediaFiles.write_manifest` in ``out``."""
    corpus = recipe.corpus.model_copy(update={"manifest": str(out / MANIFEST)})
    return recipe.model_copy(update={"corpus": corpus})
