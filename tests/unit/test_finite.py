"""What is not finite never becomes a class or a probability, wherever it comes in."""

from __future__ import annotations

import numpy as np
import pytest

from erray.config import Smoothing
from erray.errors import UserError
from erray.evaluation.clips import LabelledClips, stored_logits
from erray.finite import NotFiniteError, require_finite
from erray.labels import BASIC_7
from erray.metrics import CLIP_RULES, clip_logits, clip_prediction
from erray.pairs import compound_logits
from erray.records import tensor_columns
from erray.scoring import prediction_row
from erray.smoothing import smoothed
from erray.timelines import Timeline

TIMES_S = np.arange(4) / 25
BAD = [np.nan, np.inf, -np.inf]


def logits(bad: float) -> np.ndarray:
    """Seven classes at four ticks; what is bad stands at the third."""
    logits_TC = np.random.default_rng(0).normal(size=(4, 7)).astype(np.float32)
    logits_TC[2, 5] = bad
    return logits_TC


def row(logits_TC: np.ndarray) -> dict:
    columns = tensor_columns(logits_TC)
    return {
        "clip_id": "a",
        "times_s": TIMES_S.tolist(),
        "logits": bytes(columns["values"]),
        "shape": columns["shape"],
        "dtype": columns["dtype"],
        "classes": list(BASIC_7.names),
        "group": "g",
        "label": "Fear",
        "clip_rule": "mean_logits",
    }


def predict(logits_TC: np.ndarray, rule: str) -> dict:
    return prediction_row(
        logits_TC,
        clip_id="a",
        split="test",
        group="g",
        label=None,
        times_s_T=TIMES_S,
        classes=BASIC_7.names,
        clip_rule=rule,
        model_name="m",
        model_version="1",
    )


def clips(logits_TC: np.ndarray) -> LabelledClips:
    return LabelledClips(("a",), ("g",), BASIC_7.names, np.array([3]), (logits_TC,), "majority")


NOUNS = {
    **{f"class by {rule}": lambda x, rule=rule: clip_prediction(x, rule) for rule in CLIP_RULES},
    **{f"row by {rule}": lambda x, rule=rule: predict(x, rule) for rule in CLIP_RULES},
    "clip logits": lambda x: clip_logits(x, "mean_probabilities"),
    "sums of pairs": lambda x: compound_logits(x, "sum"),
    "products of pairs": lambda x: compound_logits(x, "product"),
    "box": lambda x: smoothed(x, TIMES_S, kind="box", width=0.1),
    "gaussian": lambda x: smoothed(x, TIMES_S, kind="gaussian", width=0.1),
    "timeline": lambda x: Timeline.of(row(x), smoothing=Smoothing()),
    "smoothed timeline": lambda x: Timeline.of(row(x), smoothing=Smoothing(kind="box")),
    "probabilities over time": lambda x: Timeline("a", TIMES_S, x, BASIC_7.names),
    "labelled clips": clips,
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", NOUNS)
def test_no_noun_takes_what_is_not_finite(name, bad):
    NOUNS[name](logits(0.5))
    with pytest.raises(NotFiniteError, match=r"^not_finite: .* 1 of 4 ticks .* at tick 2$"):
        NOUNS[name](logits(bad))


@pytest.mark.parametrize("bad", BAD)
def test_a_row_that_an_earlier_version_kept_is_refused_in_one_line(bad):
    np.testing.assert_array_equal(stored_logits(row(logits(0.5))), logits(0.5))
    for read in (stored_logits, lambda found: LabelledClips.from_rows([found])):
        with pytest.raises(
            UserError, match=r"clip 'a' was predicted by .* predict again"
        ) as caught:
            read(row(logits(bad)))
        assert "\n" not in str(caught.value)


def test_whole_arrays_pass():
    require_finite(np.zeros((0, 3)), "nothing")
    require_finite(np.zeros(3), "a value per tick")
    with pytest.raises(NotFiniteError, match=r"a value per tick of 2 of 3 ticks .* tick 1"):
        require_finite(np.array([0, np.nan, np.inf]), "a value per tick")
