"""The card's forbidden uses are those of the page on ethics."""

import re
from pathlib import Path

from erray.flow.model_card import FORBIDDEN_USES

ETHICS = Path(__file__).parents[3] / "docs" / "ethics.md"


def test_the_card_forbids_what_the_page_forbids():
    text = ETHICS.read_text("utf-8").split("## Not intended")[1].split("\n## ")[0]
    page = " ".join(text.split())
    on_page, on_card = (
        re.findall(r"\*\*(.+?)\.?\*\*", t) for t in (page, " ".join(FORBIDDEN_USES))
    )
    assert on_page and on_page == on_card
    for article in re.findall(r"[Aa]rticle [\d()a-z]+", page):
        assert article.lower() in " ".join(FORBIDDEN_USES).lower()
