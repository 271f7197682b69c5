"""The training loss: weighted, focal, smoothed, prior-adjusted cross-entropy of frames and clips.

Shapes: B windows, T ticks, C classes. A frame is a valid tick of a labelled window. The clip loss
takes a window for a clip: its logits are the mean over its valid ticks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from erray.config import Loss
from erray.errors import UserError
from erray.windows import UNLABELLED

N = TypeVar("N", Tensor, float)

_LEAST_DISTANCE = 1e-12  # of 1 - p: its power has no derivative at 0


@dataclass(frozen=True, slots=True)
class ClassCounts:
    """How often each of the C classes is there in one epoch of the labelled data trained on."""

    clips: Sequence[int]
    windows: Sequence[int]
    """What the clip loss averages: it takes a window for a clip."""
    frames: Sequence[int]
    """What the frame loss averages: the ticks of all windows, twice where two overlap."""


def class_weights(
    settings: Loss, counts_C: Sequence[int], clips_C: Sequence[int]
) -> NDArray[np.float64]:
    """Weight of every class [C], for a loss that averages ``counts_C`` terms of each.

    - ``none``: 1.
    - ``inverse``: proportional to 1 / n of these terms: all classes weigh alike in the loss.
    - ``effective``: proportional to (1 - beta) / (1 - beta^n) of the labelled train clips
      ``clips_C`` (Cui et al. 2019, equation 4): the ticks of a clip are no samples of their own.

    The last two are scaled so that their mean over the terms is 1, which keeps the size of the
    loss; a class without any counts as one. A list is taken as it is.

    Raises:
        UserError: a list of another length than the classes.
    """
    n_C = np.maximum(np.asarray(counts_C, np.float64), 1.0)
    if isinstance(settings.class_weights, list):
        if len(settings.class_weights) != len(n_C):
            raise UserError(
                f"train.loss.class_weights has {len(settings.class_weights)} numbers, the label "
                f"set {len(n_C)} classes: give one per class, in its order"
            )
        return np.asarray(settings.class_weights, np.float64)
    if settings.class_weights == "none":
        return np.ones(len(n_C))
    if settings.class_weights == "inverse":
        raw_C = 1 / n_C
    else:
        raw_C = (1 - settings.beta) / (1 - settings.beta ** np.maximum(clips_C, 1.0))
    return raw_C * n_C.sum() / (raw_C * n_C).sum()


def log_prior(counts_C: Sequence[int]) -> NDArray[np.float64]:
    """Logarithm of every class's share of what is counted; a class without any counts as one."""
    n_C = np.maximum(np.asarray(counts_C, np.float64), 1.0)
    return np.log(n_C / n_C.sum())


class TrainingLoss:
    """Loss of every window; the step divides sums by the number of what was counted.

    With z the logits plus tau log prior (Menon et al. 2021, equation 10), the prior being that of
    what the loss averages (frames in the loss of frames, windows in that of clips), p = softmax(z),
    y the class and e the label smoothing, one frame (or clip) has the loss

        weight_y (1 - p_y)^gamma (-(1 - e) log p_y - e mean_c log p_c)

    (focal factor: Lin et al. 2017, equation 4).

    Args:
        settings: the recipe's ``train.loss``.
        counts: of the classes, for weights and priors.
        device: where it computes.

    Raises:
        UserError: see :func:`class_weights`.
    """

    def __init__(
        self, settings: Loss, counts: ClassCounts, *, device: torch.device | str = "cpu"
    ) -> None:
        shares = {"frame": 0.0, "clip": 1.0, "both": settings.clip_weight}
        self.clip_share = shares[settings.level]
        self.gamma, self.smoothing = settings.focal_gamma, settings.label_smoothing
        self.of_frames = _ClassTerms.of(settings, counts.frames, counts.clips, device)
        self.of_clips = _ClassTerms.of(settings, counts.windows, counts.clips, device)

    def __call__(
        self, logits_BTC: Tensor, label_B: Tensor, valid_BT: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sum over each window's frames [B] and each window's clip loss [B], in float32.

        A part that the settings do not use is 0, as is an unlabelled or entirely padded window.
        """
        logits_BTC = logits_BTC.float()
        counted_BT = valid_BT & (label_B != UNLABELLED)[:, None]
        frames_B = clips_B = torch.zeros(len(label_B), device=logits_BTC.device)
        if self.clip_share < 1:
            label_BT = label_B[:, None].expand_as(valid_BT)
            loss_BT = self._cross_entropy(logits_BTC, label_BT, self.of_frames)
            frames_B = torch.where(counted_BT, loss_BT, 0).sum(1)
        if self.clip_share > 0:
            total_BC = torch.where(counted_BT[..., None], logits_BTC, 0).sum(1)
            mean_BC = total_BC / counted_BT.sum(1).clamp(min=1)[:, None]
            loss_B = self._cross_entropy(mean_BC, label_B, self.of_clips)
            clips_B = torch.where(counted_BT.any(1), loss_B, 0)
        return frames_B, clips_B

    def mean(self, frames: N, clips: N, num_frames: N, num_clips: N) -> N:
        """The loss, from sums over frames and clips and the numbers of both."""
        share = self.clip_share
        return (1 - share) * frames / num_frames + share * clips / num_clips

    def _cross_entropy(self, logits_NC: Tensor, label_N: Tensor, terms: _ClassTerms) -> Tensor:
        """Losses [...] of logits [..., C]; an unlabelled one is counted by nobody."""
        label_N = label_N.clamp(min=0)
        log_p_NC = (logits_NC + terms.shift_C).log_softmax(-1)
        log_p_N = log_p_NC.gather(-1, label_N[..., None]).squeeze(-1)
        loss_N = -log_p_N
        if self.smoothing:
            loss_N = (1 - self.smoothing) * loss_N - self.smoothing * log_p_NC.mean(-1)
        if self.gamma:
            distance_N = (-torch.expm1(log_p_N)).clamp(min=_LEAST_DISTANCE)
            loss_N = distance_N**self.gamma * loss_N
        return terms.weights_C[label_N] * loss_N


class _ClassTerms(NamedTuple):
    """What a loss knows of the classes: their weights, and what is added to their logits."""

    weights_C: Tensor
    shift_C: Tensor

    @classmethod
    def of(
        cls,
        settings: Loss,
        counts_C: Sequence[int],
        clips_C: Sequence[int],
        device: torch.device | str,
    ) -> _ClassTerms:
        weights_C = class_weights(settings, counts_C, clips_C)
        shift_C = settings.logit_adjustment * log_prior(counts_C)
        return cls(
            torch.tensor(weights_C, dtype=torch.float32, device=device),
            torch.tensor(shift_C, dtype=torch.float32, device=device),
        )
