"""Options of a named component (a model, a schedule, an encoder): a mapping made into its config.

A recipe holds such options as plain YAML because their fields depend on the component's name; here
they meet the component's frozen dataclass.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from erray.errors import UserError, did_you_mean

ConfigT = TypeVar("ConfigT")


def parse_options(
    cls: type[ConfigT],
    options: Mapping[str, Any],
    *,
    owner: str,
    given: Mapping[str, Any] | None = None,
) -> ConfigT:
    """Make the dataclass ``cls`` of ``options``; ``owner`` names the component in messages.

    ``given`` holds the fields that the caller decides and that are therefore no options. Types are
    checked strictly (no text for numbers), except that lists stand for tuples, as YAML and JSON
    have no tuples.

    Raises:
        UserError: an option that ``cls`` does not have (valid ones listed), or a wrong type or
            value.
    """
    assert dataclasses.is_dataclass(cls), cls
    given = given or {}
    valid = [f.name for f in dataclasses.fields(cls) if f.init and f.name not in given]
    unknown = sorted(set(options) - set(valid))
    if unknown:
        raise UserError(
            f"{owner} has no option {', '.join(map(repr, unknown))}; "
            f"valid options: {', '.join(valid) or 'none'}{did_you_mean(unknown[0], valid)}"
        )
    try:
        # through JSON because pydantic's strict mode takes lists for tuples only there
        return TypeAdapter(cls).validate_json(json.dumps({**options, **given}), strict=True)
    except ValidationError as error:
        raise UserError(f"{owner}: {'; '.join(map(_explain, error.errors()))}") from None
    except TypeError:
        raise UserError(f"{owner}: options must be plain numbers, text, lists, mappings") from None


def _explain(error: Any) -> str:
    message = error["msg"].removeprefix("Value error, ")
    where = ".".join(map(str, error["loc"]))
    if error["type"] == "missing":
        return f"{where} is missing"
    return f"{where}: {message}, found {error['input']!r}" if where else message
