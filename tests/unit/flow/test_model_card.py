"""The card's forbidden uses are those of the page on ethics."""

import re
from pathlib import Path

from erray.report.card import FORBIDDEN_USES

ETHICS = Path(__file__).parents[3] / "docs" / "ethics.md"


def test_the_card_forbids_what_the_page_forbids():
    text = ETHICS.read_text("utf-8").split("## Not intended")[1].split("\n## ")[0]
    page = " ".join(text.split())
    on_page = re.findall(r"\*\*(.+?)\.?\*\*", page)
    assert on_page and on_page == [bold for bold, _ in FORBIDDEN_USES if bold]
    for article in re.findall(r"[Aa]rticle [\d()a-z]+", page):
        assert article.lower() in " ".join(text for _, text in FORBIDDEN_USES).lower()
