"""What a search finds: TPE against random settings, successive halving against all epochs.

A made-up task, small so that an epoch takes hundredths of a second: clips of four classes with two
streams, few to train on and 1,024 to validate, much noise. What is searched is what every space
has (loss, optimiser, schedule and dropout of ``erray/tuning/branches.py``) and the size of small
encoders, for ``concat``. Trials run one at a time in this process, through the ledger, the
sampler, the rungs and the training loop that a search has; Ray Tune, which only says where a trial
runs, is left out.

1. Best val score of ``NUM_TRIALS`` trials by TPE minus that by random settings, all epochs, per
   seed of the search; the mean and its 95 % t interval over the seeds.
2. Best val score with all epochs minus that with halving at the recipe's default rungs, and the
   share of the epochs that halving takes, for both samplers. Random settings do not depend on what
   stops, so there the curves of part 1 are replayed through the rungs; TPE searches anew.

``--choose`` replays random searches through several rungs, to choose the default: on seeds of its
own (100 and up), never on those reported. A seed's searches are appended to ``--rows`` as they end,
and a seed that is there is not run again, so that a run may be cut off.

    .venv/bin/python benchmarks/bench_sampler.py --rows FILE [--seeds 0 1 2] [--choose] [--save]
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from measure import report
from numpy.typing import NDArray
from scipy import stats
from training_jobs import Labelled, make_job, write_arrays

import erray.training.loop
from erray.config import Recipe
from erray.metrics import CLIP_RULES, confusion, find_metric
from erray.training.arrays import FeatureArrays
from erray.training.job import TrainJob
from erray.training.loop import TrainingLoop
from erray.training.validation import val_scores
from erray.tuning import branches, trial_recipe
from erray.tuning.halving import Halving
from erray.tuning.ledger import Ledger
from erray.tuning.sampling import SamplerName
from erray.tuning.space import Space
from erray.tuning.trial import FoldTrial
from erray.windows import collate

NUM_CLASSES, NUM_TICKS, NUM_CLIPS = 4, 2, {"train": 64, "val": 1024}
STREAMS = {"face": 12, "words": 8}
# how far apart the classes lie in a stream, in deviations of the noise of a tick and of a clip
SIGNAL, CLIP_NOISE = {"face": 2.4, "words": 1.8}, 0.5
SHARE_OF_TICKS = 0.7  # that show the class at all
NUM_TRIALS = 40
SEEDS, CHOOSING_SEEDS = list(range(10)), list(range(100, 106))
GRACES, FACTORS = (1, 2, 3, 4), (2, 3, 4)  # that --choose tries
WITHIN, EPOCHS_SHARE = 0.01, 0.4  # the marks of part 2
Curves = list[list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=Path, required=True, help="searches that have ended")
    parser.add_argument("--seeds", type=int, nargs="+", help="of the search")
    parser.add_argument("--choose", action="store_true", help="replay several rungs")
    parser.add_argument("--save", action="store_true", help="keep the result in results/")
    options = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    seeds = options.seeds or (CHOOSING_SEEDS if options.choose else SEEDS)
    with tempfile.TemporaryDirectory() as name:
        job = made_up_job(Path(name))
        erray.training.loop.val_scores = AtOnce(job)
        for seed in seeds:
            if seed not in [row["seed"] for row in read_rows(options.rows)]:
                row = random_row(job, seed) if options.choose else whole_row(job, seed)
                with options.rows.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
    rows = [row for row in read_rows(options.rows) if row["seed"] in seeds]
    tune = recipe(job, seed=0).tune
    if options.choose:
        content = {"rungs": choices(rows, tune.epochs)}
    else:
        content = {"sampler": sampler_claim(rows), "halving": halving_claim(rows, tune)}
    fixed = {"trials": NUM_TRIALS, "epochs": tune.epochs, "val_clips": NUM_CLIPS["val"]}
    report("sampler", fixed | content, save=options.save)


def read_rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def random_row(job: TrainJob, seed: int) -> dict[str, Any]:
    start_s = time.perf_counter()
    row = {"seed": seed, "random": run_search(job, seed, "random", halving=False)}
    sys.stderr.write(f"seed {seed}: {time.perf_counter() - start_s:.0f} s\n")
    return row


def whole_row(job: TrainJob, seed: int) -> dict[str, Any]:
    """Both samplers with all epochs, and TPE with halving."""
    row = random_row(job, seed)
    row["tpe"] = run_search(job, seed, "tpe", halving=False)
    row["tpe_halving"] = run_search(job, seed, "tpe", halving=True)
    found = {name: round(best(curves), 4) for name, curves in row.items() if name != "seed"}
    sys.stderr.write(f"seed {seed}: {json.dumps(found)}\n")
    return row


def sampler_claim(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Part 1."""
    bests = {name: [best(row[name]) for row in rows] for name in ("tpe", "random")}
    gaps = [tpe - random for tpe, random in zip(bests["tpe"], bests["random"], strict=True)]
    mean = statistics.mean(gaps)
    half = stats.t.ppf(0.975, len(gaps) - 1) * statistics.stdev(gaps) / len(gaps) ** 0.5
    return {
        "seeds": [row["seed"] for row in rows],
        "best": {name: [round(value, 4) for value in values] for name, values in bests.items()},
        "mean_best": {name: round(statistics.mean(values), 4) for name, values in bests.items()},
        "tpe_minus_random": {
            "mean": round(mean, 4),
            "low": round(mean - half, 4),
            "high": round(mean + half, 4),
        },
        "tpe_is_higher": bool(mean - half > 0),
    }


