"""Encoders on one core: realtime factor of every stream, and what MELD costs.

Networks have random weights: what they cost does not depend on them. Every encoder is an entry of
``ENTRIES``: a name and a function that makes the encoder (its weights in a temporary folder) and a
sample of so many seconds. Besides: what decoding the crops costs, which every face encoder does for
itself.
"""

from __future__ import annotations

import io
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from facenet_pytorch import InceptionResnetV1
from measure import arguments, cpu_s, report, summary
from PIL import Image
from skimage.data import astronaut
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizerFast,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
)

from erray.encoders import make_encoder
from erray.encoders.ir50_net import Ir50
from erray.encoders.vggish import make_network
from erray.faces.crops import decode_crops
from erray.records import FaceSample, TextSample, VoiceSample

TICKS_PER_S = 25.0
CROP_PX, JPEG_QUALITY = 112, 92
MELD_S, MELD_TICKS = 13.7 * 3600, 1_200_000

Entry = Callable[[Path], tuple[Any, Any, float]]
"""Folder for weights to encoder, sample (or list of them) and the seconds of it."""


def crops(num_crops: int) -> np.ndarray:
    """A face that moves a little, as aligned crops [N, 112, 112, 3]."""
    face = Image.fromarray(astronaut()[0:224, 110:334]).resize((CROP_PX, CROP_PX))
    return np.stack([np.roll(np.asarray(face), i % 7, axis=1) for i in range(num_crops)])


def face_sample(num_crops: int) -> FaceSample:
    return FaceSample(num_crops, np.arange(num_crops, dtype=np.int32), crops(num_crops))


def saved(folder: Path, name: str, net: nn.Module) -> str:
    """Path of a checkpoint with the net's random weights."""
    path = folder / f"{name}.pth"
    torch.save(net.state_dict(), path)
    return str(path)


def hog(folder: Path) -> tuple[Any, Any, float]:
    return make_encoder("hog", {}), face_sample(500), 500 / TICKS_PER_S


def ir50(folder: Path) -> tuple[Any, Any, float]:
    options = {"weights": saved(folder, "ir50", Ir50()), "device": "cpu"}
    return make_encoder("ir50", options), face_sample(128), 128 / TICKS_PER_S


def facenet(folder: Path) -> tuple[Any, Any, float]:
    options = {"weights": saved(folder, "facenet", InceptionResnetV1()), "device": "cpu"}
    return make_encoder("facenet", options), face_sample(64), 64 / TICKS_PER_S


def voice_sample(length_s: float) -> VoiceSample:
    """Noise that is voiced half of the time: what prosody costs depends on it a little."""
    times_s_T = np.arange(0, length_s, 1 / TICKS_PER_S)
    since_s_N = np.arange(int(length_s * 16_000)) / 16_000
    buzz_N = np.sign(np.sin(2 * np.pi * 150 * since_s_N)) * (since_s_N % 1 < 0.5)
    noise_N = np.random.default_rng(0).normal(size=len(since_s_N))
    return VoiceSample(times_s_T, (0.1 * buzz_N + 0.01 * noise_N).astype(np.float32), 16_000, 0.0)


def logmel(folder: Path) -> tuple[Any, Any, float]:
    return make_encoder("logmel", {}), voice_sample(60), 60.0


def prosody(folder: Path) -> tuple[Any, Any, float]:
    return make_encoder("prosody", {}), voice_sample(60), 60.0


def vggish(folder: Path) -> tuple[Any, Any, float]:
    network = make_network().to_empty(device="cpu")
    for x in network.parameters():
        nn.init.normal_(x, std=0.01)
    options = {"weights": saved(folder, "vggish", network), "device": "cpu"}
    return make_encoder("vggish", options), voice_sample(4), 4.0


def wav2vec2(folder: Path) -> tuple[Any, Any, float]:
    """Of the size of the default model; 20 s, the longest sound that it hears at once."""
    Wav2Vec2Model(Wav2Vec2Config()).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    options = {"model": str(folder), "device": "cpu"}
    return make_encoder("wav2vec2", options), voice_sample(20), 20.0


MINUTE_OF_WORDS = [f"word{i}" for i in range(150)]  # the pace of English speech


