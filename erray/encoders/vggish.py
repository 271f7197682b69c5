"""Voice stream of VGGish (Hershey et al. 2017): 128 values of 0.96 s of sound around every tick.

The network of the released torch file, without its PCA and quantisation, over the log-mel rows of
``erray.encoders.logmel``. The rows of a clip are computed once; an example is a view of 96 of
them, and the network sees each start row once, however many ticks share it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from erray.encoders.devices import check_device, pick_device
from erray.encoders.logmel import HOP_LENGTH, NUM_BANDS, RATE_HZ, WINDOW_LENGTH, log_mel
from erray.encoders.voice_ticks import within_sound
from erray.encoders.weights import check_tensors, manifest, path_of, read_torch, sha256_of
from erray.errors import UserError
from erray.records import Stream, VoiceSample

EXAMPLE_ROWS = 96
ROWS_PER_S = RATE_HZ // HOP_LENGTH
# middle of the sound that an example sees, in seconds after its first sample
EXAMPLE_CENTRE_S = ((EXAMPLE_ROWS - 1) * HOP_LENGTH + WINDOW_LENGTH) / 2 / RATE_HZ
EXTENSION_S = 1
WIDTH = 128
CHANNELS = ((64,), (128,), (256, 256), (512, 512))  # of the convolutions between two poolings
ALIGNMENTS = ("centre", "published")


@dataclass(frozen=True)
class VggishConfig:
    """Where a tick lies in its example, and whose weights.

    Attributes:
        align: ``centre`` has the tick in the middle of its 0.96 s; ``published`` starts them at
            the tick, as arXiv 2407.12927 does, so that features run half a second ahead.
        weights: a name of the manifest, or the path of a torch file in the released layout.
        batch_size: examples per forward call; changes no value.
        device: such as ``cpu`` or ``cuda``; None: a GPU where there is one. Changes values within
            rounding.
    """

    align: str = "centre"
    weights: str = "vggish"
    batch_size: int = 32
    device: str | None = None

    def __post_init__(self) -> None:
        check_device(self.device)
        if self.align not in ALIGNMENTS:
            raise UserError(f"expected align {' or '.join(ALIGNMENTS)}, found {self.align!r}")
        if self.batch_size < 1:
            raise UserError(f"expected a batch_size of 1 or more, found {self.batch_size}")


@dataclass(frozen=True)
class Examples:
    """What the network sees of one clip, and which tick takes which answer.

    Attributes:
        views_RFB: a view of 96 log-mel rows for every row that one can start at.
        starts_S: start rows that ticks ask for, each once.
        which_P: index into ``starts_S`` for every present tick.
    """

    views_RFB: NDArray[np.float32]
    starts_S: NDArray[np.int64]
    which_P: NDArray[np.int64]


def make_network() -> Any:
    """Return the layers ``features`` and ``embeddings`` under the released names, without values.

    On torch's meta device: 72,141,184 numbers that a state dict is about to bring.
    """
    import torch  # noqa: PLC0415 - a plan needs no torch
    from torch import nn  # noqa: PLC0415

    with torch.device("meta"):
        features: list[nn.Module] = []
        num_in = 1
        for block in CHANNELS:
            for num_out in block:
                features += [nn.Conv2d(num_in, num_out, 3, padding=1), nn.ReLU()]
                num_in = num_out
            features.append(nn.MaxPool2d(2))
        flat = num_in * (EXAMPLE_ROWS // 16) * (NUM_BANDS // 16)
        dense = [nn.Linear(flat, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU()]
        return nn.ModuleDict(
            {
                "features": nn.Sequential(*features),
                "embeddings": nn.Sequential(*dense, nn.Linear(4096, WIDTH)),
            }
        )


def example_starts(times_s_T: NDArray[np.float64], align: str) -> NDArray[np.int64]:
    """Return the first log-mel row of each tick's example; times count from the sound's start.

    Row 0 is the first of the sound; ``centre`` gives negative rows at its beginning.
    """
    earlier_s = EXAMPLE_CENTRE_S if align == "centre" else 0.0
    return np.rint((times_s_T - earlier_s) * ROWS_PER_S).astype(np.int64)


class VggishEncoder:
    """Sound of a clip to the network's output at every tick within the sound.

    The sound is continued by 1 s of its last sample, as published, and before its start by 1 s of
    its first one, which ``centre`` looks back to.
    """

    name = "vggish"
    version = 1
    modality = "voice"
    config_type = VggishConfig
    licence = manifest()["vggish"].licence
    source = manifest()["vggish"].files[0].source
    width = WIDTH

    def __init__(self, config: VggishConfig | None = None) -> None:
        self.config = config or VggishConfig()

    @cached_property
    def weights_sha256(self) -> str:
        """Hash of the weights.

        Raises:
            UserError: the file is missing or altered.
        """
        return sha256_of(path_of(self.config.weights))

    @cached_property
    def _network(self) -> Any:
        import torch  # noqa: PLC0415

        network = make_network()
        path = path_of(self.config.weights)
        state = read_torch(path, self.weights_sha256)
        check_tensors(path, network.state_dict(), state)
        network.load_state_dict({name: x.float() for name, x in state.items()}, assign=True)
        # 1.2 times the speed on a CPU, and the order that the flattening wants
        network["features"].to(memory_format=torch.channels_last)
        return network.requires_grad_(False).to(pick_device(self.config.device)).eval()

    def __call__(self, batch: list[VoiceSample]) -> list[Stream]:
        examples = [self._examples(sample) for sample in batch]
        values_SD = self._embed(examples)
        streams, first = [], 0
        for sample, one in zip(batch, examples, strict=True):
            present_T = within_sound(sample)
            values_TD = np.zeros((len(present_T), WIDTH), np.float32)
            values_TD[present_T] = values_SD[first + one.which_P]
            first += len(one.starts_S)
            streams.append(Stream(values_TD, present_T))
        return streams

    def _examples(self, sample: VoiceSample) -> Examples:
        present_T = within_sound(sample)
        if not present_T.any():
            empty = np.zeros((0, EXAMPLE_ROWS, NUM_BANDS), np.float32)
            return Examples(empty, np.zeros(0, np.int64), np.zeros(0, np.int64))
        assert sample.waveform_N is not None  # no tick lies within no sound
        extended = np.pad(sample.waveform_N, EXTENSION_S * RATE_HZ, mode="edge")
        rows_RB = log_mel(extended, sample.rate_hz).astype(np.float32)
        views_RBF = sliding_window_view(rows_RB, EXAMPLE_ROWS, axis=0)
        since_s_P = sample.frame_times_s_T[present_T] - sample.start_s
        starts_P = example_starts(since_s_P, self.config.align) + EXTENSION_S * ROWS_PER_S
        starts_S, which_P = np.unique(starts_P, return_inverse=True)
        return Examples(views_RBF.transpose(0, 2, 1), starts_S, which_P)

    def _embed(self, examples: list[Examples]) -> NDArray[np.float32]:
        """Return [S, 128] for the starts of all clips, a batch of them at a time."""
        places = [(one, start) for one in examples for start in one.starts_S]
        values_SD = np.zeros((len(places), WIDTH), np.float32)
        for first in range(0, len(places), self.config.batch_size):
            batch = places[first : first + self.config.batch_size]
            rows_SFB = np.stack([one.views_RFB[start] for one, start in batch])
            values_SD[first : first + len(batch)] = self.embed(rows_SFB)
        return values_SD

    def embed(self, rows_SFB: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the network's output [S, 128] of examples [S, 96, 64]."""
        import torch  # noqa: PLC0415

        network = self._network
        device = network["embeddings"][0].weight.device
        with torch.inference_mode():
            maps_SCFB = network["features"](torch.from_numpy(rows_SFB)[:, None].to(device))
            # the released network flattens time, then band, then channel
            flat_SN = maps_SCFB.permute(0, 2, 3, 1).flatten(1)
            return np.asarray(network["embeddings"](flat_SN).cpu().numpy())
