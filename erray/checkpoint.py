"""Models and training states on disk: written whole or not at all, checked before they are read.

A model is a folder of three files: ``model.safetensors`` (weights, normalisers included),
``model.json`` (a ``ModelDescription`` and the sha256 of the weights) and ``SHA256SUMS`` (of both,
as ``sha256sum -c`` reads it). A training state is one file. Nothing here ever unpickles freely:
weights are safetensors, states go through torch's ``weights_only`` reader.

The hashes tell damage from intact files; they are no signature.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import pickle
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

import erray
from erray.errors import UserError
from erray.labels import LABEL_SETS
from erray.metrics import CLIP_RULES
from erray.models import make_model
from erray.models.fusion import FusionModel
from erray.options import parse_options
from erray.store import Folder

WEIGHTS, DESCRIPTION, SUMS = "model.safetensors", "model.json", "SHA256SUMS"
STATE_MAGIC = b"erray training state 1\n"


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """All of a model but its weights, as ``model.json`` keeps it."""

    model: str
    """Name in ``erray.models.MODELS``."""
    options: dict[str, Any]
    """The options that ``erray.models.make_model`` takes."""
    streams: dict[str, int]
    """Stream name to width, in the model's order."""
    labels: str
    """Name of the label set; its order is the order of the logits."""
    class_names: tuple[str, ...]
    """The label set's names, kept to notice when a set of this name has changed."""
    features: dict[str, str]
    """Stream name to the fingerprint of the features it was trained on."""
    window: int
    """Ticks of an evaluation window."""
    hop: int
    """Ticks from one evaluation window to the next."""
    clip_rule: str
    """How frames become the clip's class, one of ``erray.metrics.CLIP_RULES``."""
    clock_hz: float | None = None
    """Ticks per second; None: the frames' own times."""
    temperature: float = 1.0
    """Divides the logarithms of a clip's probabilities; val chose it (``erray.calibration``)."""
    erray_version: str = field(default=erray.__version__)

    def __post_init__(self) -> None:
        if self.labels not in LABEL_SETS or LABEL_SETS[self.labels].names != self.class_names:
            raise UserError(
                f"label set {self.labels!r} with classes {', '.join(self.class_names)} is not one "
                f"of this version's: {', '.join(LABEL_SETS)}"
            )
        if self.features.keys() != self.streams.keys():
            raise UserError(
                f"features of {sorted(self.features)} do not match streams {sorted(self.streams)}"
            )
        if self.clip_rule not in CLIP_RULES:
            raise UserError(
                f"clip_rule must be one of {', '.join(CLIP_RULES)}, found {self.clip_rule!r}"
            )
        if not 0 < self.temperature < math.inf:
            raise UserError(f"temperature must be a number above 0, found {self.temperature}")

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def build(self) -> FusionModel:
        """The model with fresh weights."""
        return make_model(self.model, self.streams, self.num_classes, self.options)


def save_model(folder: Path, model: FusionModel, description: ModelDescription) -> None:
    """Write ``folder`` anew, replacing a model that is there.

    At no time is there a partial model under that name. Between the two renames of a replacement
    the old model is called ``<name>.previous``, where ``load_model`` looks too.

    Raises:
        UserError: the disk is full, or fails in another way; the old model stays.
    """
    assert model.streams == description.streams, (model.streams, description.streams)
    weights = safetensors.torch.save(
        {name: x.detach().cpu().contiguous() for name, x in model.state_dict().items()}
    )
    content = {**asdict(description), "weights_sha256": _sha256(weights)}
    text = (json.dumps(content, indent=2) + "\n").encode()
    sums = f"{_sha256(weights)}  {WEIGHTS}\n{_sha256(text)}  {DESCRIPTION}\n".encode()
    files = {WEIGHTS: weights, DESCRIPTION: text, SUMS: sums}
    parent = Folder(str(folder.parent))
    parent.create()
    parent.attempt(f"write {folder.name} to", lambda: _replace_folder(folder, files))


def _replace_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for name, data in files.items():
            _write_through(temporary / name, data)
        temporary.chmod(0o755)  # mkdtemp's folders are the writer's alone
        previous = _previous(folder)
        if folder.exists():
            if previous.exists():
                shutil.rmtree(previous)
            folder.rename(previous)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    if previous.exists():
        shutil.rmtree(previous)


