"""Media files on the command line: which they are, what they are called, the recipe they get."""

from __future__ import annotations

from pathlib import Path

import pytest

from erray.config import load_recipe
from erray.corpora.manifest import read_manifest
from erray.errors import UserError
from erray.flow.media_corpus import (
    MANIFEST,
    SPLIT,
    find_media,
    media_recipe,
    recipe_of_model,
    tracking_of,
    with_manifest,
)
from erray.plan import Plan
from erray.registry import Registry


@pytest.fixture
def films(tmp_path: Path) -> Path:
    root = tmp_path / "films"
    for name in ("a.mp4", "b.MOV", "deep/a.mp4", "deep/a.webm", "deep/notes.txt", "c.wav"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def test_a_folder_gives_its_films_and_a_file_is_taken_as_it_is(films):
    found = find_media([films, films / "c.wav", films / "a.mp4"])
    assert found.root == films.resolve()
    names = ["a.mp4", "b.MOV", "c.wav", "deep/a.mp4", "deep/a.webm"]
    assert found.media == {name: name for name in names}, "two differ by suffix alone"
    (films / "deep" / "a.webm").unlink()
    assert set(find_media([films]).media) == {"a", "b", "deep/a"}, "two share a stem"
    assert set(find_media([films / "b.MOV", films / "deep"]).media) == {"a", "b"}


def test_a_link_is_the_file_that_it_leads_to(films, tmp_path):
    link = tmp_path / "elsewhere" / "link.mp4"
    link.parent.mkdir()
    link.symlink_to(films / "deep" / "a.mp4")
    found = find_media([link, films / "a.mp4"])
    assert found.root == films.resolve() and set(found.media) == {"a", "deep/a"}


@pytest.mark.parametrize(
    ("path", "message"), [("absent.mp4", "no file or folder"), ("empty", "holds no video")]
)
def test_paths_that_give_nothing_are_refused(tmp_path, path, message):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        find_media([tmp_path / path])


def test_the_manifest_is_one_that_the_reader_takes(films, tmp_path):
    files = find_media([films])
    files.write_manifest(tmp_path / "out" / MANIFEST)
    recipe = media_recipe(load_recipe("demo").model_dump(), [], files, source="demo")
    corpus = read_manifest(with_manifest(recipe, tmp_path / "out").corpus)
    assert {clip.clip_id: clip.media for clip in corpus.clips} == files.media
    assert {(clip.split, clip.label, clip.transcript) for clip in corpus.clips} == {
        (SPLIT, None, None)
    }


@pytest.mark.parametrize("name", ["demo", "meld_lfan", "cexpr_lfan"])
def test_the_recipe_keeps_what_features_and_model_depend_on(films, name, tmp_path):
    base = load_recipe(name, [f"corpus.root={tmp_path}", "streams={hog: {}, logmel: {}}"])
    found = media_recipe(base.model_dump(), [], find_media([films]), source=name)
    assert Plan(found).fingerprints == Plan(base).fingerprints
    assert found.corpus.label_set == base.corpus.label_set
    assert found.corpus.kind == "manifest" and found.predict.split == SPLIT
    assert found.predict.frame_list is None


def test_options_are_laid_over_it(films):
    options = ["corpus.labels=basic7", "predict.smoothing.kind=box", "extract.shard_clips=2"]
    data = load_recipe("demo").model_dump()
    found = media_recipe(data, options, find_media([films]), source="demo")
    assert found.corpus.label_set.name == "basic7"
    assert (found.predict.smoothing.kind, found.extract.shard_clips) == ("box", 2)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("corpus.root=/elsewhere", "the videos on the command line are the corpus"),
        ("corpus.manifest=mine.csv", "the videos on the command line are the corpus"),
        ("predict.split=test", "need a corpus"),
        ("predict.frame_list=frames.txt", "need a corpus"),
    ],
)
def test_options_that_name_another_corpus_are_refused(films, option, message):
    data = load_recipe("demo").model_dump()
    with pytest.raises(UserError, match=message):
        media_recipe(data, [option], find_media([films]), source="demo")


def test_the_store_is_named_by_the_options_alone():
    found = tracking_of(["train.epochs=3", "tracking.uri=http://host:5000", "tracking.alias=best"])
    assert (found.uri, found.alias) == ("http://host:5000", "best")
    assert tracking_of(None).uri is None


def test_the_recipe_of_a_model_is_its_runs_or_that_of_the_run_above(films, tmp_path):
    registry = Registry(tmp_path / "home", experiment="t")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text("{}")
    settings = load_recipe("demo", ["extract.tables=/shared/tables"]).model_dump(mode="json")
    above = registry.start_run("above")
    registry.log_dict(above, settings, "recipe.json")
    below = registry.start_run("below", parent=above)
    for run in (above, below, registry.start_run("alone")):
        registry.register(run, tmp_path / "model", model_name="m")
    files = find_media([films])
    for version in (1, 2):
        found = recipe_of_model(registry, f"models:/m/{version}", ["train.epochs=3"], files)
        assert (found.name, found.train.epochs) == ("demo", 3)
        assert found.extract.tables is None and found.corpus.root == str(files.root)
    with pytest.raises(UserError, match=r"keeps no recipe\.json: give the recipe"):
        recipe_of_model(registry, "models:/m/3", [], files)
