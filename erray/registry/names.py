"""Names of models and aliases, and the URIs made of them."""

from __future__ import annotations

import re

from erray.errors import UserError

_NAME = r"[A-Za-z0-9_][A-Za-z0-9_. -]*"
_URI = re.compile(rf"models:/(?P<name>{_NAME})(@(?P<alias>[\w-]+)|/(?P<version>[1-9][0-9]*))")


def parse_model_uri(model_uri: str) -> tuple[str, str | None, str]:
    """Name, alias and version number of ``models:/name@alias`` or ``models:/name/version``.

    The alias is None in the second form, the number empty in the first.

    Raises:
        UserError: another form.
    """
    match = _URI.fullmatch(model_uri)
    if match is None:
        raise UserError(f"model {model_uri!r}: expected models:/name@alias or models:/name/version")
    return match["name"], match["alias"], match["version"] or ""


def require_valid_names(model_name: str, alias: str) -> None:
    """Refuse a model name or alias that could not be registered, before hours of training.

    Raises:
        UserError: characters that ``models:/name@alias`` cannot hold, or a reserved alias.
    """
    require_valid_name(model_name)
    require_valid_alias(alias)


def require_valid_name(model_name: str) -> None:
    """Refuse a model name that ``models:/name`` cannot hold.

    Raises:
        UserError: other characters than those that are named.
    """
    if re.fullmatch(_NAME, model_name) is None:
        raise UserError(
            f"model name {model_name!r}: expected letters, digits, space, '_', '.' and '-'"
        )


def require_valid_alias(alias: str) -> None:
    """Refuse an alias that MLflow does not take.

    Raises:
        UserError: other characters than those that are named, or a reserved alias.
    """
    reserved = alias.lower() == "latest" or re.fullmatch(r"[vV]\d+", alias)
    if reserved or re.fullmatch(r"[A-Za-z0-9_-]+", alias) is None:
        raise UserError(
            f"alias {alias!r}: expected letters, digits, '_' and '-', not 'latest', not 'v1'"
        )
