"""MELD's emotions from its words alone: one utterance by itself, and with the dialogue before it.

An utterance is four vectors: that of the ``sentence`` encoder, mean and maximum over the tokens
that ``bert`` gives (the last four layers), mean of ``hash``; all of all-MiniLM-L6-v2, whose weights
come in a package (extra ``offline-text``), frozen.

- Alone: a clip of one step, trained by erray's own loop.
- With context: a dialogue is the sequence, an utterance a step with its own label, the models see
  the past alone. Either a step has the same vectors (`context`), or what models of utterances alone
  make of it (`stacked`: log probabilities; those of train come from models that were trained
  without the dialogue). A further stream says whether the speaker of 1, 2, 3 utterances ago spoke
  again. The loop for labels per step is in ``dialogue_training.py``.

Probabilities of several seeds are averaged. Model, sizes, rates, prior adjustment and epoch are
chosen on dev; then the chosen ones are scored on test, once: weighted F1 with an interval that
resamples dialogues, and the paired difference. Beside them TF-IDF of words and characters with
logistic regression, its one number chosen on dev.

    .venv/bin/python benchmarks/bench_meld_text.py [--models concat lfan] [--seeds 3] [--save]

MELD's CSV files are read from a folder `shared` beside the repository; without them, or without the
package, this says so and ends. Embedding takes some minutes the first time.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dialogue_training import step_probabilities, train_steps
from measure import report
from meld_words import Utterances, read_utterances
from numpy.typing import NDArray
from saving import add_save
from scipy.sparse import hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from training_jobs import Labelled, make_job, predict, train_best, write_arrays

from erray.labels import LABEL_SETS
from erray.metrics import score, weighted_f1
from erray.statistics import Resamples

LABELS = LABEL_SETS["basic7"]
STREAMS = ("sentence", "bert_mean", "bert_max", "hash")
SPLITS = ("train", "val", "test")
SETTINGS: dict[str, Any] = {
    "window": 100,
    "hop": 100,
    "average_decay": 0.99,
    "loss": {"logit_adjustment": 0.4},
}
ALONE = SETTINGS | {
    "epochs": 5,
    "batch_size": 64,
    "optimiser": {"name": "adamw", "lr": 1e-3, "weight_decay": 1e-2},
    "schedule": {"name": "cosine", "options": {"t_max": 5}},
}
CONTEXT = SETTINGS | {
    "epochs": 4,
    "batch_size": 8,
    "optimiser": {"name": "adamw", "lr": 5e-4, "weight_decay": 1e-2},
    "schedule": {"name": "cosine", "options": {"t_max": 4}},
}
STACKED = SETTINGS | {
    "epochs": 10,
    "batch_size": 16,
    "optimiser": {"name": "adamw", "lr": 3e-3, "weight_decay": 1e-2},
    "schedule": {"name": "cosine", "options": {"t_max": 10}},
}
NUM_FOLDS = 5
MODELS = ("concat", "lfan", "can")
INVERSE_PENALTIES = (1.0, 2.0, 4.0, 8.0)
Probabilities = dict[str, NDArray[np.float64]]
"""Split (val, test) to probabilities of its utterances, [N, C]."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument(
        "--seeds",
        type=int,
        default=3,
        choices=range(1, NUM_FOLDS + 1),
        help="models whose probabilities are meant",
    )
    add_save(parser)
    options = parser.parse_args()
    torch.set_num_threads(1)
    words = read_utterances()
    kinds = {"alone": alone, "context": with_context, "stacked": stacked}
    on_dev: dict[str, dict[str, float]] = {kind: {} for kind in kinds}
    found: dict[tuple[str, str], Probabilities] = {}
    for name in options.models:
        for kind, train in kinds.items():
            parts = [train(words, name, seed) for seed in range(options.seeds)]
            mean = {split: np.mean([part[split] for part in parts], axis=0) for split in parts[0]}
            found[kind, name] = mean
            on_dev[kind][name] = round(dev_score(words, mean["val"].argmax(-1)), 4)
            sys.stderr.write(f"{kind} {name} on dev: {on_dev[kind][name]}\n")
    chosen = {"alone": best_on_dev(on_dev, ["alone"])}
    chosen["context"] = best_on_dev(on_dev, ["context", "stacked"])
    baseline_val_N, baseline_N = tf_idf(words)
    predictions = {"tf_idf": baseline_N} | {
        kind: found[choice]["test"].argmax(-1) for kind, choice in chosen.items()
    }
    content = {
        "utterances": {split: len(words.of(split)) for split in SPLITS},
        "seeds": options.seeds,
        "settings": {"alone": ALONE, "context": CONTEXT, "stacked": STACKED},
        "weighted_f1_on_dev": on_dev | {"tf_idf": round(dev_score(words, baseline_val_N), 4)},
        "chosen": chosen,
    } | on_test(words, predictions)
    report("meld_text", content, save=options.save)


