"""Recipes: what is packaged, what is refused, what an override does."""

import math
import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from erray.config import (
    Recipe,
    fingerprint,
    load_recipe,
    parse_recipe,
    recipe_names,
    with_settings,
)
from erray.errors import UserError


@pytest.mark.parametrize("name", recipe_names())
def test_packaged_recipes_are_valid_and_round_trip(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert parse_recipe(yaml.safe_load(yaml.safe_dump(recipe.model_dump()))) == recipe


def test_an_empty_file_is_the_default_recipe_with_the_files_name(tmp_path):
    (tmp_path / "mine.yaml").write_text("")
    assert load_recipe(str(tmp_path / "mine.yaml")) == Recipe(name="mine")


@pytest.mark.parametrize(
    ("override", "read", "value"),
    [
        ("train.optimiser.lr=1e-3", lambda r: r.train.optimiser.lr, 0.001),
        ("train.optimiser.lr=1", lambda r: r.train.optimiser.lr, 1),
        ("train.max_grad_norm=null", lambda r: r.train.max_grad_norm, None),
        ("corpus.root=/data/a=b", lambda r: r.corpus.root, "/data/a=b"),
        ("extract.pools.tracks.num_cpus=2", lambda r: r.extract.pools["tracks"].num_cpus, 2),
        ("streams={logmel: {}}", lambda r: list(r.streams), ["logmel"]),
        ("train.compile=true", lambda r: r.train.compile, True),
    ],
)
def test_an_override_sets_one_value(override, read, value):
    recipe = load_recipe("demo", [override])
    assert read(recipe) == value
    untouched = {"corpus", "extract", "train", "streams"} - {override.split(".")[0].split("=")[0]}
    for section in untouched:
        assert getattr(recipe, section) == getattr(load_recipe("demo"), section)


@pytest.mark.parametrize(
    ("corpus", "message"),
    [
        ({"kind": "meld", "manifest": "a.csv"}, "manifest is read by kind manifest only, not by m"),
        ({"annotations": "a"}, "annotations is read by kind meld, cexpr, cexpr-challenge only"),
        ({"kind": "cexpr-challenge", "protocol": "published"}, "protocol is read by kind manifest"),
        ({"kind": "meld", "fold": 1}, "fold is read by kind cexpr only, not by meld: remove it"),
        ({"num_folds": 3}, "num_folds is read by kind cexpr only, not by manifest"),
        ({"kind": "cexpr", "protocol": "published", "num_folds": 3}, "num_folds is not read under"),
        ({"protocol": "published", "holdout_share": 0.2}, "holdout_share is not read under"),
        ({"kind": "cexpr-challenge", "holdout_share": 0.2}, "holdout_share is read by kind manif"),
        ({"kind": "cexpr", "fold": 5}, "fold 5 must be below corpus.num_folds 5"),
        ({"kind": "meld", "labels": "cexpr7"}, "labels of kind meld must be one of basic7, found"),
        ({"kind": "cexpr", "labels": "basic7"}, "must be one of cexpr7, cexpr8, found 'basic7'"),
    ],
)
def test_a_setting_that_the_kind_does_not_read_is_refused(corpus, message):
    with pytest.raises(UserError, match=message):
        parse_recipe({"corpus": corpus})


@pytest.mark.parametrize(
    ("corpus", "labels"),
    [
        ({}, "cexpr7"),
        ({"labels": "basic7"}, "basic7"),
        ({"kind": "meld"}, "basic7"),
        ({"kind": "cexpr", "labels": "cexpr8", "fold": 4}, "cexpr8"),
        ({"kind": "cexpr", "protocol": "published", "fold": 9}, "cexpr7"),
        ({"kind": "cexpr-challenge", "annotations": "frames.txt"}, "cexpr7"),
    ],
)
def test_every_kind_has_a_label_set(corpus, labels):
    recipe = parse_recipe({"corpus": corpus})
    assert recipe.corpus.label_set.name == labels
    assert parse_recipe(recipe.model_dump()) == recipe


def test_later_overrides_win_and_another_name_drops_the_options():
    assert load_recipe("demo", ["seed=1", "seed=2"]).seed == 2
    assert load_recipe("demo").model.options["leader"] == "hog"
    assert load_recipe("demo", ["model.name=lfan"]).model == load_recipe("demo").model
    assert load_recipe("demo", ["model.name=other"]).model.options == {}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=3", r"unknown key train\.epoch; valid keys here: .*epochs, .*window"),
        ("trian.epochs=3", r"unknown key trian; valid keys here: corpus, extract, .*train"),
        ("train.optimiser.rate=1", r"unknown key train\.optimiser\.rate; .*momentum"),
        ("extract.pools.tracks.cpus=1", "valid keys here: num_cpus, num_gpus, num_workers"),
        ("train.epochs=many", r"train\.epochs: .*found 'many'"),
        ("train.epochs=1.5", r"train\.epochs: .*found 1\.5"),
        ("train.epochs=true", r"train\.epochs: .*found True"),
        ("train.epochs=0", r"train\.epochs: .*found 0"),
        ("train.optimiser.lr=.inf", r"train\.optimiser\.lr: .*finite"),
        ("train.optimiser.lr=.nan", r"train\.optimiser\.lr: .*found nan"),
        ("train.hop=500", r"train\.hop 500 must not exceed train\.window \d+"),
        ("corpus.labels=feelings", "must be one of basic7, cexpr7, cexpr8"),
        ("name=a/b", "name: .*found 'a/b'"),
        ("train.epochs", r"expected section\.key=value"),
        ("=3", r"expected section\.key=value"),
        ("train..epochs=3", r"expected section\.key=value"),
        ("train.epochs.more=3", r"train\.epochs is not a section"),
        ("train.epochs=[1", "not valid YAML"),
        ("name=2024-99-99", "not valid YAML"),
        ("train={1: 2}", "Keys should be strings"),
    ],
)
def test_a_wrong_override_is_one_clear_line(override, message):
    with pytest.raises(UserError, match=message) as caught:
        load_recipe("demo", [override])
    assert "\n" not in str(caught.value)