def halving_claim(rows: Sequence[dict[str, Any]], tune: Any) -> dict[str, Any]:
    """Part 2, at the rungs of the recipe's defaults."""
    halving = Halving(tune.epochs, tune.grace_epochs, tune.reduction_factor)
    runs = {
        "tpe": [(row["tpe"], row["tpe_halving"]) for row in rows],
        "random": [(row["random"], replayed(row["random"], halving)) for row in rows],
    }
    found = {name: one_halving(pairs, tune.epochs) for name, pairs in runs.items()}
    return {
        "grace_epochs": tune.grace_epochs,
        "reduction_factor": tune.reduction_factor,
        "marks": {"within": WITHIN, "epochs_share": EPOCHS_SHARE},
        **found,
    }


def choices(rows: Sequence[dict[str, Any]], epochs: int) -> list[dict[str, Any]]:
    """What random searches lose and take at several rungs."""
    found = []
    for grace, factor in itertools.product(GRACES, FACTORS):
        halving = Halving(epochs, grace, factor)
        pairs = [(row["random"], replayed(row["random"], halving)) for row in rows]
        head = {"grace_epochs": grace, "reduction_factor": factor}
        found.append(head | one_halving(pairs, epochs))
    return found


def one_halving(pairs: Sequence[tuple[Curves, Curves]], epochs: int) -> dict[str, Any]:
    """Searches with all epochs and with halving: what the latter loses and takes."""
    below = [best(full) - best(halved) for full, halved in pairs]
    shares = [sum(map(len, halved)) / sum(map(len, full)) for full, halved in pairs]
    mean_below, mean_share = statistics.mean(below), statistics.mean(shares)
    return {
        "below": [round(value, 4) for value in below],
        "epochs_share": [round(value, 3) for value in shares],
        "mean": {"below": round(mean_below, 4), "epochs_share": round(mean_share, 3)},
        "met": mean_below <= WITHIN and mean_share <= EPOCHS_SHARE,
    }


def best(curves: Curves) -> float:
    """Value of the best complete trial."""
    length = max(map(len, curves))
    return max(max(curve) for curve in curves if len(curve) == length)


def run_search(job: TrainJob, seed: int, sampler: SamplerName, *, halving: bool) -> Curves:
    """Search from ``seed``; return the curve of every trial in order."""
    made = trial_recipe(recipe(job, seed=seed))
    trials = FoldTrial(made, [job], "cpu")
    space = Space(Path(__file__), sampled, takes_recipe=True)
    ledger = make_ledger(made, lambda trial: space.suggest(trial, made), sampler, halving=halving)
    while (asked := ledger.ask()) is not None:
        number, settings = asked
        for epoch in trials(settings):
            if ledger.report(number, epoch.value, epoch.seconds):
                break
        ledger.finish(number)
    return curves_of(ledger)


def replayed(curves: Curves, halving: Halving) -> Curves:
    """The curves as the rungs would have cut them, had these trials come in this order."""
    study = optuna.create_study(direction="maximize")
    ledger = Ledger(
        study,
        lambda trial: {},
        num_trials=len(curves),
        epochs=halving.epochs,
        halving=halving,
        max_concurrent=1,
        sampler="random",
        seed=0,
    )
    for curve in curves:
        asked = ledger.ask()
        assert asked is not None
        for value in curve:
            if ledger.report(asked[0], value, 0.0):
                break
        ledger.finish(asked[0])
    return curves_of(ledger)


