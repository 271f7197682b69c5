"""A version's card: its data, its scores, and the forbidden uses of the page on ethics."""

import re
from pathlib import Path

import pytest
from sklearn.metrics import accuracy_score

from erray.checkpoint import ModelDescription
from erray.config import parse_recipe
from erray.flow.context import Flow
from erray.flow.model_card import model_card
from erray.labels import CEXPR_8
from erray.report.card import FORBIDDEN_USES, INTENDED_USES, LIMITS, SEARCHED_TEST, SPLIT_MEANINGS
from tests.unit.evaluation.made_up import made_up_rows

ETHICS = Path(__file__).parents[3] / "docs" / "ethics.md"


def test_the_card_forbids_what_the_page_forbids():
    text = ETHICS.read_text("utf-8").split("## Not intended")[1].split("\n## ")[0]
    page = " ".join(text.split())
    on_page = re.findall(r"\*\*(.+?)\.?\*\*", page)
    assert on_page and on_page == [bold for bold, _ in FORBIDDEN_USES if bold]
    for article in re.findall(r"[Aa]rticle [\d()a-z]+", page):
        assert article.lower() in " ".join(text for _, text in FORBIDDEN_USES).lower()


@pytest.fixture
def flow(tmp_path: Path) -> Flow:
    """A corpus of words alone: six train clips in two groups, three of val and three of test."""
    splits = ["train"] * 6 + ["val"] * 3 + ["test"] * 3
    rows = [
        f"{i},{i}.mp4,{split},{split}{i % 2},{CEXPR_8.names[i % 3]},hello"
        for i, split in enumerate(splits)
    ]
    head = "clip_id,media,split,group,label,transcript"
    (tmp_path / "manifest.csv").write_text("\n".join([head, *rows]) + "\n")
    recipe = {
        "corpus": {"root": str(tmp_path), "labels": "cexpr8", "clock_hz": 25},
        "streams": {"hash": {}},
        "report": {"num_bootstrap": 100},
    }
    return Flow(parse_recipe(recipe), tmp_path / "run", tmp_path)


@pytest.fixture
def description(flow: Flow) -> ModelDescription:
    return ModelDescription(
        model="lfan",
        options={},
        streams=dict(flow.plan.widths),
        labels="cexpr8",
        class_names=CEXPR_8.names,
        features={"hash": flow.plan.fingerprints["hash"]},
        window=300,
        hop=200,
        clip_rule="mean_logits",
    )


def test_a_card_says_on_what_it_was_trained_and_how_good_it_is(flow, description):
    rows = made_up_rows(1, skill=3.0)
    card = model_card(
        flow,
        description,
        rows,
        num_parameters=12345,
        num_rejected=0,
        origin="trained here",
        test_was_searched=False,
        judged_on_holdout=False,
    )
    assert "Has no holdout" in card
    assert "have no prediction" not in card
    assert "| groups | 2 | 2 | 2 |" in card and "12,345 parameters, trained here" in card
    assert f"60 labelled clips in 20 groups; {SPLIT_MEANINGS['test']}." in card
    right = accuracy_score([r["label"] for r in rows], [r["predicted"] for r in rows])
    assert f"| accuracy | {right:.3f} (" in card
    for bold, text in FORBIDDEN_USES:
        assert (f"- **{bold}**{text}" if bold else f"- {text}") in card
    assert all(f"- {use}" in card for use in INTENDED_USES) and LIMITS in card


def test_a_card_of_two_groups_is_undecided_and_says_which_classes_have_clips(flow, description):
    rows = made_up_rows(1, skill=3.0)
    few = [row | {"group": f"g{i % 2}"} for i, row in enumerate(rows) if i % 8 < 3]
    card = model_card(
        flow,
        description,
        few,
        num_parameters=1,
        num_rejected=0,
        origin="trained here",
        test_was_searched=False,
        judged_on_holdout=False,
    )
    assert "24 labelled clips in 2 groups" in card and " to 0." not in card
    assert "Macro F1 over the 3 of 8 classes that have labelled clips." in card
    right = accuracy_score([r["label"] for r in few], [r["predicted"] for r in few])
    assert f"| accuracy | {right:.3f} undecided (2 groups) |" in card
    assert "| Other | 0 | no clips |" in card


def test_a_card_does_not_call_test_unseen_that_was_searched(flow, description):
    card = model_card(
        flow,
        description,
        made_up_rows(1, skill=3.0),
        num_parameters=1,
        num_rejected=3,
        origin="trained here",
        test_was_searched=True,
        judged_on_holdout=True,
    )
    assert f"60 labelled clips in 20 groups; {SEARCHED_TEST}." in card
    assert "chosen on nothing" not in card
    assert "3 clips of these splits have no prediction" in card


def test_an_imported_model_is_not_measured(flow, description):
    card = model_card(
        flow,
        description,
        [],
        num_parameters=1,
        num_rejected=0,
        origin="imported",
        test_was_searched=False,
        judged_on_holdout=False,
    )
    assert "Not measured: the model was trained elsewhere." in card
    assert "Not known: the model was trained elsewhere." in card
