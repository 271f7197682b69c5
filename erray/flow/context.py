"""What every step of a run shares: recipe, folders, clips, the record, the tracking store."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any

from erray import interrupt
from erray.config import Recipe, fingerprint
from erray.corpora import CorpusClips
from erray.corpora.check import check_corpus
from erray.corpora.findings import Finding
from erray.corpora.holdout import VAL, with_whole_val
from erray.credentials import masked, without_credentials
from erray.errors import UserError
from erray.extraction import NoProgress, Progress
from erray.flow.corpus import recipe_corpus
from erray.flow.outbox import Outbox
from erray.labels import LabelSet
from erray.plan import Plan
from erray.records import Clip
from erray.registry import COMMIT_TAG, Registry
from erray.run_record import RunRecord, code_commit
from erray.store import RunFolder, hold
from erray.training.arrays import FeatureArrays
from erray.training.events import NoTrainingProgress, TrainingProgress
from erray.training.ingest import build_arrays
from erray.training.job import TrainJob, model_over
from erray.training.runs import TrainingRun
from erray.tuning.events import OnTrial, tell_nobody

FUSION, TUNED = "fusion", "tuned"
STUDY_FILE = "study.json"


def say_nothing(text: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Flow:
    """One run of a recipe in the folder ``out``.

    Attributes:
        out: absolute folder of tables, training runs and report.
        home: absolute folder of the tracking store.
        progress: told how far an extraction is.
        training: told how far trainings are, epoch by epoch.
        on_trial: told how far a search is, likewise.
        say: told what a person should know, a line each time.
    """

    recipe: Recipe
    out: Path
    home: Path
    progress: Progress = field(default_factory=NoProgress)
    say: Callable[[str], None] = say_nothing
    training: TrainingProgress = field(default_factory=NoTrainingProgress)
    on_trial: OnTrial = tell_nobody

    def __post_init__(self) -> None:
        if not self.recipe.streams:
            raise UserError("the recipe has no streams: name at least one encoder in `streams`")

    @cached_property
    def corpus(self) -> CorpusClips:
        """The clips to use and those that are left out, and what their media hold."""
        return recipe_corpus(self.recipe, self.out)

    @property
    def clips(self) -> list[Clip]:
        """Every clip to use, with the hash of its medium."""
        return self.corpus.clips

    @cached_property
    def findings(self) -> list[Finding]:
        """What is wrong with the corpus."""
        return check_corpus(self.recipe.corpus, self.corpus)

    @cached_property
    def plan(self) -> Plan:
        return Plan(self.recipe)

    @property
    def labels(self) -> LabelSet:
        return self.recipe.corpus.label_set

    @property
    def tables(self) -> RunFolder:
        return RunFolder.of(self.recipe, self.out)

    @property
    def record(self) -> RunRecord:
        """The run's record as it is on disk now."""
        return RunRecord.load(self.out)

    @cached_property
    def registry(self) -> Registry:
        tracking = self.recipe.tracking
        return Registry(self.home, uri=tracking.uri, experiment=tracking.experiment)

    @cached_property
    def outbox(self) -> Outbox:
        """Training runs that the tracking store does not have yet, or not all of them."""
        return Outbox(self.out, self.registry)

    def run(self, name: str) -> TrainingRun:
        """The folder of the training run ``name``."""
        return TrainingRun(self.out / "training" / name)

    def arrays(self, split: str) -> FeatureArrays:
        """Mapped features of a split, built where the recipe says if they are not there."""
        place = self.recipe.train.arrays
        cache = self.out / "cache" if place is None else Path(place).absolute()
        return build_arrays(
            self.plan, self.tables, self.clips, self.labels, split=split, cache=cache
        )

    def job(self, streams: Sequence[str] | None = None) -> TrainJob:
        """The recipe's training run over ``streams`` (None: all of the recipe)."""
        names = list(self.recipe.streams) if streams is None else list(streams)
        return TrainJob(
            train=self.arrays("train"),
            val=self.arrays("val"),
            streams={name: self.plan.widths[name] for name in names},
            num_classes=len(self.labels),
            model=model_over(self.recipe.model, names, all_streams=self.recipe.streams),
            settings=self.recipe.train,
            seed=self.recipe.seed,
        )

    @property
    def study_file(self) -> Path:
        """Where a search keeps what it found (see :func:`erray.flow.tune.tune_step`)."""
        return self.out / "tune" / STUDY_FILE

    def study(self) -> dict[str, Any]:
        """What a search of this very recipe found, empty without one.

        An earlier recipe of the same folder may have had other streams, data or another score.
        """
        if not self.study_file.is_file():
            return {}
        found: dict[str, Any] = json.loads(self.study_file.read_text(encoding="utf-8"))
        return found if found.get("recipe_job") == self.job().fingerprint else {}

    def test_was_searched(self, run: TrainingRun) -> bool:
        """The run is of settings that a search chose by clips of test, as folds let it."""
        against = self.study().get("against_recipe") if run.name == TUNED else None
        return against is not None and bool(against["test_was_searched"])

    def holdout_was_searched(self, run: TrainingRun) -> bool:
        """The same of the clips that are set apart."""
        return run.name == TUNED and bool(self.study().get("holdout_was_searched"))

    @cached_property
    def data_fingerprint(self) -> str:
        """Name of the clips by content: media hashes, spans, splits, labels, transcripts.

        What is set apart counts as val: other shares of one corpus are the same data.
        """
        return _content_print(with_whole_val(self.clips))

    @cached_property
    def val_fingerprint(self) -> str:
        """The same of the clips of val alone: what two models must share to be compared."""
        return _content_print(c for c in with_whole_val(self.clips) if c.split == VAL)

    def parent_run(self) -> str:
        """The tracking run that all steps of this folder belong to, started by the first."""
        known, settings = self.record, masked(self.recipe.model_dump(mode="json"))
        same_store = self.registry.is_store(known.tracking_uri, known.parent_run_id)
        if known.parent_run_id is not None and same_store and known.recipe == settings:
            if known.tracking_uri != without_credentials(self.registry.uri):  # the home has moved
                self.record.update(tracking_uri=self.registry.uri)
            return known.parent_run_id
        tags = {
            "erray.data_fingerprint": self.data_fingerprint,
            **{f"erray.features.{k}": v for k, v in self.plan.fingerprints.items()},
        }
        commit = code_commit()
        if commit is not None:
            tags[COMMIT_TAG] = commit
        run_id = self.registry.start_run(self.recipe.name, params=settings, tags=tags)
        self.registry.log_dict(run_id, settings, "recipe.json")
        self.record.update(
            recipe=settings,
            git_commit=commit,
            data_fingerprint=self.data_fingerprint,
            tracking_uri=self.registry.uri,
            parent_run_id=run_id,
        )
        return run_id

    @contextmanager
    def step(self, name: str) -> Iterator[str]:
        """Time a step; yield the parent run's id, closed after it (failed when the step fails).

        What waits in the outbox is sent before and after it.

        Raises:
            UserError: the tracking store cannot be opened, or is away for too long; another process
                writes to the run's folder.
        """
        with hold(self.out), self._step(name) as run_id:
            yield run_id

    @contextmanager
    def _step(self, name: str) -> Iterator[str]:
        self.registry.open()  # an address that is wrong must not cost a training
        run_id = self.parent_run()
        self.outbox.send(run_id)
        try:
            with self.record.time(name), interrupt.accounts():
                yield run_id
        except BaseException:
            self.outbox.interrupt()
            self.registry.finish(run_id, failed=True)
            raise
        self.outbox.send(run_id)
        self.registry.log_metrics(run_id, [{f"seconds.{name}": self.record.seconds[name]}])
        self.registry.finish(run_id)


def _content_print(clips: Iterable[Clip]) -> str:
    spans = ("start_s", "end_s", "duration_s")
    content = attrgetter("clip_id", "file_sha256", *spans, "split", "group", "label", "transcript")
    return fingerprint(sorted(map(content, clips), key=lambda row: str(row[0])))
