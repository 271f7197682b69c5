"""Ray Tune runs the trials; the ledger says which, and when one stops.

Neither the searcher nor the scheduler keeps anything of its own: a driver that starts again reads
the storage, never Ray Tune's files.
"""

from __future__ import annotations

import logging
import os
import pickle
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayTaskError
from ray.tune.execution import class_cache
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from erray.errors import UserError
from erray.tuning.ledger import Ledger
from erray.tuning.trial import Epoch

# Ray Tune passes the keys of object storage on to its trials as a runtime environment, and Ray
# writes that to its logs. Trials have what their node has, without it.
class_cache.ENV_VARS_TO_PROPAGATE.difference_update(
    [name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")]
)
# A process takes the next trial when the thread of the last has ended, which takes milliseconds;
# Ray waits 2 s and takes more for an error that it tells nobody.
class_cache.ENV_VARS_TO_PROPAGATE.add("TUNE_FUNCTION_THREAD_TIMEOUT_S")

Objective = Callable[[Mapping[str, Any]], Iterator[Epoch]]
"""Settings to the epochs of a trial; it travels to the trial's process."""

_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # an interrupted search ends, and is no finished one
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # a trial's reason is in the storage
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # so is its curve
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "600",
}
_NUMBER, _SETTINGS, _VALUE, _SECONDS = "number", "settings", "value", "seconds"
_MAX_REASON_CHARS = 300


@dataclass(frozen=True)
class Slots:
    """How many trials run at a time, and what each asks the cluster for."""

    max_concurrent: int
    cpus: float
    gpus: float


def require_room(slots: Slots) -> None:
    """See that a trial fits a node; a cluster that others feed may get one, so it may wait.

    Raises:
        UserError: no node of a Ray of this process's own has what a trial asks for.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(n.get("CPU", 0) >= slots.cpus and n.get("GPU", 0) >= slots.gpus for n in nodes):
        return
    most = max(((n.get("GPU", 0), n.get("CPU", 0)) for n in nodes), default=(0, 0))
    found = (
        f"a trial asks for {slots.cpus:g} CPUs and {slots.gpus:g} GPUs of a node, the largest has "
        f"{most[1]:g} and {most[0]:g}"
    )
    if not os.environ.get("RAY_ADDRESS"):
        raise UserError(f"{found}: lower tune.cpus_per_trial or tune.gpus_per_trial")
    logging.getLogger(__name__).warning("%s: the search waits until one joins", found)


def run_trials(ledger: Ledger, objective: Objective, *, slots: Slots, folder: Path) -> None:
    """Run trials on the connected cluster until the ledger wants no more.

    A trial whose process ends, or that raises, fails with its reason; the others go on.

    Args:
        folder: for what Ray Tune writes; what an earlier search left there is removed.

    Raises:
        UserError: as :func:`require_room` does.
    """
    require_room(slots)
    os.environ.update(_ENVIRONMENT)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    shutil.rmtree(folder, ignore_errors=True)
    numbers: dict[str, int] = {}
    tune.Tuner(
        tune.with_resources(
            tune.with_parameters(_trial, objective=objective),
            {"cpu": slots.cpus, "gpu": slots.gpus},
        ),
        tune_config=tune.TuneConfig(
            search_alg=_LedgerSearcher(ledger, numbers),
            scheduler=_LedgerScheduler(ledger, numbers),
            num_samples=-1,  # until the searcher has no more
            max_concurrent_trials=slots.max_concurrent,
            trial_dirname_creator=lambda trial: str(trial.trial_id),
            reuse_actors=True,  # a process costs seconds of imports
        ),
        run_config=tune.RunConfig(name=folder.name, storage_path=str(folder.parent), verbose=0),
    ).fit()


def _trial(config: dict[str, Any], *, objective: Objective) -> None:
    for epoch in objective(config[_SETTINGS]):
        tune.report({_VALUE: epoch.value, _SECONDS: epoch.seconds})


class _Forgetful:
    """Ray Tune pickles what drives it to disk; the storage's address must not get there."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _LedgerSearcher(_Forgetful, Searcher):
    """Takes suggestions from the ledger and tells it how trials end."""

    def __init__(self, ledger: Ledger, numbers: dict[str, int]) -> None:
        super().__init__()
        self._ledger, self._numbers = ledger, numbers

    def suggest(self, trial_id: str) -> Any:  # Ray's own type leaves out the end
        asked = self._ledger.ask()
        if asked is None:
            return Searcher.FINISHED
        self._numbers[trial_id], settings = asked
        return {_NUMBER: asked[0], _SETTINGS: settings}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        # the scheduler has told the reason of a failed one, which Ray does not give here
        if not error:
            self._ledger.finish(self._numbers.pop(trial_id))

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the storage has it all."""


class _LedgerScheduler(_Forgetful, FIFOScheduler):
    """Notes every epoch in the ledger and stops a trial where that says so."""

    def __init__(self, ledger: Ledger, numbers: dict[str, int]) -> None:
        super().__init__()
        self._ledger, self._numbers = ledger, numbers

    def on_trial_result(
        self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]
    ) -> str:
        number = self._numbers[trial.trial_id]
        stop = self._ledger.report(number, result[_VALUE], result[_SECONDS])
        return str(self.STOP if stop else self.CONTINUE)

    def on_trial_error(self, tune_controller: TuneController, trial: Trial) -> None:
        self._ledger.fail(self._numbers.pop(trial.trial_id), _reason(trial))


def _reason(trial: Trial) -> str:
    """Why a trial failed, in one line."""
    # Ray's own readers look where these files are copied to later
    pickled, written = trial.pickled_error_file, trial.error_file
    error = pickle.loads(Path(pickled).read_bytes()) if pickled else None
    if isinstance(error, RayTaskError):
        cause = error.cause
        text = str(cause) if isinstance(cause, UserError) else f"{type(cause).__name__}: {cause}"
    elif error is not None:
        text = f"the trial's process ended: {error}"
    else:  # out of memory, as Ray sees it, below a line with the time
        assert written is not None
        text = Path(written).read_text(encoding="utf-8").split("\n", 1)[1]
    return " ".join(text.split())[:_MAX_REASON_CHARS]
