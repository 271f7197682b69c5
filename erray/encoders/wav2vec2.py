"""Voice stream of a self-supervised speech model: wav2vec 2.0, HuBERT, WavLM and their kin.

Any model of transformers that reads a waveform (Baevski et al. 2020, Hsu et al. 2021, Chen et al.
2022). A long sound is cut in overlapping chunks of one length, of which the middles are kept.
Batches hold inputs of equal length only: several of these models normalise over the whole input
(group norm), so that padding one clip to the length of another would change its values.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from erray.encoders.devices import check_device, pick_device
from erray.encoders.pretrained import read_model, read_part, refusal
from erray.encoders.sound_chunks import FrameGrid, cut_sound, equal_batches
from erray.encoders.voice_ticks import frames_to_ticks, within_sound
from erray.errors import UserError
from erray.hub import local_model, model_sha256
from erray.records import Stream, VoiceSample

RATE_HZ = 16000
BATCH_SAMPLES = 8 * 20 * RATE_HZ  # of one forward: eight chunks of the default length
NEEDED_FILES = ("*.safetensors", "config.json", "preprocessor_config.json")
DEFAULT_MODEL = "facebook/wav2vec2-base-960h"


@dataclass(frozen=True)
class Wav2vec2Config:
    """Which model, which of its layers, how a long sound is cut.

    Attributes:
        model: name on the hub (found in the local cache) or folder.
        layers: hidden layers whose mean is the feature; 0 enters the first transformer layer, -1
            is the last; None: all. Emotion sits in the middle layers more than in the last
            (Pepino et al. 2021).
        chunk_s: longest input; 20 s is the longest crop wav2vec 2.0 was pretrained on.
        overlap_s: what two neighbouring chunks share; half of it is dropped from each.
        device: such as ``cpu`` or ``cuda``; None: a GPU where there is one. Changes values within
            rounding.
    """

    model: str = DEFAULT_MODEL
    layers: tuple[int, ...] | None = None
    chunk_s: float = 20.0
    overlap_s: float = 4.0
    device: str | None = None

    def __post_init__(self) -> None:
        check_device(self.device)
        layers = self.layers
        if layers is not None:
            whole = isinstance(layers, list | tuple) and all(type(i) is int for i in layers)
            if not whole or not layers:
                raise UserError(f"expected layers as a list of whole numbers, found {layers!r}")
            object.__setattr__(self, "layers", tuple(layers))  # YAML has no tuples
        if not (1.0 <= self.chunk_s <= 120.0 and 0.0 <= self.overlap_s <= self.chunk_s / 2):
            raise UserError(
                "expected chunk_s from 1 to 120 and overlap_s up to half of it, "
                f"found {self.chunk_s} and {self.overlap_s}"
            )


class Wav2vec2Encoder:
    """Sound of a clip to the hidden states of a speech model, the mean of a tick's frames.

    Ticks outside the sound are absent; so is a sound shorter than one frame of the model (25 ms).
    """

    name = "wav2vec2"
    version = 1
    modality = "voice"
    config_type = Wav2vec2Config
    licence = "Apache-2.0 (the default model); that of the model"
    source = f"https://huggingface.co/{DEFAULT_MODEL}"

    def __init__(self, config: Wav2vec2Config | None = None) -> None:
        self.config = config or Wav2vec2Config()
        self._refuse = refusal(self.name, self.config.model)

    @cached_property
    def weights_sha256(self) -> str:
        """Hash of weights, configuration and preprocessing.

        Raises:
            UserError: the model is not on this machine.
        """
        return model_sha256(self._folder, NEEDED_FILES)

    @property
    def width(self) -> int:
        """Values per tick."""
        return int(self._model_config.hidden_size)

    @cached_property
    def _folder(self) -> Path:
        model = self.config.model
        advice = f"download it with `hf download {model}`, or give the path of a folder"
        return local_model(model, needs=NEEDED_FILES, advice=advice)

    @cached_property
    def _model_config(self) -> Any:
        from transformers import AutoConfig  # noqa: PLC0415 - seconds, and not every plan needs it

        found = read_part(
            AutoConfig,
            self._folder,
            expected="a model that transformers knows",
            refuse=self._refuse,
        )
        if not (hasattr(found, "conv_kernel") and hasattr(found, "conv_stride")):
            raise self._refuse(
                "a model that reads a waveform (wav2vec2, hubert, wavlm ...)", found.model_type
            )
        num_layers = found.num_hidden_layers
        outside = [i for i in self.config.layers or () if not -num_layers - 1 <= i <= num_layers]
        if outside:
            raise UserError(
                f"wav2vec2: expected layers from {-num_layers - 1} to {num_layers} of "
                f"{self.config.model!r}, found {outside[0]}"
            )
        return found

    @cached_property
    def _extractor(self) -> Any:
        from transformers import AutoFeatureExtractor  # noqa: PLC0415

        extractor = read_part(
            AutoFeatureExtractor,
            self._folder,
            expected="the preprocessing of a waveform",
            refuse=self._refuse,
        )
        if extractor.model_input_names[0] != "input_values":
            raise self._refuse("the preprocessing of a waveform", type(extractor).__name__)
        if extractor.sampling_rate != RATE_HZ:
            raise self._refuse(f"a model for {RATE_HZ} Hz", f"{extractor.sampling_rate} Hz")
        return extractor

    @cached_property
    def _model(self) -> Any:
        self._model_config  # noqa: B018 - refuses a model of another kind before it is read
        return read_model(
            self._folder,
            unused=["masked_spec_embed"],  # of the pretraining; published files come without it
            device=pick_device(self.config.device),
            refuse=self._refuse,
        )

    @cached_property
    def _grid(self) -> FrameGrid:
        seen, step = 1, 1
        for kernel, stride in zip(
            self._model_config.conv_kernel, self._model_config.conv_stride, strict=True
        ):
            seen += (kernel - 1) * step
            step *= stride
        return FrameGrid(seen, step)

    def __call__(self, batch: list[VoiceSample]) -> list[Stream]:
        if not batch:
            return []
        inputs = [self._input(sample) for sample in batch]
        grid = self._grid
        size = int(self.config.chunk_s * RATE_HZ) // grid.step
        margin = int(self.config.overlap_s * RATE_HZ) // grid.step // 2
        chunks = [
            chunk
            for clip, wave in enumerate(inputs)
            for chunk in cut_sound(clip, len(wave), grid, size=size, margin=margin)
        ]
        frames = [np.zeros((grid.count(len(wave)), self.width), np.float32) for wave in inputs]
        for together in equal_batches(chunks, BATCH_SAMPLES):
            waves = [inputs[c.clip][c.start_sample :][: c.num_samples] for c in together]
            for chunk, hidden_FD in zip(together, self._forward(np.stack(waves)), strict=True):
                first, last = chunk.frames
                kept = hidden_FD[chunk.skip : chunk.skip + last - first]
                frames[chunk.clip][first:last] = kept
        return [self._stream(s, frames_FD) for s, frames_FD in zip(batch, frames, strict=True)]

    def _input(self, sample: VoiceSample) -> NDArray[np.float32]:
        """The waveform as the model's own preprocessing gives it, over the whole clip at once."""
        if sample.waveform_N is None or len(sample.waveform_N) < self._grid.seen:
            return np.zeros(0, np.float32)
        if sample.rate_hz != RATE_HZ:
            raise ValueError(f"expected a waveform at {RATE_HZ} Hz, found {sample.rate_hz} Hz")
        made = self._extractor(sample.waveform_N, sampling_rate=RATE_HZ, return_tensors="np")
        return np.asarray(made["input_values"][0], np.float32)

    def _forward(self, waves_BN: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the mean of the chosen layers, [B, F, D]."""
        import torch  # noqa: PLC0415

        with torch.inference_mode():
            x_BN = torch.from_numpy(waves_BN).to(self._model.device)
            hidden = self._model(x_BN, output_hidden_states=True).hidden_states
            chosen = self.config.layers or range(len(hidden))
            mean_BFD = torch.stack([hidden[i] for i in chosen]).mean(dim=0)
        expected = self._grid.count(waves_BN.shape[1])
        if mean_BFD.shape[1] != expected:
            raise UserError(
                f"wav2vec2: expected {expected} frames of {waves_BN.shape[1]} samples, found "
                f"{mean_BFD.shape[1]}; {self.config.model!r} changes the rate between its layers"
            )
        return np.asarray(mean_BFD.cpu().numpy())

    def _stream(self, sample: VoiceSample, frames_FD: NDArray[np.float32]) -> Stream:
        present_T = within_sound(sample) & (len(frames_FD) > 0)
        values_TD = np.zeros((len(present_T), self.width), np.float32)
        if present_T.any():
            centres_s_F = sample.start_s + self._grid.centres(len(frames_FD)) / RATE_HZ
            times_s_T = sample.frame_times_s_T
            values_TD[present_T] = frames_to_ticks(frames_FD, centres_s_F, times_s_T)[present_T]
        return Stream(values_TD, present_T)