def test_a_value_of_several_types_has_a_line_for_each_with_its_own_key():
    with pytest.raises(UserError) as caught:
        load_recipe("demo", ["train.loss.class_weights=inverted"])
    lines = str(caught.value).split("\n")
    assert len(lines) == 2 and "'inverse' or 'effective'" in lines[0]
    assert all(line.startswith("demo: train.loss.class_weights: Input") for line in lines)
    with pytest.raises(UserError, match=r"unknown key train\.loss\.beta\[0\];"):
        load_recipe("demo", ["train.loss.beta[0]=1"])


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_override_is_taken_or_refused_as_a_users_mistake(key, value):
    try:
        assert isinstance(load_recipe("demo", [f"{key}={value}", f"seed={value}"]), Recipe)
    except UserError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- a\n- b\n", "expected sections, found list"),
        (b"train: [1\n", "is not valid YAML: .*line 2"),
        (b"when: 2024-99-99\n", "is not valid YAML"),
        (b"train: {epochs: !!python/object/apply:os.getcwd []}\n", "is not valid YAML"),
        (b"name: \xff\xfe\n", r"is not UTF-8 text \(byte 6\)"),
    ],
)
def test_a_wrong_file_is_one_clear_line(tmp_path, content, message):
    path = tmp_path / "wrong.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        load_recipe(str(path))
    assert "wrong.yaml" in str(caught.value) and "\n" not in str(caught.value)


def test_every_mistake_has_a_line_and_names_what_is_near(tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text("trian: {}\ntrain: {epoch: 3, optimiser: {name: adma}}\ncolour: red\n")
    with pytest.raises(UserError) as caught:
        load_recipe(str(path))
    by_key = {line.split("key ")[-1].split(";")[0]: line for line in str(caught.value).split("\n")}
    assert len(by_key) == 4 and all(line.startswith(f"{path}: ") for line in by_key.values())
    assert by_key["trian"].endswith("; did you mean train?")
    assert by_key["train.epoch"].endswith("; did you mean epochs?")
    assert "did you mean" not in by_key["colour"]
    (name,) = [line for line in by_key.values() if "train.optimiser.name" in line]
    assert name.endswith("found 'adma'; did you mean adam?")


@pytest.mark.parametrize(
    ("name", "message"),
    [("absent", "no recipe named 'absent'; .*demo"), ("absent.yaml", "no recipe file absent.yaml")],
)
def test_a_missing_recipe_lists_what_exists(name, message):
    with pytest.raises(UserError, match=message):
        load_recipe(name)


def test_settings_of_a_search_are_checked_like_a_recipe():
    recipe = load_recipe("demo", ["train.window=70"])
    changed = with_settings(recipe, {"train.window": 80, "model.options.leader": "logmel"})
    assert (changed.train.window, changed.model.options["leader"]) == (80, "logmel")
    assert (recipe.train.window, recipe.model.options["leader"]) == (70, "hog")
    with pytest.raises(UserError, match=r"unknown key train\.wndow"):
        with_settings(recipe, {"train.wndow": 80})


def test_a_name_resets_its_options_and_keeps_those_set_with_it():
    schedule = {"name": "mystep", "options": {"gamma": 0.5, "step_size": 3}}
    recipe = parse_recipe({"train": {"schedule": schedule}})
    name, option = "train.schedule.name", "train.schedule.options.max_epochs"
    assert with_settings(recipe, {name: "mycosine"}).train.schedule.options == {}
    assert with_settings(recipe, {name: "mystep"}) == recipe
    for settings in ({name: "mycosine", option: 20}, {option: 20, name: "mycosine"}):
        changed = with_settings(recipe, settings).train.schedule
        assert (changed.name, changed.options) == ("mycosine", {"max_epochs": 20})


def test_a_recipe_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        load_recipe("demo").seed = 3


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=3), json_values, min_size=1), json_values)
def test_a_fingerprint_follows_content_not_order(settings, other):
    backwards = dict(reversed(settings.items()))
    assert fingerprint(backwards) == fingerprint(settings)
    assert re.fullmatch("[0-9a-f]{16}", fingerprint(settings))
    changed = {**settings, next(iter(settings)): ["changed", other]}
    assert changed == settings or fingerprint(changed) != fingerprint(settings)


