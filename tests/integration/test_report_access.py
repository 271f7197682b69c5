"""The report page for everybody: with the keyboard, in the dark, on a phone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.integration.browser import PHONE_PX, Tab

pytestmark = pytest.mark.integration

WIDTH = "document.documentElement.scrollWidth"
MARKED = """(() => {
  const slots = [...document.querySelector(".strip").children];
  return slots.findIndex((slot) => slot.classList.contains("now-slot"));
})()"""
UNFOLD = """(() => {
  for (const part of document.querySelectorAll("details")) part.open = true;
  for (const panel of document.querySelectorAll(".timeline")) panel.hidden = false;
})()"""

# what somebody can operate, named by its place in the document
CONTROLS = """(() => {
  const kinds = "a[href], button, summary, input, select, [role=slider], [tabindex]";
  const by_arrows = "[role=tab][aria-selected=false]"; // of a row of tabs one is a stop
  const meant = (e) => !e.matches(by_arrows) && e.checkVisibility({ visibilityProperty: true });
  window.controls = [...document.querySelectorAll(kinds)].filter(meant);
  const name = (e, i) => `${i} ${e.tagName} ${e.className} ${e.textContent.slice(0, 20)}`;
  return window.controls.map(name);
})()"""
FOCUSED = """(() => {
  const e = document.activeElement, style = getComputedStyle(e), box = e.getBoundingClientRect();
  const inside = box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
  return {
    index: window.controls.indexOf(e),
    outline_px: style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth),
    inside, size: box.width * box.height,
  };
})()"""

# every piece of text with less contrast to what is really behind it than WCAG's 4.5
DIM_TEXTS = """(() => {
  const brush = Object.assign(document.createElement("canvas"), { width: 1, height: 1 })
    .getContext("2d", { willReadFrequently: true });
  const known = new Map();
  const rgba = (css) => {
    if (!known.has(css)) {
      brush.clearRect(0, 0, 1, 1);
      brush.fillStyle = css;
      brush.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = brush.getImageData(0, 0, 1, 1).data;
      known.set(css, [r, g, b, a / 255]);
    }
    return known.get(css);
  };
  const over = ([r, g, b, a], below) => [r, g, b].map((v, i) => a * v + (1 - a) * below[i]);
  const light = (rgb) => {
    const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = rgb.map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (e) => {
    const own = rgba(getComputedStyle(e).backgroundColor);
    const last = own[3] === 1 || !e.parentElement;
    return over(own, last ? [255, 255, 255] : behind(e.parentElement));
  };
  const opacity = (e) => (e ? getComputedStyle(e).opacity * opacity(e.parentElement) : 1);
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = { count: 0, dim: [], page: light(behind(document.body)) };
  while (texts.nextNode()) {
    const text = texts.currentNode.textContent.trim(), e = texts.currentNode.parentElement;
    const shown = e.checkVisibility({ visibilityProperty: true });
    if (!text || !shown || e.matches("script, style, title")) continue;
    const ground = behind(e), [r, g, b, a] = rgba(getComputedStyle(e).color);
    const lights = [light(over([r, g, b, a * opacity(e)], ground)), light(ground)];
    const ratio = (Math.max(...lights) + 0.05) / (Math.min(...lights) + 0.05);
    const name = `${ratio.toFixed(2)} ${e.tagName}.${e.className}: ${text.slice(0, 40)}`;
    found.count += 1;
    if (ratio < 4.5) found.dim.push(name);
  }
  return found;
})()"""


@pytest.mark.parametrize("width", [1280, PHONE_PX])
def test_tab_reaches_every_control_in_order_and_shows_where_it_is(
    report_page: Path, drive: Any, width: int
) -> None:
    async def scenario(tab: Tab) -> None:
        await tab.open(report_page, width=width)
        controls = await tab.evaluate(CONTROLS)
        assert len(controls) > 25
        assert sum(" scroll" in name for name in controls) > 0 or width > 500
        visited = []
        for name in controls:
            await tab.key("Tab", code=9)
            now = await tab.evaluate(FOCUSED)
            assert now["index"] >= 0, (name, visited[-1:])
            visited.append(now["index"])
            shown = controls[now["index"]]
            assert now["outline_px"] >= 2 and now["inside"] and now["size"] > 0, (shown, now)
        assert visited == list(range(len(controls)))

    drive(scenario)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_can_be_read_in_both_themes(report_page: Path, drive: Any, theme: str) -> None:
    async def scenario(tab: Tab) -> None:
        await tab.open(report_page, width=1280, theme=theme)
        await tab.evaluate(UNFOLD)
        found = await tab.evaluate(DIM_TEXTS)
        assert found["count"] > 1000
        assert found["dim"] == []
        assert found["page"] > 0.8 if theme == "light" else found["page"] < 0.05

    drive(scenario)


def test_a_phone_needs_no_sideways_scrolling_and_marks_a_visible_face(
    report_page: Path, drive: Any
) -> None:
    async def scenario(tab: Tab) -> None:
        await tab.open(report_page, width=PHONE_PX)
        await tab.evaluate('document.querySelector(".cursor-area").focus()')
        await tab.key("End")
        assert await tab.evaluate(MARKED) == 14  # every second thumbnail is shown
        await tab.evaluate('document.querySelectorAll("[role=tab]")[1].focus()')
        await tab.key("ArrowRight")
        chosen = "[...document.querySelectorAll('#timelines .timeline')].findIndex(p => !p.hidden)"
        assert await tab.evaluate(chosen) == 2
        assert await tab.evaluate(WIDTH) == PHONE_PX
        await tab.evaluate(UNFOLD)
        assert await tab.evaluate(WIDTH) == PHONE_PX

    drive(scenario)
