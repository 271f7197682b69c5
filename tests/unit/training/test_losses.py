"""The training loss against torch's own functions and against its formula in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import log_softmax

from erray.config import Loss
from erray.errors import UserError
from erray.training.losses import ClassCounts, TrainingLoss, class_weights, log_prior
from erray.windows import UNLABELLED

FRAMES, WINDOWS, CLIPS = [50, 10, 40], [3, 6, 1], [2, 6, 1]
COUNTS = ClassCounts(clips=CLIPS, windows=WINDOWS, frames=FRAMES)
LENGTHS = [7, 4, 9, 5]
LABELS = [0, 1, 2, UNLABELLED]


@pytest.fixture
def batch():
    """Four windows of different lengths, the last without a label; padding holds large numbers."""
    generator = torch.Generator().manual_seed(0)
    logits_BTC = 2 * torch.randn(4, 9, 3, generator=generator)
    valid_BT = torch.arange(9)[None] < torch.tensor(LENGTHS)[:, None]
    logits_BTC[~valid_BT] = 50.0
    return logits_BTC, torch.tensor(LABELS), valid_BT


def frames_of(logits_BTC, label_B, valid_BT):
    """Logits and labels of the counted frames, one after the other, and each one's window."""
    pairs = [(b, t) for b in range(3) for t in range(LENGTHS[b])]
    logits = torch.stack([logits_BTC[b, t] for b, t in pairs])
    return logits, torch.tensor([LABELS[b] for b, _ in pairs]), np.array([b for b, _ in pairs])


def by_formula(logits_NC, labels, *, counts, weights, gamma, smoothing, tau):
    """The documented formula, in NumPy and float64."""
    prior = np.log(np.array(counts) / sum(counts))
    log_p = log_softmax(np.asarray(logits_NC, np.float64) + tau * prior, axis=-1)
    own = log_p[np.arange(len(labels)), labels]
    loss = -(1 - smoothing) * own - smoothing * log_p.mean(-1)
    return np.asarray(weights)[labels] * (1 - np.exp(own)) ** gamma * loss


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_frames_as_torch_counts_them(batch, smoothing):
    loss = TrainingLoss(Loss(label_smoothing=smoothing), COUNTS)
    frames_B, clips_B = loss(*batch)
    logits, labels, _ = frames_of(*batch)
    expected = F.cross_entropy(logits, labels, reduction="sum", label_smoothing=smoothing)
    torch.testing.assert_close(frames_B.sum(), expected)
    assert frames_B[3] == 0 and not clips_B.any()
    mean = loss.mean(frames_B.sum(), clips_B.sum(), torch.tensor(20.0), torch.tensor(3.0))
    torch.testing.assert_close(mean, expected / 20)


@pytest.mark.parametrize(
    ("settings", "terms"),
    [
        ({"class_weights": [1.0, 3.0, 0.5]}, {"weights": [1.0, 3.0, 0.5]}),
        ({"focal_gamma": 2.0}, {"gamma": 2.0}),
        ({"focal_gamma": 0.5}, {"gamma": 0.5}),
        ({"logit_adjustment": 1.5}, {"tau": 1.5}),
        (
            {
                "class_weights": [1.0, 3.0, 0.5],
                "focal_gamma": 1.5,
                "label_smoothing": 0.2,
                "logit_adjustment": 1.0,
            },
            {"weights": [1.0, 3.0, 0.5], "gamma": 1.5, "smoothing": 0.2, "tau": 1.0},
        ),
    ],
)
def test_terms_by_their_formula(batch, settings, terms):
    terms = {"weights": [1.0] * 3, "gamma": 0.0, "smoothing": 0.0, "tau": 0.0} | terms
    logits, labels, windows = frames_of(*batch)
    expected_N = by_formula(logits, labels.numpy(), counts=FRAMES, **terms)
    frames_B, _ = TrainingLoss(Loss(**settings), COUNTS)(*batch)
    expected_B = [expected_N[windows == b].sum() for b in range(3)]
    np.testing.assert_allclose(frames_B, [*expected_B, 0.0], rtol=1e-5)

    _, clips_B = TrainingLoss(Loss(level="clip", **settings), COUNTS)(*batch)
    means = np.stack([batch[0][b, : LENGTHS[b]].double().mean(0) for b in range(3)])
    expected_B = by_formula(means, np.array(LABELS[:3]), counts=WINDOWS, **terms)
    np.testing.assert_allclose(clips_B, [*expected_B, 0.0], rtol=1e-5)