def test_a_fingerprint_does_not_change_between_versions():
    assert fingerprint({"b": [1, 2.5, None], "a": "ü"}) == "703dceec79c30480"
    assert fingerprint(math.pi) != fingerprint(str(math.pi))


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"repeat": {"seeds": []}}, "repeat.seeds: expected different numbers of 0 or more, found"),
        ({"repeat": {"seeds": [1, 1]}}, "repeat.seeds: expected different numbers"),
        ({"repeat": {"seeds": [-1]}}, "repeat.seeds: expected different numbers"),
        ({"repeat": {"folds": "some"}}, "repeat.folds: expected all, or different numbers of 0"),
        ({"repeat": {"folds": [0, 0]}}, "repeat.folds: expected all, or different numbers of 0"),
        ({"repeat": {"folds": "all"}}, "read by corpus.kind cexpr only, not by manifest: remove"),
        (
            {"corpus": {"kind": "cexpr", "num_folds": 3}, "repeat": {"folds": [0, 3]}},
            "repeat.folds has 3, expected folds below corpus.num_folds 3",
        ),
    ],
)
def test_seeds_and_folds_that_cannot_be_repeated_are_refused(sections, message):
    with pytest.raises(UserError, match=re.escape(message)):
        parse_recipe(sections)


def test_published_folds_are_those_of_the_files():
    corpus = {"kind": "cexpr", "protocol": "published"}
    recipe = parse_recipe({"corpus": corpus, "repeat": {"folds": [0, 7]}})
    assert recipe.repeat.folds == [0, 7]


@pytest.mark.parametrize("key", ["tune.storage", "tracking.uri"])
@pytest.mark.parametrize("password", ["SEC/RET", "SEC RET", "S@EC/RET"])
def test_a_password_that_is_not_encoded_is_refused_without_a_part_of_it(key, password):
    with pytest.raises(
        UserError, match=rf"{key}: expected a percent-encoded .*PGPASSWORD"
    ) as caught:
        load_recipe("demo", [f"{key}=postgresql://u:{password}@h/db"])
    message = str(caught.value)
    assert "\n" not in message and "SEC" not in message and "RET" not in message


@pytest.mark.parametrize("key", ["tune.storage", "tracking.uri"])
def test_an_encoded_password_is_taken(key):
    url = "postgresql://u:SEC%2FRET%20@h:5432/db"
    section, field = key.split(".")
    assert getattr(getattr(load_recipe("demo", [f"{key}={url}"]), section), field) == url


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tune.storage=postgres://u:SECRET@h/x", r"found 'postgres://\*\*\*@h/x'"),
        ("tune.storage=mysql://u:SECRET@h/x", r"found 'mysql://\*\*\*@h/x'"),
        ("tune.storage=[postgresql://u:SECRET@h/x]", r"postgresql://\*\*\*@h/x"),
        ("tune.num_trials=postgresql://u:a/SECRET@h/x", r"found \*\*\*"),
        ("tune.storage=postgresql://u:SECRET@h/x: : x", "not valid YAML"),
        ("tune.epochs.x=postgresql://u:a/SECRET@h/x", r"tune\.epochs is not a section"),
    ],
)
def test_what_is_found_is_shown_without_its_password(override, message):
    with pytest.raises(UserError, match=message) as caught:
        load_recipe("demo", [override])
    assert "SECRET" not in str(caught.value)


def test_a_broken_file_is_refused_without_its_password(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("tune: {storage: postgresql://u:SECRET@h/x: x: y")
    with pytest.raises(UserError, match="not valid YAML") as caught:
        load_recipe(str(path))
    assert "SECRET" not in str(caught.value)
