"""A recipe from a file or by name, with overrides; and the name of any settings by content."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from erray.config.recipe import Recipe
from erray.config.section import Section
from erray.credentials import has_unencoded_credentials, without_credentials
from erray.errors import UserError, did_you_mean

RECIPES = "erray.recipes"


class _Loader(yaml.SafeLoader):
    """YAML as people expect it: 1e-3 is a number (YAML 1.1 takes it for a string)."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def load_recipe(name_or_file: str, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe by the name of a packaged one or by path, apply ``section.key=value``.

    Raises:
        UserError: no such recipe, YAML that is not a mapping, an unknown key, a wrong type.
    """
    return parse_recipe(_read_yaml(name_or_file), source=name_or_file, overrides=overrides)


def parse_recipe(
    data: dict[str, Any], *, source: str = "recipe", overrides: list[str] | None = None
) -> Recipe:
    """Apply ``section.key=value`` to ``data``, check it against the sections.

    Raises:
        UserError: an unknown key (valid ones listed) or a wrong type or value.
    """
    for override in overrides or []:
        _apply(data, override)
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise UserError("\n".join(f"{source}: {_explain(e)}" for e in error.errors())) from None


def with_settings(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe:
    """Return ``recipe`` with dotted keys such as ``train.window`` set to new values.

    Their order does not matter: a new name drops the options of the old one, never those given
    with it.

    Raises:
        UserError: an unknown key or a wrong value.
    """
    data = recipe.model_dump()
    names_first = sorted(settings.items(), key=lambda item: not item[0].endswith(".name"))
    for key, value in names_first:
        _set(data, key.split("."), value, source=key)
    return parse_recipe(data, source=recipe.name)


def recipe_names() -> list[str]:
    """Names of the recipes that come with erray."""
    files = resources.files(RECIPES).iterdir()
    return sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml"))


def fingerprint(settings: Any) -> str:
    """Return 16 hex digits that name ``settings`` (anything JSON can hold) by content."""
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _read_yaml(name_or_file: str) -> dict[str, Any]:
    path = Path(name_or_file)
    if path.suffix in {".yaml", ".yml"}:
        if not path.is_file():
            raise UserError(
                f"no recipe file {name_or_file}: give an existing .yaml file, or one of: "
                f"{', '.join(recipe_names())}"
            )
        text, default_name = _read_text(path), path.stem
    else:
        if name_or_file not in recipe_names():
            raise UserError(
                f"no recipe named {name_or_file!r}; expected a .yaml file or one of: "
                f"{', '.join(recipe_names())}{did_you_mean(name_or_file, recipe_names())}"
            )
        text = (resources.files(RECIPES) / f"{name_or_file}.yaml").read_text(encoding="utf-8")
        default_name = name_or_file
    try:
        data = yaml.load(text, _Loader) or {}
    except (yaml.YAMLError, ValueError) as error:
        detail = without_credentials(" ".join(str(error).split()))
        raise UserError(f"{name_or_file} is not valid YAML: {detail}") from None
    if not isinstance(data, dict):
        raise UserError(f"{name_or_file}: expected sections, found {type(data).__name__}")
    data.setdefault("name", default_name)
    return data


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start})") from None


def _apply(data: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    hidden = has_unencoded_credentials(override)
    shown = f"-o {f'{path}=***' if hidden else without_credentials(override)!r}"
    if not equals or not all(keys):
        raise UserError(f"{shown}: expected section.key=value")
    try:
        value = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError):  # ValueError: a date such as 2024-99-99
        raise UserError(f"{shown}: the value is not valid YAML") from None
    _set(data, keys, value, source=shown)


def _set(data: dict[str, Any], keys: list[str], value: Any, *, source: str) -> None:
    target = data
    for i, key in enumerate(keys[:-1]):
        if target.get(key) is None:
            target[key] = {}
        target = target[key]
        if not isinstance(target, dict):
            raise UserError(f"{source}: {'.'.join(keys[: i + 1])} is not a section")
    if keys[-1] == "name" and "options" in target and target.get("name") != value:
        target["options"] = {}  # options belong to a name
    target[keys[-1]] = value


def _explain(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        valid = _valid_keys(error["loc"])
        nearest = did_you_mean(str(error["loc"][-1]), valid)
        return f"unknown key {where}; valid keys here: {', '.join(valid)}{nearest}"
    # where several types are allowed there is a line for each: "list[...]" is no key of a recipe
    where = ".".join(str(part) for part in error["loc"] if "[" not in str(part))
    message = error["msg"].removeprefix("Value error, ")
    found = "" if error["type"] == "value_error" else f", found {_shown(error['input'])}"
    if error["type"] == "literal_error":
        found += did_you_mean(str(error["input"]), re.findall("'([^']+)'", message))
    return f"{where}: {message}{found}" if where else f"{message}{found}"


def _shown(value: Any) -> str:
    return "***" if has_unencoded_credentials(str(value)) else without_credentials(repr(value))


def _valid_keys(loc: tuple[int | str, ...]) -> list[str]:
    section: Any = Recipe
    for part in loc[:-1]:
        if isinstance(section, type) and issubclass(section, Section):
            section = section.model_fields[str(part)].annotation
        else:  # a dict of sections, such as extract.pools
            section = section.__args__[1]
    return sorted(section.model_fields)
