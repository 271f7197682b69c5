"""Scoring: windows of clips in batches give what the model gives each clip alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from erray.labels import CEXPR_7
from erray.models import make_model
from erray.models.fusion import FusionModel
from erray.records import PREDICTION_SCHEMA, tensor_from_columns
from erray.scoring import prediction_row, score_clips
from erray.windows import WindowSample, collate, cut

STREAMS = {"hog": 6, "logmel": 4}
WINDOW, HOP = 8, 5


def random_model() -> FusionModel:
    torch.manual_seed(0)
    options = {"channels": {"hog": [5], "logmel": [4]}, "dropout": 0.5}
    model = make_model("lfan", STREAMS, 3, options)
    for name, width in STREAMS.items():
        model.fit_normaliser(name, torch.randn(width), torch.rand(width) + 0.5)
    return model.eval()


MODEL = random_model()


def clip_windows(clip: int, length: int, *, window: int = WINDOW) -> list[WindowSample]:
    rng = np.random.default_rng([clip, length])
    x = {name: rng.normal(size=(length, width)).astype("f4") for name, width in STREAMS.items()}
    present = {name: rng.random(length) > 0.3 for name in STREAMS}
    return [
        WindowSample(
            streams={name: x_TD[start:stop] for name, x_TD in x.items()},
            present={name: mask_T[start:stop] for name, mask_T in present.items()},
            label=-1,
            clip=clip,
            start=start,
        )
        for start, stop in cut(length, window, min(HOP, window))
    ]


def logits_of(window: WindowSample) -> np.ndarray:
    batch = collate([window])
    with torch.no_grad():
        return MODEL(batch.streams, batch.present, batch.valid_BT)[0].numpy()


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(1, 9))
@settings(max_examples=30)
def test_batch_size_and_mates_change_nothing(lengths, batch_windows):
    windows = [w for i, length in enumerate(lengths) for w in clip_windows(i, length)]
    scored = list(score_clips(MODEL, iter(windows), batch_windows=batch_windows))
    assert [clip for clip, _ in scored] == list(range(len(lengths)))
    for (clip, logits_TC), length in zip(scored, lengths, strict=True):
        assert logits_TC.shape == (length, 3) and logits_TC.dtype == np.float32
        ((_, alone_TC),) = score_clips(MODEL, clip_windows(clip, length), batch_windows=1)
        np.testing.assert_allclose(logits_TC, alone_TC, atol=2e-6)


@pytest.mark.parametrize("name", ["jmt", "mt"])
@pytest.mark.parametrize("axis", ["published", "slots"])
def test_a_clip_scores_alone_as_among_others_on_either_axis(name, axis):
    torch.manual_seed(0)
    channels = {"hog": [5], "logmel": [4]}
    options = {"channels": channels, "modal_dim": 8, "fusion_axis": axis, "readout": "last"}
    model = make_model(name, STREAMS, 3, options)
    with torch.no_grad():  # away from fresh weights, with which clips hardly differ
        for parameter in model.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    lengths = [11, 3, 24]
    windows = [w for i, length in enumerate(lengths) for w in clip_windows(i, length)]
    among = dict(score_clips(model, windows))
    for clip, length in enumerate(lengths):
        ((_, alone_TC),) = score_clips(model, clip_windows(clip, length), batch_windows=1)
        np.testing.assert_allclose(among[clip], alone_TC, atol=1e-4)


@pytest.mark.parametrize("length", [1, 5, WINDOW])
def test_a_short_clip_is_the_model_on_the_whole_clip(length):
    (window,) = clip_windows(0, length)
    others = [clip_windows(1, 30), clip_windows(2, 4)]
    ((_, logits_TC), *_) = score_clips(MODEL, [window, *others[0], *others[1]])
    np.testing.assert_allclose(logits_TC, logits_of(window), atol=2e-6)


def test_overlapping_ticks_get_the_mean_of_their_windows():
    windows = clip_windows(0, 11)
    assert [(w.start, len(w)) for w in windows] == [(0, 8), (3, 8)]
    ((_, logits_TC),) = score_clips(MODEL, windows)
    first_LC, second_LC = map(logits_of, windows)
    np.testing.assert_allclose(logits_TC[:3], first_LC[:3], atol=2e-6)
    np.testing.assert_allclose(logits_TC[3:8], (first_LC[3:] + second_LC[:5]) / 2, atol=2e-6)
    np.testing.assert_allclose(logits_TC[8:], second_LC[5:], atol=2e-6)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_evaluated_and_left_in_its_mode(training):
    windows = clip_windows(0, 20)
    ((_, expected_TC),) = score_clips(MODEL, windows)
    try:
        MODEL.train(training)
        ((_, found_TC),) = score_clips(MODEL, windows)  # dropout would show
        assert MODEL.training == training
        with pytest.raises(RuntimeError, match="no more"):
            list(score_clips(MODEL, breaking(windows), batch_windows=1))
        assert MODEL.training == training
    finally:
        MODEL.eval()
    np.testing.assert_array_equal(found_TC, expected_TC)


def breaking(windows):
    yield windows[0]
    raise RuntimeError("no more")


def test_no_windows_no_clips():
    assert list(score_clips(MODEL, [])) == []


def test_a_row_holds_the_frames_and_what_the_rule_makes_of_them():
    logits_TC = np.zeros((3, 7), np.float32)
    logits_TC[:2, 4], logits_TC[2, 1] = 1.0, 9.0
    row = {
        rule: prediction_row(
            logits_TC,
            clip_id="a",
            split="test",
            group="g",
            label=None,
            times_s_T=np.array([0.0, 0.04, 0.08]),
            classes=CEXPR_7.names,
            clip_rule=rule,
            model_name="m",
            model_version="3",
        )
        for rule in ("majority", "mean_logits")
    }
    assert row["majority"]["predicted"] == CEXPR_7.names[4]
    assert row["mean_logits"]["predicted"] == CEXPR_7.names[1]
    assert set(row["majority"]) == set(PREDICTION_SCHEMA.names)
    values = row["majority"]
    found = tensor_from_columns(values["logits"], values["shape"], values["dtype"])
    np.testing.assert_array_equal(found, logits_TC)
    assert values["times_s"] == [0.0, 0.04, 0.08] and values["label"] is None
    assert sum(values["probabilities"]) == pytest.approx(1.0)
