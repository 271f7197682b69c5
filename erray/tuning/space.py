"""A search space: a file with a function that asks an Optuna trial for recipe settings."""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

import erray
from erray.config import Recipe, with_settings
from erray.errors import UserError, did_you_mean

OWN = "space."
"""Prefix of parameters that are no recipe keys: the space makes settings of them itself."""

_NAME = re.compile(r"[\w-]+")  # of a file in a folder: no separators, no dots
_SEARCHED = ("model.", "train.")
_FAULTS = (ImportError, SyntaxError, NameError, AttributeError, TypeError, ValueError, LookupError)
"""What code with a mistake raises."""
_FIXED = ("train.epochs", "train.patience", "train.select.", "train.percent.val")
"""What makes trials comparable, or is the search's own."""


@dataclass(frozen=True)
class Space:
    """A loaded space.

    Attributes:
        file: with the function ``space(trial)`` or ``space(trial, recipe)``.
    """

    file: Path
    function: Callable[..., Mapping[str, Any] | None]
    takes_recipe: bool

    @property
    def text(self) -> str:
        """The file's content."""
        return self.file.read_text(encoding="utf-8")

    def suggest(self, trial: optuna.Trial, recipe: Recipe) -> dict[str, Any]:
        """Ask for all parameters of a trial; return the recipe keys that it is trained with.

        These are the parameters but those named ``space.*``, and what the function returned.

        Raises:
            UserError: the settings and the recipe do not fit, or are of other sections than
                ``model`` and ``train``.
        """
        more = self.function(trial, recipe) if self.takes_recipe else self.function(trial)
        asked = {key: value for key, value in trial.params.items() if not key.startswith(OWN)}
        settings = asked | dict(more or {})
        other = [k for k in settings if not k.startswith(_SEARCHED) or k.startswith(_FIXED)]
        if other:
            raise UserError(
                f"{self.file.name} suggests {', '.join(sorted(other))}: a trial changes keys of "
                f"model and train alone, none of {', '.join(_FIXED)}; call the space's own "
                f"parameters {OWN}NAME"
            )
        with_settings(recipe, settings)
        return settings

    def draw(self, recipe: Recipe, *, seed: int) -> dict[str, Any]:
        """Return what a trial would be trained with, of a random draw that nobody remembers.

        Raises:
            UserError: as :meth:`suggest` does, or the function itself fails.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
        with _own_code(self.file):
            return self.suggest(study.ask(), recipe)


def load_space(name_or_file: str) -> Space:
    """Load the function ``space`` of a file: by name, or any file by a path that ends in ``.py``.

    A name is looked for in ``tune_spaces/`` below the working folder, then among the spaces that
    come with erray.

    Raises:
        UserError: no such space (those that there are listed), or a file without that function.
    """
    path = _space_file(name_or_file)
    spec = importlib.util.spec_from_file_location(f"tune_space_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    with _own_code(path):
        spec.loader.exec_module(module)
    function = getattr(module, "space", None)
    num_arguments = len(inspect.signature(function).parameters) if callable(function) else 0
    if function is None or num_arguments not in (1, 2):
        raise UserError(f"{path} has no function space(trial) or space(trial, recipe)")
    return Space(path, function, takes_recipe=num_arguments == 2)


def space_names() -> list[str]:
    """Names of the spaces that can be loaded here: the working folder's and those of erray."""
    return sorted({path.stem for folder in _folders() for path in folder.glob("*.py")})


@contextmanager
def _own_code(path: Path) -> Iterator[None]:
    """Turn what the code of a space's file raises into one line."""
    try:
        yield
    except UserError:
        raise
    except _FAULTS as error:
        inner = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
        number = error.lineno if isinstance(error, SyntaxError) else inner[-1].lineno
        detail = " ".join(str(error).split())
        raise UserError(f"{path}, line {number}: {type(error).__name__}: {detail}") from None


def _space_file(name_or_file: str) -> Path:
    expected = f"expected a .py file or one of: {', '.join(space_names()) or 'none found'}"
    if name_or_file.endswith(".py"):
        path = Path(name_or_file)
        if not path.is_file():
            raise UserError(f"no search space file {name_or_file}; {expected}")
        return path
    if not _NAME.fullmatch(name_or_file):
        raise UserError(f"{name_or_file!r} is no name of a search space; {expected}")
    for folder in _folders():
        if (folder / f"{name_or_file}.py").is_file():
            return folder / f"{name_or_file}.py"
    nearest = did_you_mean(name_or_file, space_names())
    raise UserError(f"no search space named {name_or_file!r}; {expected}{nearest}")


def _folders() -> list[Path]:
    """Where spaces lie by name: the user's, then erray's; a checkout has these beside erray/."""
    package = Path(erray.__file__).parent
    installed = package / "tune_spaces"
    ours = installed if installed.is_dir() else package.parent / "tune_spaces"
    return [Path.cwd() / "tune_spaces", ours]
