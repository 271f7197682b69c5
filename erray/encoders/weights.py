"""Pretrained weights: one manifest of files with their hashes, looked up and read with care.

Nothing here opens a connection; ``erray.encoders.fetch`` does, when a person asks for it. A file of
the manifest is used only if its sha256 is the manifest's. A file that a recipe gives by its path is
the user's own: its hash enters the fingerprint of its stream, its path never does. Torch files go
through torch's ``weights_only`` reader, after the hash was checked: what is in them cannot run.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from erray.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

# What torch's reader raises on damaged files, by experiment (tests/faults).
_UNREADABLE = (
    pickle.UnpicklingError,
    RuntimeError,
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    struct.error,
)

_PARALLEL = "module."  # what torch's DataParallel puts before names

MISSING, INTACT, ALTERED, UNKNOWN = "missing", "intact", "altered", "no known hash"


@dataclass(frozen=True)
class WeightsFile:
    """One file of the manifest; see the head of ``weights.yaml``."""

    file: str
    source: str | None
    sha256: str | None
    num_bytes: int | None


@dataclass(frozen=True)
class Weights:
    """The files of one model; a model of several files is a folder."""

    name: str
    licence: str
    used_by: str
    files: tuple[WeightsFile, ...]

    @property
    def path(self) -> Path:
        """The file, or the folder where there are several, whether or not it is there."""
        first = weights_dir() / self.files[0].file
        return first if len(self.files) == 1 else first.parent

    @property
    def can_be_fetched(self) -> bool:
        """Every file has a source, and a hash to check it by."""
        return all(file.source and file.sha256 for file in self.files)

    def states(self) -> dict[str, str]:
        """File to ``missing``, ``intact``, ``altered`` or ``no known hash``; hashes what is there.

        An altered file is never ``missing``: it may be somebody's own.
        """
        return {file.file: state_of(file) for file in self.files}


def weights_dir() -> Path:
    """``$ERRAY_WEIGHTS``, else ``~/.cache/erray/weights``."""
    given = os.environ.get("ERRAY_WEIGHTS")
    return Path(given) if given else Path.home() / ".cache" / "erray" / "weights"


@cache
def manifest() -> dict[str, Weights]:
    """Every model of the manifest by name."""
    text = (resources.files("erray.encoders") / "weights.yaml").read_text(encoding="utf-8")
    return {
        name: Weights(
            name,
            entry["licence"],
            entry["used_by"],
            tuple(WeightsFile(**file) for file in entry["files"]),
        )
        for name, entry in yaml.safe_load(text).items()
    }


def find_weights(name: str) -> Weights:
    """Return the manifest's entry.

    Raises:
        UserError: no such name; the valid ones are listed.
    """
    if name not in manifest():
        raise UserError(f"expected weights named {', '.join(manifest())}, found {name!r}")
    return manifest()[name]


def resolve(name: str) -> Path:
    """Return the checked file of a model, or its folder where it has several files.

    Raises:
        UserError: a file that is missing or altered, with the command that fetches it; or weights
            that a recipe must give by path, because no hash of them is known.
    """
    weights = find_weights(name)
    if not weights.can_be_fetched:
        source = weights.files[0].source
        where = f"download {source} yourself and " if source else ""
        raise UserError(f"weights {name} have no known hash: {where}give the path of the file")
    for file, state in weights.states().items():
        if state != INTACT:
            raise UserError(
                f"weights {name}: {weights_dir() / file} is {state}; "
                f"expected the file that `erray weights fetch {name}` gets"
            )
    return weights.path


def path_of(weights: str) -> Path:
    """Return the checked file of a name in the manifest, or the file that a path leads to.

    Raises:
        UserError: neither; or see :func:`resolve`.
    """
    if weights in manifest():
        return resolve(weights)
    path = Path(weights)
    if not path.is_file():
        raise UserError(
            f"no weights at {weights}: expected a file, or one of {', '.join(manifest())}, which "
            f"`erray weights fetch NAME` gets"
        )
    return path


def state_of(file: WeightsFile) -> str:
    """``missing``, ``intact``, ``altered`` or ``no known hash``."""
    path = weights_dir() / file.file
    if not path.is_file():
        return MISSING
    if file.sha256 is None:
        return UNKNOWN
    return INTACT if sha256_of(path) == file.sha256 else ALTERED


def sha256_of(path: Path) -> str:
    """Return the file's sha256; a file that has not changed is read once per process."""
    stat = path.stat()
    return _hashed(path, (stat.st_ino, stat.st_size, stat.st_mtime_ns))


def read_torch(path: Path, sha256: str) -> Mapping[str, Tensor]:
    """Return the tensors by name of a file that ``torch.save`` wrote, on the CPU.

    They may lie below one key, ``state_dict`` or ``model``, and have ``module.`` before every name,
    as a training loop on several GPUs leaves them.

    Raises:
        UserError: another hash than ``sha256`` (the file has changed since it was checked), or a
            file that holds more than named tensors; nothing in it is run.
    """
    import torch  # noqa: PLC0415 a plan needs the hash alone

    if sha256_of(path) != sha256:
        raise UserError(f"{path} has changed since it was checked: expected sha256 {sha256[:16]}")
    try:
        # files of before torch 1.6 are no archives, they cannot be mapped
        content = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except _UNREADABLE as error:
        reason = " ".join(str(error).split(". ")[0].split())[:200] or "it ends early"
        raise UserError(f"{path} is not read: expected named tensors alone ({reason})") from None
    if isinstance(content, Mapping) and content.keys() in ({"state_dict"}, {"model"}):
        (content,) = content.values()
    if not isinstance(content, Mapping) or not all(
        isinstance(name, str) and isinstance(x, torch.Tensor) for name, x in content.items()
    ):
        raise UserError(f"{path}: expected named tensors, found {type(content).__name__}")
    if content and all(name.startswith(_PARALLEL) for name in content):
        return {name.removeprefix(_PARALLEL): x for name, x in content.items()}
    return content


def check_tensors(path: Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are not exactly the expected ones by name and shape.

    Raises:
        UserError: names the first that differ.
    """
    missing = sorted(expected.keys() - found.keys())
    unknown = sorted(found.keys() - expected.keys())
    if missing or unknown:
        raise UserError(
            f"{path} holds other weights: {len(missing)} tensors missing "
            f"({', '.join(missing[:2])}), {len(unknown)} unknown ({', '.join(unknown[:2])})"
        )
    for name, x in expected.items():
        if x.shape != found[name].shape:
            raise UserError(
                f"{path}: expected {name} of shape {list(x.shape)}, found {list(found[name].shape)}"
            )


@lru_cache(maxsize=64)
def _hashed(path: Path, version: tuple[int, int, int]) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