def load_model(folder: Path) -> tuple[FusionModel, ModelDescription]:
    """Read a model in eval mode on the CPU, after its hashes have been checked.

    Raises:
        UserError: a file that is missing, altered or no safetensors file; an unknown field; weights
            that are not the described model's by name, shape or type.
    """
    if not folder.exists() and _previous(folder).exists():
        folder = _previous(folder)
    text, weights = _checked_files(folder)
    description = _parse_description(folder / DESCRIPTION, text, weights)
    try:
        tensors = safetensors.torch.load(weights)
    except SafetensorError as error:
        raise UserError(
            f"{folder / WEIGHTS}: expected a safetensors file, found none ({error}); "
            f"other formats are not read because they can run code"
        ) from None
    # on the meta device, so that sizes named in the file allocate nothing before they are checked
    with torch.device("meta"):
        model = description.build()
    _check_tensors(folder / WEIGHTS, model.state_dict(), tensors)
    model.load_state_dict(tensors, assign=True)
    return model.eval(), description


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a training state (nested plain values and tensors) so that it is all there or not.

    Raises:
        TypeError: a value that ``load_state`` could not read back.
        UserError: the disk is full, or fails in another way; an old state stays.
    """
    _check_plain(state, "state")
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    payload = buffer.getvalue()
    header = STATE_MAGIC + _sha256(payload).encode() + b"\n"
    Folder(str(path.parent)).write(path.name, lambda file: file.writelines((header, payload)))


def load_state(path: Path) -> dict[str, Any]:
    """Read what ``save_state`` wrote; tensors are on the CPU.

    Raises:
        UserError: a missing, partial, altered or foreign file; the caller may fall back to the
            state before it.
    """
    if not path.is_file():
        raise UserError(f"no training state at {path}: expected a file that erray has written")
    data = path.read_bytes()
    header_size = len(STATE_MAGIC) + 65
    if not data.startswith(STATE_MAGIC):
        raise UserError(f"{path} is not a training state that this version of erray has written")
    if data[len(STATE_MAGIC) : header_size] != _sha256(data[header_size:]).encode() + b"\n":
        raise UserError(f"{path} is damaged: its sha256 does not match; use the state before it")
    try:
        state = torch.load(io.BytesIO(data[header_size:]), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} holds more than plain values and tensors: {reason}") from None
    assert isinstance(state, dict), type(state)
    return state


def _checked_files(folder: Path) -> tuple[bytes, bytes]:
    """Bytes of the description and the weights; what is returned is what was hashed."""
    files = {}
    for name in (SUMS, DESCRIPTION, WEIGHTS):
        if not (folder / name).is_file():
            raise UserError(
                f"no {name} in {folder}: expected a model that erray has saved; `erray train -r "
                f"RECIPE` writes training/fusion/model below the run's folder"
            )
        files[name] = (folder / name).read_bytes()
    expected = f"{_sha256(files[WEIGHTS])}  {WEIGHTS}\n{_sha256(files[DESCRIPTION])}  {DESCRIPTION}"
    lines = files[SUMS].decode("utf-8", errors="replace").splitlines()
    for line in expected.splitlines():
        if line not in lines:
            name = line.split()[1]
            raise UserError(f"{folder / name} is damaged: its sha256 is not the one in {SUMS}")
    return files[DESCRIPTION], files[WEIGHTS]


def _parse_description(path: Path, text: bytes, weights: bytes) -> ModelDescription:
    try:
        content = json.loads(text)
    except ValueError:
        raise UserError(f"{path} is not valid JSON: expected a model's description") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected an object, found {type(content).__name__}")
    if content.pop("weights_sha256", None) != _sha256(weights):
        raise UserError(f"{path}: weights_sha256 is not the sha256 of {WEIGHTS}")
    return parse_options(ModelDescription, content, owner=str(path))


def _check_tensors(path: Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    missing, unknown = sorted(expected.keys() - found), sorted(found.keys() - expected)
    if missing or unknown:
        raise UserError(
            f"{path} is not of the described model: {len(missing)} tensors missing "
            f"({', '.join(missing[:3])}), {len(unknown)} unknown ({', '.join(unknown[:3])})"
        )
    for name, x in expected.items():
        if (x.shape, x.dtype) != (found[name].shape, found[name].dtype):
            raise UserError(
                f"{path}: {name} should be {x.dtype} {list(x.shape)}, "
                f"found {found[name].dtype} {list(found[name].shape)}"
            )


def _check_plain(value: Any, where: str) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_plain(key, f"key of {where}")
            _check_plain(item, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            _check_plain(item, f"{where}[{i}]")
    elif type(value) not in {int, float, str, bool, bytes, type(None)} and not isinstance(
        value, Tensor
    ):
        raise TypeError(f"{where} must be a plain value or a tensor, found {type(value).__name__}")


def _write_through(path: Path, data: bytes) -> None:
    """Write and wait for the disk: a rename must not reach it before the content does."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _previous(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.previous")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