def make_ledger(
    made: Recipe,
    suggest: Callable[[optuna.Trial], dict[str, Any]],
    sampler: SamplerName,
    *,
    halving: bool,
) -> Ledger:
    tune = made.tune
    return Ledger(
        optuna.create_study(direction="maximize"),
        suggest,
        num_trials=NUM_TRIALS,
        epochs=tune.epochs,
        halving=Halving(tune.epochs, tune.grace_epochs, tune.reduction_factor) if halving else None,
        max_concurrent=1,
        sampler=sampler,
        seed=made.seed,
    )


def curves_of(ledger: Ledger) -> Curves:
    return [
        [round(trial.intermediate_values[i], 5) for i in sorted(trial.intermediate_values)]
        for trial in ledger.trials
    ]


def sampled(trial: optuna.Trial, made: Recipe) -> dict[str, Any]:
    """The space: loss, optimiser, schedule and dropout as every space has them, small encoders."""
    found = branches.loss(trial) | branches.optimiser(trial) | branches.schedule(trial, made)
    branches.dropout(trial)
    trial.suggest_int("model.options.kernel_size", 3, 7, step=2)
    width = trial.suggest_categorical("space.tcn_width", [8, 16, 32])
    depth = trial.suggest_int("space.tcn_depth", 1, 2)
    return found | {"model.options.channels": {name: [width] * depth for name in made.streams}}


class AtOnce:
    """Val's score from one forward pass; per clip, as clips of any length need it, takes longer."""

    def __init__(self, job: TrainJob) -> None:
        windows = [
            job.val.window(i, 0, clip.num_ticks, list(job.streams))
            for i, clip in enumerate(job.val.clips)
        ]
        self._batch = collate(windows)
        loop = TrainingLoop(job)
        for _ in range(2):
            model = loop.scored_model
            here = {"device": loop.device, "workers": loop.workers}
            key = "val_weighted_f1"
            assert val_scores(model, job, **here)[key] == self(model, job, **here)[key]
            loop._train_epoch()

    def __call__(self, model: Any, job: TrainJob, **where: Any) -> dict[str, float]:
        """Weighted F1 by mean logits, for the selection and in place of the other rules'."""
        batch = self._batch
        model.eval()
        with torch.inference_mode():
            logits_NTC = model(batch.streams, batch.present, batch.valid_BT).double().numpy()
        predicted_N = logits_NTC.mean(1).argmax(-1)
        matrix_CC = confusion(batch.label_B.tolist(), predicted_N.tolist(), job.num_classes)
        value = float(find_metric("weighted_f1")(matrix_CC))
        return {f"val_{kind}weighted_f1": value for kind in ("", *(f"{k}_" for k in CLIP_RULES))}


def recipe(job: TrainJob, *, seed: int) -> Recipe:
    """The job's model, training and streams; a search as the defaults have it."""
    return Recipe.model_validate(
        {
            "name": "made-up",
            "seed": seed,
            "streams": {name: {"encoder": name} for name in job.streams},
            "model": job.model.model_dump(),
            "train": job.settings.model_dump(),
        }
    )


def made_up_job(folder: Path) -> TrainJob:
    """The baseline on the made-up clips; the same in every call."""
    rng = np.random.default_rng(0)
    means = {
        name: SIGNAL[name] * rng.standard_normal((NUM_CLASSES, width)) / np.sqrt(width)
        for name, width in STREAMS.items()
    }
    train, val = (made_up(folder / split, means, rng) for split in NUM_CLIPS)
    return make_job(
        train,
        val,
        model=("concat", {}),
        settings={"window": NUM_TICKS, "hop": NUM_TICKS, "batch_size": 32},
        num_classes=NUM_CLASSES,
    )


def made_up(
    folder: Path, means: dict[str, NDArray[np.float64]], rng: np.random.Generator
) -> FeatureArrays:
    """Clips of every class in turn; a stream shows it at some ticks, below noise of two kinds."""
    num_clips = NUM_CLIPS[folder.name]
    labels_N = np.arange(num_clips) % NUM_CLASSES
    streams = {}
    for name, mean_CD in means.items():
        width = mean_CD.shape[1]
        shown_NT1 = rng.random((num_clips, NUM_TICKS, 1)) < SHARE_OF_TICKS
        clip_N1D = CLIP_NOISE * rng.standard_normal((num_clips, 1, width))
        tick_NTD = rng.standard_normal((num_clips, NUM_TICKS, width))
        values_NTD = shown_NT1 * mean_CD[labels_N][:, None] + clip_N1D + tick_NTD
        streams[name] = values_NTD.reshape(-1, width)
    clips = [
        Labelled(f"{folder.name}{i}", f"group{i // 4}", int(label), NUM_TICKS)
        for i, label in enumerate(labels_N)
    ]
    return write_arrays(folder, clips, streams)


if __name__ == "__main__":
    main()