def test_both_is_their_weighted_mean(batch):
    parts = {level: TrainingLoss(Loss(level=level), COUNTS)(*batch) for level in ("frame", "clip")}
    both = TrainingLoss(Loss(level="both", clip_weight=0.3), COUNTS)
    sums = [x.sum() for x in both(*batch)]
    mean = both.mean(*sums, torch.tensor(20.0), torch.tensor(3.0))
    expected = 0.7 * parts["frame"][0].sum() / 20 + 0.3 * parts["clip"][1].sum() / 3
    torch.testing.assert_close(mean, expected)


@pytest.mark.parametrize("level", ["frame", "clip", "both"])
def test_padding_and_unlabelled_windows_have_no_gradient(batch, level):
    logits_BTC, label_B, valid_BT = batch
    logits_BTC.requires_grad_()
    settings = Loss(level=level, focal_gamma=0.5, label_smoothing=0.1, logit_adjustment=1.0)
    frames_B, clips_B = TrainingLoss(settings, COUNTS)(logits_BTC, label_B, valid_BT)
    (frames_B.sum() + clips_B.sum()).backward()
    counted_BT = valid_BT & (label_B != UNLABELLED)[:, None]
    assert (logits_BTC.grad[~counted_BT] == 0).all()
    assert (logits_BTC.grad[counted_BT].abs().sum(-1) > 0).all()


def test_a_sure_prediction_has_a_finite_focal_gradient():
    logits = torch.tensor([[[200.0, 0.0, 0.0]]], requires_grad=True)
    loss = TrainingLoss(Loss(focal_gamma=0.5), COUNTS)
    frames_B, _ = loss(logits, torch.tensor([0]), torch.ones(1, 1, dtype=torch.bool))
    frames_B.sum().backward()
    assert torch.isfinite(frames_B).all() and torch.isfinite(logits.grad).all()


def test_inverse_weights_are_scikit_learns_balanced_ones():
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.repeat([0, 1, 2], FRAMES)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    found = class_weights(Loss(class_weights="inverse"), FRAMES, CLIPS)
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize(("level", "counts"), [("frame", FRAMES), ("clip", WINDOWS)])
def test_inverse_weights_let_all_classes_weigh_alike_in_what_the_loss_averages(level, counts):
    """One tick a window: a loss of frames sees ``counts`` ticks, one of clips as many windows."""
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor(counts))
    settings = Loss(level=level, class_weights="inverse")
    valid = torch.ones(len(labels), 1, dtype=torch.bool)
    sums = TrainingLoss(settings, COUNTS)(torch.zeros(len(labels), 1, 3), labels, valid)
    loss_N = sums[level == "clip"]
    of_class = [float(loss_N[labels == c].sum()) for c in range(3)]
    np.testing.assert_allclose(of_class, len(labels) * np.log(3) / 3, rtol=1e-5)


@pytest.mark.parametrize(("level", "counts"), [("frame", FRAMES), ("clip", WINDOWS)])
def test_the_prior_is_that_of_what_the_loss_averages(level, counts):
    """Logits that know nothing beyond the prior have the least adjusted loss at 0."""
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor(counts))
    logits_C = torch.zeros(3, requires_grad=True)
    loss = TrainingLoss(Loss(level=level, logit_adjustment=1.0), COUNTS)
    valid = torch.ones(len(labels), 1, dtype=torch.bool)
    sum(x.sum() for x in loss(logits_C.expand(len(labels), 1, 3), labels, valid)).backward()
    np.testing.assert_allclose(logits_C.grad, 0, atol=1e-4)


def test_effective_numbers():
    found = class_weights(Loss(class_weights="effective", beta=0.9), FRAMES, CLIPS)
    raw = np.array([(1 - 0.9) / (1 - 0.9**n) for n in CLIPS])
    np.testing.assert_allclose(found / found[0], raw / raw[0])
    assert (found * FRAMES).sum() / sum(FRAMES) == pytest.approx(1.0)
    equal = class_weights(Loss(class_weights="effective", beta=0.0), FRAMES, CLIPS)
    np.testing.assert_allclose(equal, 1.0)


def test_a_class_without_a_clip_takes_no_infinite_weight():
    for kind in ("inverse", "effective"):
        assert np.isfinite(class_weights(Loss(class_weights=kind), [3, 0, 5], [3, 0, 5])).all()
    assert np.isfinite(log_prior([3, 0, 5])).all()


def test_a_list_needs_a_number_per_class():
    with pytest.raises(UserError, match="2 numbers, the label set 3 classes"):
        class_weights(Loss(class_weights=[1.0, 2.0]), FRAMES, CLIPS)