def saved_bert(folder: Path, config: BertConfig) -> str:
    """Folder of a BERT with random weights, for which each of the words is one token."""
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {piece: i for i, piece in enumerate([*specials, *MINUTE_OF_WORDS])}
    BertTokenizerFast(vocab=vocabulary).save_pretrained(folder)
    BertModel(config).save_pretrained(folder)
    return str(folder)


def utterances() -> list[TextSample]:
    """A minute of speech in 20 utterances as long as MELD's, of 3 s each."""
    times_s_T = np.arange(0, 3, 1 / TICKS_PER_S)
    texts = [" ".join(MINUTE_OF_WORDS[k::20]) for k in range(20)]
    return [TextSample(times_s_T, text) for text in texts]


def bert(folder: Path) -> tuple[Any, Any, float]:
    """Of the size of the default model."""
    options = {"model": saved_bert(folder, BertConfig()), "device": "cpu"}
    return make_encoder("bert", options), utterances(), 60.0


def sentence(folder: Path) -> tuple[Any, Any, float]:
    """Of the size of the default model, all-MiniLM-L6-v2."""
    config = BertConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    )
    options = {"model": saved_bert(folder, config), "device": "cpu"}
    return make_encoder("sentence", options), utterances(), 60.0


def hashed(folder: Path) -> tuple[Any, Any, float]:
    times_s_T = np.arange(0, 60, 1 / TICKS_PER_S)
    return make_encoder("hash", {}), TextSample(times_s_T, " ".join(MINUTE_OF_WORDS)), 60.0


ENTRIES: dict[str, Entry] = {
    "hog": hog,
    "ir50": ir50,
    "facenet": facenet,
    "logmel": logmel,
    "prosody": prosody,
    "vggish": vggish,
    "wav2vec2": wav2vec2,
    "hash": hashed,
    "bert": bert,
    "sentence": sentence,
}


def timed(run: Callable[[], Any], repeats: int) -> list[float]:
    """CPU seconds of each repeat after one that warms up."""
    seconds = []
    for round_ in range(repeats + 1):
        start_s = cpu_s()
        run()
        if round_ > 0:
            seconds.append(cpu_s() - start_s)
    return seconds


def cost(entry: Entry, repeats: int) -> dict[str, Any]:
    """Realtime factor of one encoder and CPU hours for the whole of MELD."""
    with tempfile.TemporaryDirectory() as folder:
        encoder, sample, length_s = entry(Path(folder))
        batch = sample if isinstance(sample, list) else [sample]
        seconds = timed(lambda: encoder(batch), repeats)
    share = statistics.median(seconds) / length_s
    # face encoders cost by the crop, the others by the second
    meld_s = MELD_TICKS / TICKS_PER_S if isinstance(sample, FaceSample) else MELD_S
    return {
        "seconds_of_stream": round(length_s, 2),
        "realtime_factor": summary([length_s / x for x in seconds]),
        "ms_per_tick": round(1000 * share / TICKS_PER_S, 3),
        "meld_cpu_hours": round(share * meld_s / 3600, 2),
    }


def crop_decoding(repeats: int) -> dict[str, Any]:
    """What every face encoder spends on reading its crops again."""
    jpegs = []
    for crop_HWC in crops(256):
        file = io.BytesIO()
        Image.fromarray(crop_HWC).save(file, "JPEG", quality=JPEG_QUALITY, subsampling=0)
        jpegs.append(file.getvalue())
    row = {"ticks": list(range(len(jpegs))), "jpegs": jpegs}
    ms = 1000 * statistics.median(timed(lambda: decode_crops([row]), repeats)) / len(jpegs)
    return {
        "ms_per_crop": round(ms, 3),
        "meld_cpu_minutes": round(ms * MELD_TICKS / 60_000, 1),
    }


def main() -> None:
    options = arguments(__doc__, repeats=3)
    encoders = {name: cost(entry, options.repeats) for name, entry in ENTRIES.items()}
    content = {"encoders": encoders, "crop_decoding": crop_decoding(options.repeats)}
    report("encoders", content, save=options.save)


if __name__ == "__main__":
    main()
