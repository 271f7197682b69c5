"""The whole recipe, and its sections that belong to a step after the training."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from erray.config.corpus import Corpus
from erray.config.extraction import Extract, Faces, Media, Transcribe
from erray.config.section import Section
from erray.config.training import Model, Train
from erray.credentials import has_unencoded_credentials


def _different_numbers(values: Any) -> bool:
    if not isinstance(values, list) or not values:
        return False
    return all(type(v) is int and v >= 0 for v in values) and len(set(values)) == len(values)


def _different_seeds(seeds: list[int]) -> list[int]:
    if not _different_numbers(seeds):
        raise ValueError(f"expected different numbers of 0 or more, found {seeds}")
    return seeds


def _different_folds(folds: Any) -> Any:
    if not (folds is None or folds == "all" or _different_numbers(folds)):
        raise ValueError(f"expected all, or different numbers of 0 or more, found {folds!r}")
    return folds


def _encoded(url: Any) -> Any:
    """Refuse a password that would be shown in part; the value itself is never in the message."""
    if isinstance(url, str) and has_unencoded_credentials(url):
        raise ValueError(
            "expected a percent-encoded user, password and query, found a blank, or an @ after "
            "a slash: write them as %20, %40 and %2F, or leave the password of PostgreSQL out and "
            "set PGPASSWORD"
        )
    return url


Folds = Literal["all"] | list[int] | None


class Repeat(Section):
    seeds: list[int] = Field([0, 1, 2], description="the fusion is trained once with each")
    folds: Folds = Field(
        None, description="cexpr only: all or a list of folds; null: corpus.fold alone"
    )

    _check_seeds = field_validator("seeds")(_different_seeds)
    _check_folds = field_validator("folds", mode="before")(_different_folds)


class Tune(Section):
    space: str | None = Field(
        None, description="a file of tune_spaces/ by name, or a path; null: the model's name"
    )
    num_trials: int = Field(6, ge=1, description="of the study, interrupted ones not counted")
    sampler: Literal["tpe", "random"] = Field("tpe", description="who draws settings")
    max_concurrent: int = Field(2, ge=1)
    epochs: int = Field(10, ge=1, description="epochs of a trial that is not stopped early")
    grace_epochs: int = Field(1, ge=1, description="epochs before halving may stop a trial")
    reduction_factor: int = Field(3, ge=2, description="one of so many goes on past each rung")
    folds: Folds = Field(None, description="cexpr only: a trial's value is the mean over these")
    seeds: list[int] = Field(
        [0, 1, 2], description="the best settings, and the recipe's own, are trained with each"
    )
    storage: str | None = Field(
        None, pattern=r"^postgresql(\+psycopg)?://", description="of the study; null: a file"
    )
    cpus_per_trial: float = Field(1, gt=0)
    gpus_per_trial: float = Field(0, ge=0, description="fractions share one GPU")

    _check_storage = field_validator("storage", mode="before")(_encoded)
    _check_seeds = field_validator("seeds")(_different_seeds)
    _check_folds = field_validator("folds", mode="before")(_different_folds)


class Tracking(Section):
    uri: str | None = Field(None, description="MLflow tracking URI; null: sqlite in ERRAY_HOME")
    experiment: str = Field("erray", min_length=1)
    model_name: str = Field("erray", min_length=1, description="name in the model registry")
    alias: str = Field("champion", min_length=1)

    _check_uri = field_validator("uri", mode="before")(_encoded)


class Smoothing(Section):
    kind: Literal["box", "gaussian"] | None = Field(
        None, description="weights over time; null: frames stay as the model predicts them"
    )
    width: float = Field(
        0.5, gt=0, description="length of the box, standard deviation of the Gaussian"
    )
    unit: Literal["s", "ticks"] = Field("s", description="of width")

    @model_validator(mode="after")
    def _only_where_it_smooths(self) -> Smoothing:
        fields = type(self).model_fields
        for name in ("width", "unit"):
            if self.kind is None and getattr(self, name) != fields[name].default:
                raise ValueError(
                    f"predict.smoothing.{name} is read with a kind only: set "
                    f"predict.smoothing.kind to box or gaussian, or remove it"
                )
        return self


class Submission(Section):
    fill: Literal["refuse", "hold"] = Field(
        "refuse", description="hold: a frame without a prediction has the class of the one before"
    )


class Predict(Section):
    split: str = Field("challenge", description="split of the clips table to predict")
    model: str | None = Field(None, description="models:/name@alias or models:/name/version")
    pair_rule: Literal["sum", "product"] = Field(
        "sum", description="score of a compound class where the model knows basic emotions only"
    )
    smoothing: Smoothing = Smoothing()
    timelines: bool = Field(True, description="write a CSV file of every clip over time")
    frame_list: str | None = Field(
        None, description="the challenge's list of frames, relative to corpus.root"
    )
    submission: Submission = Submission()

    @model_validator(mode="after")
    def _fills_a_list(self) -> Predict:
        if self.submission.fill != "refuse" and self.frame_list is None:
            raise ValueError(
                "predict.submission.fill is read with a frame list only: set predict.frame_list"
            )
        return self


class Report(Section):
    num_timelines: int = Field(12, ge=0, description="test clips shown with their timeline")
    num_errors: int = Field(12, ge=0, description="wrong test clips shown, the surest first")
    compare: str | None = Field(
        None, description="folder of another run on the same test clips; null: none"
    )
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
    repeat: Repeat = Repeat()
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

    @model_validator(mode="after")
    def _folds_of_the_corpus(self) -> Recipe:
        for section, folds in (("repeat", self.repeat.folds), ("tune", self.tune.folds)):
            if folds is not None:
                self._require_folds(section, folds)
        return self

    def _require_folds(self, section: str, folds: Literal["all"] | list[int]) -> None:
        corpus = self.corpus
        if corpus.kind != "cexpr":
            raise ValueError(
                f"{section}.folds is read by corpus.kind cexpr only, not by {corpus.kind}: "
                f"remove it"
            )
        if folds != "all" and corpus.protocol == "strict" and max(folds) >= corpus.num_folds:
            raise ValueError(
                f"{section}.folds has {max(folds)}, expected folds below corpus.num_folds "
                f"{corpus.num_folds}"
            )
