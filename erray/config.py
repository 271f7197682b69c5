"""Typed configuration: a recipe file plus overrides, checked before anything runs.

A recipe is YAML with the sections below. Every field has a default, so that a recipe states only
what differs; unknown keys and wrong types are refused with the valid ones listed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from erray.errors import UserError
from erray.labels import LABEL_SETS, LabelSet

RECIPES = "erray.recipes"


class _Loader(yaml.SafeLoader):
    """YAML as people expect it: 1e-3 is a number (YAML 1.1 takes it for a string)."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


class Section(BaseModel):
    """A frozen group of settings."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Corpus(Section):
    kind: Literal["manifest", "meld", "cexpr", "cexpr-challenge"] = Field(
        "manifest", description="which reader makes the clips"
    )
    root: str = Field("", description="folder that holds every medium of the corpus")
    manifest: str = Field("manifest.csv", description="manifest only: CSV or Parquet, below root")
    annotations: str | None = Field(
        None,
        description="not manifest: folder of the corpus' own files, or the challenge's frame list; "
        "relative to root, or absolute; null: root",
    )
    labels: str | None = Field(
        None, description=f"label set: {', '.join(LABEL_SETS)}; null: the kind's own"
    )
    protocol: Literal["strict", "published"] = Field(
        "strict", description="not cexpr-challenge: published allows splits that leak, and says so"
    )
    fold: int = Field(0, ge=0, description="cexpr only: which fold is tested")
    num_folds: int = Field(5, ge=2, description="cexpr under strict only: folds that are made")
    clock_hz: float | None = Field(
        None, gt=0, description="ticks per second; null: the frames' own presentation times"
    )

    @property
    def label_set(self) -> LabelSet:
        """The classes of the corpus."""
        return LABEL_SETS[self.labels or _LABELS_OF_KIND[self.kind][0]]

    @model_validator(mode="after")
    def _known_labels(self) -> Corpus:
        known = _LABELS_OF_KIND[self.kind]
        if self.labels is not None and self.labels not in known:
            raise ValueError(
                f"corpus.labels of kind {self.kind} must be one of {', '.join(sorted(known))}, "
                f"found {self.labels!r}"
            )
        return self

    @model_validator(mode="after")
    def _only_what_the_kind_reads(self) -> Corpus:
        for name, kinds in _KINDS_OF_SETTING.items():
            given = getattr(self, name) != type(self).model_fields[name].default
            if given and self.kind not in kinds:
                raise ValueError(
                    f"corpus.{name} is read by kind {', '.join(kinds)} only, not by {self.kind}: "
                    f"remove it"
                )
        return self

    @model_validator(mode="after")
    def _fold_is_one_of_them(self) -> Corpus:
        if self.protocol == "published":
            if self.num_folds != type(self).model_fields["num_folds"].default:
                raise ValueError("corpus.num_folds is not read under protocol published: remove it")
        elif self.fold >= self.num_folds:
            raise ValueError(
                f"corpus.fold {self.fold} must be below corpus.num_folds {self.num_folds}"
            )
        return self


_LABELS_OF_KIND = {
    "manifest": ("cexpr7", "cexpr8", "basic7"),
    "meld": ("basic7",),
    "cexpr": ("cexpr7", "cexpr8"),
    "cexpr-challenge": ("cexpr7",),
}
"""Corpus kind to its label sets, its own first."""

_KINDS_OF_SETTING = {
    "manifest": ("manifest",),
    "annotations": ("meld", "cexpr", "cexpr-challenge"),
    "protocol": ("manifest", "meld", "cexpr"),
    "fold": ("cexpr",),
    "num_folds": ("cexpr",),
}
"""Settings that some kinds only read."""


class Media(Section):
    """Limits of one medium; who passes one is rejected. See :class:`erray.media.MediaLimits`."""

    max_pixels: int = Field(4096 * 2304, ge=1, description="width times height of a frame")
    max_frames: int = Field(400_000, ge=1, description="frames of one clip")
    max_duration_s: float = Field(7200.0, gt=0, description="seconds of one clip")
    max_memory_mb: int = Field(1024, ge=128, description="memory that its decoder may take")
    stall_s: float = Field(60.0, gt=0, description="longest wait for the next frame")
    min_speed: float = Field(
        0.05, gt=0, description="seconds of a medium decoded per second of waiting, at least"
    )


class Faces(Section):
    min_face_px: int = Field(
        40, ge=12, description="smallest face that is looked for, in pixels of the searched frame"
    )
    confidence: float = Field(0.9, gt=0, lt=1, description="least score of a detection")
    stride: int = Field(
        5, ge=1, description="frames from one search to the next; 1: search every frame"
    )
    frame_side_px: int | None = Field(
        None, ge=64, description="search frames scaled down to this long side; null: as is"
    )
    crop_size_px: int = Field(112, ge=16, description="side of the aligned crop")
    jpeg_quality: int = Field(92, ge=1, le=95, description="quality of the stored crops")


class Transcribe(Section):
    model: str | None = Field(
        None, min_length=1, description="speech recogniser, by hub name or folder; null: none"
    )
    language: str | None = Field(
        None, min_length=2, description="code such as en; null: found for every clip"
    )
    beam_size: int = Field(5, ge=1, description="texts that are followed side by side")
    device: Literal["cpu", "cuda"] | None = Field(
        None, description="null: a GPU where there is one"
    )


class Pool(Section):
    num_workers: int | None = Field(None, ge=1, description="actors; null: one per free CPU")
    num_cpus: float = Field(1, gt=0, description="CPUs of one actor")
    num_gpus: float | None = Field(
        None, ge=0, description="GPUs of one actor; null: what the stage can use, if there is one"
    )


class Extract(Section):
    tables: str | None = Field(
        None, min_length=1, description="folder or fsspec URL of the tables; null: the run's folder"
    )
    shard_clips: int = Field(12, ge=1, le=512, description="clips per shard of a table")
    max_attempts: int = Field(3, ge=2, description="attempts at a clip whose worker's process ends")
    pools: dict[str, Pool] = Field(
        default_factory=dict, description="per stage: tracks, a stream's name, or predict"
    )


class Schedule(Section):
    name: str = Field("constant", description="constant or one of the six published schedules")
    options: dict[str, Any] = Field(default_factory=dict, description="its own parameters")


class Optimiser(Section):
    name: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: float = Field(1e-3, gt=0, description="learning rate before the schedule")
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD only")
    nesterov: bool = Field(True, description="SGD only")
    beta1: float = Field(0.9, ge=0, lt=1, description="Adam and AdamW only")
    beta2: float = Field(0.999, ge=0, lt=1, description="Adam and AdamW only")
    weight_decay: float = Field(1e-4, ge=0)


class Model(Section):
    name: str = Field("lfan", description="fusion model")
    options: dict[str, Any] = Field(default_factory=dict, description="the model's own settings")


class Train(Section):
    epochs: int = Field(100, ge=1)
    min_epochs: int = Field(5, ge=1, description="no early stop before this many epochs")
    patience: int = Field(50, ge=1, description="epochs without a better val metric until stop")
    window: int = Field(300, ge=1, description="ticks of a training window")
    hop: int = Field(200, ge=1, description="ticks from one window to the next")
    batch_size: int = Field(16, ge=1, description="windows per step, over all workers together")
    clip_rule: Literal["majority", "mean_probabilities", "mean_logits"] = Field(
        "mean_logits", description="how frames become the clip's class in val selection"
    )
    optimiser: Optimiser = Optimiser()
    schedule: Schedule = Schedule()
    max_grad_norm: float | None = Field(None, gt=0, description="clip gradients; null: never")
    num_workers: int = Field(2, ge=1, description="Ray Train workers of the main run")
    num_gpus: float | None = Field(
        None, ge=0, description="GPUs of one worker; null: one if there are enough, else none"
    )
    max_failures: int = Field(2, ge=0, description="restarts after a lost worker")
    checkpoint_epochs: int = Field(
        1, ge=1, description="epochs from one checkpoint of the main run to the next"
    )

    @model_validator(mode="after")
    def _hop_fits(self) -> Train:
        if self.hop > self.window:
            raise ValueError(f"train.hop {self.hop} must not exceed train.window {self.window}")
        return self


class Tune(Section):
    space: str = Field("lfan", description="a file of tune_spaces/ by name, or a path")
    num_trials: int = Field(6, ge=1)
    max_concurrent: int = Field(2, ge=1)
    epochs: int = Field(10, ge=1, description="epochs of a trial that is not stopped early")
    grace_epochs: int = Field(3, ge=1, description="epochs before ASHA may stop a trial")
    cpus_per_trial: float = Field(1, gt=0)
    gpus_per_trial: float = Field(0, ge=0, description="fractions share one GPU")


class Tracking(Section):
    uri: str | None = Field(None, description="MLflow tracking URI; null: sqlite in ERRAY_HOME")
    experiment: str = Field("erray", min_length=1)
    model_name: str = Field("erray", min_length=1, description="name in the model registry")
    alias: str = Field("champion", min_length=1)


class Predict(Section):
    split: str = Field("challenge", description="split of the clips table to predict")
    model: str | None = Field(None, description="models:/name@alias or models:/name/version")
    frame_list: str | None = Field(
        None, description="the challenge's list of frames, relative to corpus.root"
    )


class Report(Section):
    num_timelines: int = Field(12, ge=0, description="test clips shown with their timeline")
    num_bootstrap: int = Field(2000, ge=100, description="resamples of every interval")


class Recipe(Section):
    """One whole run."""

    name: str = Field("custom", pattern=r"^[A-Za-z0-9_.-]+$")
    seed: int = Field(0, ge=0)
    corpus: Corpus = Corpus()
    media: Media = Media()
    faces: Faces = Faces()
    transcribe: Transcribe = Transcribe()
    streams: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="encoder name to its options; the order is the model's"
    )
    extract: Extract = Extract()
    model: Model = Model()
    train: Train = Train()
    tune: Tune = Tune()
    tracking: Tracking = Tracking()
    predict: Predict = Predict()
    report: Report = Report()

    @model_validator(mode="after")
    def _pools_of_stages(self) -> Recipe:
        stages = ("tracks", *self.streams, "predict")
        unknown = sorted(set(self.extract.pools) - set(stages))
        if unknown:
            raise ValueError(
                f"extract.pools has no stage {', '.join(unknown)}; expected {', '.join(stages)}"
            )
        return self


def load_recipe(name_or_file: str, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe by the name of a packaged one or by path, apply ``section.key=value``.

    Raises:
        UserError: no such recipe, YAML that is not a mapping, an unknown key, a wrong type.
    """
    data = _read_yaml(name_or_file)
    for override in overrides or []:
        _apply(data, override)
    return parse_recipe(data, source=name_or_file)


