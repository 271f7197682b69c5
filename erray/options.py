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

from erray.errors import UserError

ConfigT = TypeVar("ConfigT")


def parse_options(cls: type[ConfigT], options: Mapping[str, Any], *, owner: str) -> ConfigT:
    """Make the frozen dataclass ``cls`` of ``options``; ``owner`` names the component in messages.

    Types are checked strictly (no text for numbers), except that lists stand for tuples, as YAML
    and JSON have no tuples.

    Raises:
        UserError: an option that ``cls`` does not have (valid ones listed), or a wrong type or
            value.
    """
    assert dataclasses.is_dataclass(cls), cls
    valid = [field.name for field in dataclasses.fields(cls)]
    unknown = sorted(set(options) - set(valid))
    if unknown:
        raise UserError(
            f"{owner} has no option {', '.join(map(repr, unknown))}; "
            f"valid options: {', '.join(valid) or 'none'}"
        )
    try:
        # through JSON because pydantic's strict mode takes lists for tuples only there
        return TypeAdapter(cls).validate_json(json.dumps(dict(options)), strict=True)
    except ValidationError as error:
        raise UserError(f"{owner}: {'; '.join(map(_explain, error.errors()))}") from None
    except TypeError:
        raise UserError(f"{owner}: options must be plain numbers, text, lists, mappings") from None


def _explain(error: Any) -> str:
    message = error["msg"].removeprefix("Value error, ")
    if not error["loc"]:
        return message
    return f"{'.'.join(map(str, error['loc']))}: {message}, found {error['input']!r}"