def best_on_dev(on_dev: Mapping[str, Mapping[str, float]], kinds: Sequence[str]) -> tuple[str, str]:
    """Kind and model of the best score; of equals the first."""
    scores = {(kind, name): x for kind in kinds for name, x in on_dev[kind].items()}
    return max(scores, key=lambda choice: scores[choice])


def labels(words: Utterances, rows: list[int]) -> NDArray[np.int64]:
    return np.array([LABELS.index(str(words.clips[i].label)) for i in rows])


def dev_score(words: Utterances, predicted_N: NDArray[np.int64]) -> float:
    return score("weighted_f1", labels(words, words.of("val")), predicted_N, len(LABELS.names))


def sizes(streams: tuple[str, ...], width: int, kernel: int, dropout: float) -> Any:
    """Options of a model that sees no future."""
    channels = dict.fromkeys(streams, (width,))
    return {"kernel_size": kernel, "dropout": dropout, "channels": channels}


def alone(words: Utterances, model: str, seed: int) -> Probabilities:
    """Every utterance a clip of one step; erray's loop."""
    return of_utterances(words, model, seed, {split: words.of(split) for split in SPLITS})


def of_utterances(
    words: Utterances, model: str, seed: int, rows: Mapping[str, list[int]]
) -> Probabilities:
    """Train on the ``train`` rows, choose by those of ``val``; probabilities of all but train."""
    with tempfile.TemporaryDirectory() as folder:
        arrays = {}
        for part, members in rows.items():
            clips = [
                Labelled(words.clips[i].clip_id, words.clips[i].group, y)
                for i, y in zip(members, labels(words, members).tolist(), strict=True)
            ]
            streams = {name: words.vectors[name][members] for name in STREAMS}
            arrays[part] = write_arrays(Path(folder) / part, clips, streams)
        job = make_job(
            arrays["train"],
            arrays["val"],
            model=(model, sizes(STREAMS, 128, 1, 0.3)),
            settings=ALONE,
            num_classes=len(LABELS.names),
            seed=seed,
        )
        best = train_best(job)
        return {part: predict(best, arrays[part], job) for part in arrays if part != "train"}


def with_context(words: Utterances, model: str, seed: int) -> Probabilities:
    """Every dialogue a sequence of the utterances' vectors."""
    vectors = {name: words.vectors[name] for name in STREAMS} | {"speaker": words.speaker_changes()}
    return of_dialogues(words, vectors, (model, sizes(tuple(vectors), 128, 3, 0.5)), CONTEXT, seed)


def stacked(words: Utterances, model: str, seed: int) -> Probabilities:
    """Every dialogue a sequence of what models of utterances alone say."""
    vectors = {"alone": estimates(words)[seed], "speaker": words.speaker_changes()}
    return of_dialogues(words, vectors, (model, sizes(tuple(vectors), 32, 3, 0.2)), STACKED, seed)