def parse_recipe(data: dict[str, Any], *, source: str = "recipe") -> Recipe:
    """Check ``data`` against the sections.

    Raises:
        UserError: an unknown key (valid ones listed) or a wrong type or value.
    """
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(_explain(e) for e in error.errors())
        raise UserError(f"{source}: {problems}") from None


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
            raise UserError(f"no recipe file {name_or_file}: give an existing .yaml file")
        text, default_name = _read_text(path), path.stem
    else:
        if name_or_file not in recipe_names():
            raise UserError(
                f"no recipe named {name_or_file!r}; expected a .yaml file or one of: "
                f"{', '.join(recipe_names())}"
            )
        text = (resources.files(RECIPES) / f"{name_or_file}.yaml").read_text(encoding="utf-8")
        default_name = name_or_file
    try:
        data = yaml.load(text, _Loader) or {}
    except (yaml.YAMLError, ValueError) as error:
        detail = " ".join(str(error).split())
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
    if not equals or not all(keys):
        raise UserError(f"-o {override!r}: expected section.key=value")
    try:
        value = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError):  # ValueError: a date such as 2024-99-99
        raise UserError(f"-o {override!r}: the value is not valid YAML") from None
    _set(data, keys, value, source=f"-o {override!r}")


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
        return f"unknown key {where}; valid keys here: {', '.join(_valid_keys(error['loc']))}"
    message = error["msg"].removeprefix("Value error, ")
    found = "" if error["type"] == "value_error" else f", found {error['input']!r}"
    return f"{where}: {message}{found}" if where else f"{message}{found}"


def _valid_keys(loc: tuple[int | str, ...]) -> list[str]:
    section: Any = Recipe
    for part in loc[:-1]:
        if isinstance(section, type) and issubclass(section, Section):
            section = section.model_fields[str(part)].annotation
        else:  # a dict of sections, such as extract.pools
            section = section.__args__[1]
    return sorted(section.model_fields)
