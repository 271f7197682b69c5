"""The reference pages against the code: every key, option and column, and nothing else."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml

from erray import records
from erray.config import Recipe, Section, parse_recipe
from erray.encoders import ENCODERS
from erray.models import MODELS
from erray.records import Stream, tensor_columns
from erray.store import RunFolder
from erray.training.schedules import SCHEDULES

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
SCHEMAS = {
    "clips": records.CLIP_SCHEMA,
    "status and rejects": records.STATUS_SCHEMA,
    "tracks": records.TRACK_SCHEMA,
    "crops": records.CROP_SCHEMA,
    "transcripts": records.TRANSCRIPT_SCHEMA,
    "features": records.FEATURE_SCHEMA,
    "predictions": records.PREDICTION_SCHEMA,
}
SET_BY_FILE = "name"  # its default is the file's name


def rows(text):
    """Cells of the table rows whose first cell is one name in backticks."""
    lines = re.findall(r"^\| (`[^`|]+` \|.*) \|$", text, flags=re.MULTILINE)
    return [[cell.strip() for cell in line.split(" | ")] for line in lines]


def section(page, heading):
    """Text below a heading of level two, up to the next."""
    text = (DOCS / page).read_text("utf-8")
    flags = re.MULTILINE | re.DOTALL | re.IGNORECASE
    found = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, flags=flags)
    assert found, f"{page} has no section {heading}"
    return found[1]


def plain(value):
    """A default as YAML would read it."""
    if isinstance(value, tuple):
        return list(value)
    return value


def config_keys(model, prefix=""):
    """Dotted key to default of every field below a section."""
    found = {}
    for name, field in model.model_fields.items():
        kind, key = field.annotation, prefix + name
        if isinstance(kind, type) and issubclass(kind, Section):
            found |= config_keys(kind, f"{key}.")
            continue
        inner = getattr(kind, "__args__", (None,))[-1]
        if isinstance(inner, type) and issubclass(inner, Section):
            found |= config_keys(inner, f"{key}.<stage>.")
        else:
            found[key] = field.get_default(call_default_factory=True)
    return found


def options(cls, *, without=()):
    """Field to default of a config dataclass."""
    fields = [f for f in dataclasses.fields(cls) if f.init and f.name not in without]
    return {f.name: plain(f.default) for f in fields}


def documented(cells):
    """Key to default of rows with key, default and meaning."""
    return {key.strip("`"): yaml.safe_load(default.strip("`")) for key, default, _ in cells}


def test_recipes_md_has_every_key_with_its_default():
    expected = config_keys(Recipe)
    for name, encoder in ENCODERS.items():
        expected |= {f"streams.{name}.{k}": v for k, v in options(encoder.config_type).items()}
    found = documented(rows(section("recipes.md", "Every key").split("Schedules, with")[0]))
    found |= documented(rows(section("recipes.md", "Every key").split("### tune")[1]))
    assert found.keys() == expected.keys()
    del found[SET_BY_FILE], expected[SET_BY_FILE]
    assert found == expected


def test_encoders_md_has_every_encoder_with_what_it_is():
    found = {cells[0].strip("`"): cells for cells in rows(section("encoders.md", "All encoders"))}
    assert found.keys() == ENCODERS.keys()
    for name, encoder in ENCODERS.items():
        _, modality, values, _, weights, licence, parameters, *_ = found[name]
        assert modality == encoder.modality
        if "model" in options(encoder.config_type):  # as wide as the model, which is not here
            assert values.startswith("the model's")
        else:
            assert values == str(encoder().width)
        has_none = vars(encoder).get("weights_sha256", "computed") is None
        assert (weights == "none") == has_none == (licence == "none") == (parameters == "0")
        stated = (encoder.licence or "none").split(" ")[0].strip(";")
        assert stated in licence


def test_recipes_md_has_every_schedule_with_its_options():
    text = section("recipes.md", "Every key").split("Schedules, with")[1].split("### tune")[0]
    found = {name.strip("`"): yaml.safe_load(given.strip("`")) for name, _, given in rows(text)}
    expected = {name: options(cls, without=["base_lr"]) for name, cls in SCHEDULES.items()}
    assert found == expected


@pytest.mark.parametrize("name", MODELS)
def test_models_md_has_every_option_with_its_default(name):
    text = section("models.md", name)
    assert documented(rows(text)) == options(MODELS[name].config_class)


@pytest.mark.parametrize("page", ["recipes.md", "corpora.md", "../README.md"])
def test_recipes_on_the_pages_are_recipes(page):
    blocks = re.findall(r"```yaml\n(.*?)```", (DOCS / page).read_text("utf-8"), flags=re.DOTALL)
    assert blocks
    for block in blocks:
        parse_recipe(yaml.safe_load(block))


@pytest.mark.parametrize("name", SCHEMAS)
def test_tables_md_has_every_column_with_its_type(name):
    found = {column.strip("`"): type_ for column, type_, _ in rows(section("tables.md", name))}
    assert found == {field.name: type_name(field.type) for field in SCHEMAS[name]}


def type_name(type_):
    if pa.types.is_struct(type_):
        return f"struct<{', '.join(field.name for field in type_)}>"
    return f"list<{type_name(type_.value_type)}>" if pa.types.is_list(type_) else str(type_)


def test_the_snippet_reads_what_the_store_writes(tmp_path, capsys):
    stream = Stream(np.arange(6, dtype=np.float32).reshape(3, 2), np.array([True, False, True]))
    row = {
        "clip_id": "a",
        "key": "k",
        "present": stream.present_T.tolist(),
        **tensor_columns(stream.values_TD),
    }
    run = RunFolder(str(tmp_path / "runs" / "demo"))
    run.features("hog", "0123456789abcdef").write_shard([row], keys=["k"])
    snippet = re.search(r"```python\n(.*?)```", section("tables.md", "features"), flags=re.DOTALL)
    assert "runs/demo" in snippet[1]
    names = {}
    exec(snippet[1].replace("runs/demo", f"{tmp_path}/runs/demo"), names)
    assert np.array_equal(names["x_TD"], stream.values_TD)
    assert np.array_equal(names["present_T"], stream.present_T)
    assert capsys.readouterr().out.split()[:4] == ["a", "(3,", "2)", "67%"]


def links():
    pages = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *DOCS.glob("*.md")]
    pages.append(REPOSITORY / "benchmarks" / "README.md")
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
            if "://" not in target:
                yield page, target


@pytest.mark.parametrize(("page", "target"), links(), ids=lambda value: Path(value).name)
def test_links_between_pages_lead_somewhere(page, target):
    assert (page.parent / target).exists()


def test_files_that_the_pages_name_are_there():
    pages = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *DOCS.glob("*.md")]
    named = {
        name
        for page in pages
        for name in re.findall(
            r"`((?:erray|tests|jobs|tune_spaces|docs|benchmarks)/[\w/.]*)`", page.read_text("utf-8")
        )
    }
    missing = sorted(name for name in named if not (REPOSITORY / name).exists())
    assert named and not missing
