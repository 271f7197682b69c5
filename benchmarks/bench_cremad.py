"""Fusion of two real modalities: what human raters of CREMA-D heard and saw, to what was acted.

Two streams of one step: the shares of raters who chose each of six emotions from the voice alone
and from the face alone; the class is the emotion that the actor was to show. Five folds, no actor
in train and test; within train some actors choose the epoch. Every clip is predicted once, by the
model that did not see its actor.

Each fusion model is trained on both streams with modality dropout and tested with both, and with
one absent; then on one stream alone. Logistic regression on the shares side by side is the mark.
The leak: the same with clips, not actors, dealt to the folds (and to what chooses the epoch),
against the folds by actor on the same clips.

    .venv/bin/python benchmarks/bench_cremad.py [--models lfan can] [--seeds 1] [--save]

The votes are read from a folder `shared` beside the repository; without it this says so and ends.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import HERE, report
from numpy.typing import NDArray
from saving import add_save
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, GroupShuffleSplit, KFold, ShuffleSplit
from training_jobs import Labelled, make_job, predict, train_best, write_arrays

from erray.metrics import accuracy
from erray.models import MODELS
from erray.statistics import Resamples

DATA = HERE.parents[1] / "shared" / "data" / "cremad_votes.npz"
STREAMS = ("voice", "face")
NUM_FOLDS, INNER_SHARE, NUM_CLASSES = 5, 0.15, 6
SETTINGS = {
    "epochs": 8,
    "average_decay": 0.98,
    "batch_size": 128,
    "select": {"metric": "accuracy"},
    "optimiser": {"name": "adam", "lr": 5e-3},
    "schedule": {"name": "cosine", "options": {"t_max": 8}},
}
MODALITY_DROPOUT = 0.3
SMALL = {"kernel_size": 1, "channels": dict.fromkeys(STREAMS, (32,))}
OPTIONS: dict[
    str, dict[str, Any]
] = {  # sizes for 12 numbers and one step; chosen once, before any test fold was looked at
    "concat": SMALL,
    "lfan": SMALL | {"modal_dim": 16},
    "can": SMALL | {"modal_dim": 32},
    "jmt": SMALL | {"modal_dim": 32},
    "mt": SMALL | {"modal_dim": 32},
}
Folds = list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]


@dataclass(frozen=True)
class Votes:
    """The clips [N] of the corpus."""

    shares: dict[str, NDArray[np.float64]]
    """Stream to shares of raters, [N, 6]."""
    intended_N: NDArray[np.int64]
    actor_N: NDArray[np.int64]
    clip_id_N: NDArray[np.str_]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=sorted(OPTIONS), default=sorted(OPTIONS))
    parser.add_argument("--leak", choices=sorted(OPTIONS), default="lfan", help="model of the leak")
    parser.add_argument("--seeds", type=int, default=1, help="models whose probabilities are meant")
    add_save(parser)
    options = parser.parse_args()
    if not DATA.is_file():
        sys.exit(f"skipped: no {DATA.name} in {DATA.parent}")
    torch.set_num_threads(1)
    votes = read_votes(DATA)
    folds, mixed = folds_by_actor(votes), folds_by_clip(votes)
    linear = {name: regress(votes, folds, streams) for name, streams in linear_inputs().items()}
    fused = {}
    for name in options.models:
        fused[name] = run(name, votes, folds, num_seeds=options.seeds)
        sys.stderr.write(f"{name}: {scores(votes, fused[name])}\n")
    leaking = {
        "logistic_regression": regress(votes, mixed, STREAMS),
        options.leak: run(options.leak, votes, mixed, num_seeds=options.seeds, parts=["both"])[
            "both"
        ],
    }
    honest = {"logistic_regression": linear["both"]}
    if options.leak in fused:
        honest[options.leak] = fused[options.leak]["both"]
    content = {
        "clips": len(votes.intended_N),
        "actors": len(np.unique(votes.actor_N)),
        "seeds": options.seeds,
        "settings": SETTINGS | {"modality_dropout": MODALITY_DROPOUT},
        "logistic_regression": scores(votes, linear),
        "models": {
            name: differences(votes, found, linear["both"]) for name, found in fused.items()
        },
        "leak_mixed_minus_by_actor": {
            name: difference(votes, leaking[name], found) for name, found in honest.items()
        },
    }
    report("cremad", content, save=options.save)


def read_votes(path: Path) -> Votes:
    """Read the file; votes become shares of the raters of a clip and modality."""
    with np.load(path) as file:
        counts_NMC = file["votes"].astype(np.float64)
        shares_NMC = counts_NMC / counts_NMC.sum(-1, keepdims=True)
        assert file["modalities"][:2].tolist() == list(STREAMS), file["modalities"]
        return Votes(
            shares={name: shares_NMC[:, m] for m, name in enumerate(STREAMS)},
            intended_N=file["intended"].astype(np.int64),
            actor_N=file["actor"].astype(np.int64),
            clip_id_N=file["clip"],
        )


def folds_by_actor(votes: Votes) -> Folds:
    """Train, val and test positions; no actor in two of them."""
    folds = []
    splits = GroupKFold(NUM_FOLDS).split(votes.actor_N, groups=votes.actor_N)
    for fold, (rest, test) in enumerate(splits):
        inner = GroupShuffleSplit(1, test_size=INNER_SHARE, random_state=fold)
        train, val = next(inner.split(rest, groups=votes.actor_N[rest]))
        folds.append((rest[train], rest[val], test))
    return folds


def folds_by_clip(votes: Votes) -> Folds:
    """The same shares of clips without regard to their actors."""
    folds = []
    splits = KFold(NUM_FOLDS, shuffle=True, random_state=0).split(votes.actor_N)
    for fold, (rest, test) in enumerate(splits):
        inner = ShuffleSplit(1, test_size=INNER_SHARE, random_state=fold)
        train, val = next(inner.split(rest))
        folds.append((rest[train], rest[val], test))
    return folds


def linear_inputs() -> dict[str, Sequence[str]]:
    return {"both": STREAMS, **{name: (name,) for name in STREAMS}}


def regress(votes: Votes, folds: Folds, streams: Sequence[str]) -> NDArray[np.int64]:
    """Classes [N] by logistic regression on the shares; val is part of what it learns from."""
    x_ND = np.concatenate([votes.shares[name] for name in streams], axis=1)
    predicted_N = np.zeros(len(x_ND), np.int64)
    for train, val, test in folds:
        seen = np.sort(np.concatenate([train, val]))
        model = LogisticRegression(max_iter=2000).fit(x_ND[seen], votes.intended_N[seen])
        predicted_N[test] = model.predict(x_ND[test])
    return predicted_N


def run(
    name: str,
    votes: Votes,
    folds: Folds,
    *,
    num_seeds: int,
    parts: Sequence[str] = ("both", *STREAMS),
) -> dict[str, NDArray[np.int64]]:
    """Classes [N] of a fusion model.

    ``both``, ``voice``, ``face``: trained and tested on these streams; ``both_with_face_only``:
    trained on both, tested with the other absent.
    """
    found: dict[str, NDArray[np.float64]] = {}
    shape = (len(votes.intended_N), NUM_CLASSES)
    for train, val, test in folds:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            seen = [arrays(place / k, votes, rows) for k, rows in (("train", train), ("val", val))]
            tests = {"": arrays(place / "test", votes, test)}
            for missing, kept in (STREAMS, STREAMS[::-1]):
                tests[f"_with_{kept}_only"] = arrays(
                    place / f"test_{kept}", votes, test, absent=[missing]
                )
            for seed in range(num_seeds):
                for part in parts:
                    streams = STREAMS if part == "both" else (part,)
                    model, job = fit(name, seen, streams, seed)
                    for case in tests if part == "both" else [""]:
                        total_NC = found.setdefault(part + case, np.zeros(shape))
                        total_NC[test] += predict(model, tests[case], job)
    return {case: total_NC.argmax(-1) for case, total_NC in found.items()}


def fit(name: str, seen: list[Any], streams: Sequence[str], seed: int) -> tuple[Any, Any]:
    """Train a model and its job by erray's loop; dropout of streams where there are two."""
    chosen = dict(OPTIONS[name])
    if "channels" in chosen:
        chosen["channels"] = {k: chosen["channels"][k] for k in streams}
    dropout = MODALITY_DROPOUT if len(streams) > 1 else 0.0
    job = make_job(
        *seen,
        model=(name, chosen),
        settings=SETTINGS | {"modality_dropout": dropout},
        num_classes=NUM_CLASSES,
        streams=streams,
        seed=seed,
    )
    return train_best(job), job