@cache
def estimates(words: Utterances) -> list[NDArray[np.float32]]:
    """Log probabilities of all utterances [N, C], one array for each of several models.

    Every train utterance is judged by the model that was trained without its dialogue, in all of
    the arrays alike; dev and test by another model in each, so that all splits are judged by one.
    """
    train = words.of("train")
    groups = [words.clips[i].group for i in train]
    judged = np.zeros((NUM_FOLDS, len(words.clips), len(LABELS.names)))
    for fold, (kept, left) in enumerate(GroupKFold(NUM_FOLDS).split(train, groups=groups)):
        rows = {"train": [train[i] for i in kept], "left": [train[i] for i in left]}
        rows |= {split: words.of(split) for split in ("val", "test")}
        for part, found in of_utterances(words, "concat", fold, rows).items():
            judged[slice(None) if part == "left" else fold, rows[part]] = found
    return list(np.log(judged + 1e-3).astype(np.float32))


def of_dialogues(
    words: Utterances,
    vectors: Mapping[str, NDArray[np.float32]],
    model: tuple[str, Any],
    settings: Mapping[str, Any],
    seed: int,
) -> Probabilities:
    """Train on dialogues with a label per step."""
    with tempfile.TemporaryDirectory() as folder:
        arrays, steps = {}, {}
        for split in SPLITS:
            dialogues = words.dialogues(split)
            rows = [i for members in dialogues for i in members]
            assert rows == words.of(split), "the utterances of a dialogue do not lie together"
            steps[split] = [labels(words, members) for members in dialogues]
            clips = [
                Labelled(words.clips[m[0]].group, words.clips[m[0]].group, int(y[0]), len(m))
                for m, y in zip(dialogues, steps[split], strict=True)
            ]
            streams = {name: values_ND[rows] for name, values_ND in vectors.items()}
            arrays[split] = write_arrays(Path(folder) / split, clips, streams)
        job = make_job(
            arrays["train"],
            arrays["val"],
            model=model,
            settings=settings,
            num_classes=len(LABELS.names),
            seed=seed,
        )
        best = train_steps(job, steps["train"], steps["val"])
        return {split: step_probabilities(best, arrays[split], job) for split in ("val", "test")}


def tf_idf(words: Utterances) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Classes of dev and test by logistic regression on words and characters."""
    rows = {split: words.of(split) for split in SPLITS}
    texts = {split: [words.clips[i].transcript or "" for i in rows[split]] for split in SPLITS}
    counters = (
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), min_df=3, sublinear_tf=True),
    )
    for counter in counters:
        counter.fit(texts["train"])
    x = {k: hstack([counter.transform(text) for counter in counters]) for k, text in texts.items()}
    models = [
        LogisticRegression(C=c, max_iter=300).fit(x["train"], labels(words, rows["train"]))
        for c in INVERSE_PENALTIES
    ]
    best = max(models, key=lambda model: dev_score(words, model.predict(x["val"])))
    return best.predict(x["val"]), best.predict(x["test"])


def on_test(words: Utterances, predictions: Mapping[str, NDArray[np.int64]]) -> dict[str, Any]:
    """Scores of test and their differences; whole dialogues are resampled."""
    rows, names = words.of("test"), list(predictions)
    resamples = Resamples(
        labels(words, rows),
        list(predictions.values()),
        len(LABELS.names),
        groups=[words.clips[i].group for i in rows],
        num_samples=10_000,
    )

    def rounded(values: Any) -> dict[str, float]:
        return {k: round(x, 4) for k, x in asdict(values).items() if x is not None}

    def difference(a: str, b: str) -> dict[str, float]:
        return rounded(resamples.difference(weighted_f1, names.index(a), names.index(b)))

    return {
        "weighted_f1_on_test": {
            name: rounded(resamples.interval(weighted_f1, k)) for k, name in enumerate(names)
        },
        "alone_minus_tf_idf": difference("alone", "tf_idf"),
        "context_minus_alone": difference("context", "alone"),
    }


if __name__ == "__main__":
    main()