def arrays(
    folder: Path, votes: Votes, rows: NDArray[np.int64], *, absent: Sequence[str] = ()
) -> Any:
    clips = [
        Labelled(str(votes.clip_id_N[i]), str(votes.actor_N[i]), int(votes.intended_N[i]))
        for i in rows
    ]
    streams = {name: x_NC[rows] for name, x_NC in votes.shares.items()}
    return write_arrays(folder, clips, streams, absent=absent)


def scores(votes: Votes, found: dict[str, NDArray[np.int64]]) -> dict[str, float]:
    return {name: round(float((p_N == votes.intended_N).mean()), 4) for name, p_N in found.items()}


def difference(votes: Votes, a_N: NDArray[np.int64], b_N: NDArray[np.int64]) -> dict[str, float]:
    """Accuracy of a minus that of b on the same clips; actors are resampled as a whole."""
    resamples = Resamples(
        votes.intended_N, [a_N, b_N], NUM_CLASSES, groups=votes.actor_N, num_samples=10_000
    )
    found = asdict(resamples.difference(accuracy))
    return {k: round(x, 4) for k, x in found.items() if x is not None}


def differences(
    votes: Votes, found: dict[str, NDArray[np.int64]], linear_N: NDArray[np.int64]
) -> dict[str, Any]:
    """Accuracies, and the three differences that the marks are about."""
    return {
        "accuracy": scores(votes, found),
        "both_minus_logistic_regression": difference(votes, found["both"], linear_N),
        "missing_minus_trained_alone": {
            kept: difference(votes, found[f"both_with_{kept}_only"], found[kept])
            for kept in STREAMS
        },
    }


assert set(OPTIONS) <= set(MODELS), sorted(MODELS)

if __name__ == "__main__":
    main()
