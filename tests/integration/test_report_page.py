"""The report page in a real browser: what it asks for, and how it answers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from erray.cli.main import main
from tests.integration.browser import PHONE_PX, Tab
from tests.unit.report.made_up_run import make_run

pytestmark = pytest.mark.integration

# which thumbnail of the first timeline is marked, what time is read out, which panels are open
STATE = """(() => {
  const panel = document.querySelector(".timeline");
  const slots = [...panel.querySelector(".strip").children];
  return {
    slot: slots.findIndex((slot) => slot.classList.contains("now-slot")),
    time: panel.querySelector(".now-time").textContent,
    spoken: panel.querySelector(".cursor-area").getAttribute("aria-valuetext"),
    open: [...document.querySelectorAll("#timelines .timeline")].filter((p) => !p.hidden).length,
    broken: window.broken ?? null,
    players: document.querySelectorAll("audio, video, iframe, object, embed").length,
    width: document.documentElement.scrollWidth,
  };
})()"""
BOX = """((selector) => {
  const area = document.querySelector(selector);
  area.scrollIntoView({ block: "center", behavior: "instant" });
  return area.getBoundingClientRect().toJSON();
})"""


def asked_for(tab: Tab) -> list[str]:
    urls = [event["request"]["url"] for event in tab.seen("Network.requestWillBeSent")]
    return [url for url in urls if not url.startswith("data:")]


async def alone(tab: Tab, page: Path) -> None:
    """Nothing but the page was asked for, opened or complained about."""
    state = await tab.evaluate(STATE)
    assert asked_for(tab) == [page.as_uri()]
    assert tab.seen("Log.entryAdded") == []
    assert tab.seen("Runtime.exceptionThrown") == []
    assert state["broken"] is None and state["players"] == 0
    assert await tab.evaluate("location.href.split('#')[0]") == page.as_uri()
    targets = (await tab.call("Target.getTargets"))["targetInfos"]
    assert [t["url"] for t in targets if t["type"] == "page" and t["attached"]] == [page.as_uri()]


def test_it_opens_from_disk_without_a_request_or_an_error(report_page: Path, drive: Any) -> None:
    async def scenario(tab: Tab) -> None:
        await tab.open(report_page, width=1280)
        state = await tab.evaluate(STATE)
        await alone(tab, report_page)
        assert state["open"] == 1
        assert state["width"] <= 1280

    drive(scenario)


def test_the_pointer_moves_time_and_thumbnail(report_page: Path, drive: Any) -> None:
    async def scenario(tab: Tab) -> None:
        await tab.open(report_page, width=1280)
        box, states = await tab.evaluate(f"{BOX}('.cursor-area')"), []
        for share in (0.05, 0.53, 0.95):
            await tab.point(box["x"] + share * box["width"], box["y"] + box["height"] / 3)
            states.append(await tab.evaluate(STATE))
        assert [state["slot"] for state in states] == [0, 8, 15]
        times = [float(state["time"].removesuffix(" s")) for state in states]
        assert times == sorted(times) and times[0] < times[2]

    drive(scenario)


@pytest.mark.parametrize(
    ("width", "slots"), [pytest.param(1280, [3, 15, 8], id="mouse"), (PHONE_PX, [2, 14, 8])]
)
def test_a_click_moves_the_strip_and_plays_nothing_outside_the_page(
    report_page: Path, drive: Any, width: int, slots: list[int]
) -> None:
    async def scenario(tab: Tab) -> None:
        await tab.open(report_page, width=width)
        box, states = await tab.evaluate(f"{BOX}('.cursor-area')"), []
        press = tab.tap if width == PHONE_PX else tab.click
        for share, height in ((0.2, 0.3), (0.95, 0.9), (0.53, 0.9)):  # stack, thumbnails
            await press(box["x"] + share * box["width"], box["y"] + height * box["height"])
            states.append(await tab.evaluate(STATE))
        assert [state["slot"] for state in states] == slots
        times = [float(state["time"].removesuffix(" s")) for state in states]
        assert times[0] < times[2] < times[1]
        await alone(tab, report_page)

    drive(scenario)


def test_play_moves_the_strip_and_nothing_outside_the_page(report_page: Path, drive: Any) -> None:
    async def scenario(tab: Tab) -> None:
        await tab.open(report_page, width=1280)
        await tab.evaluate('document.querySelector(".cursor-area").focus()')
        await tab.key("Home")
        box = await tab.evaluate(f"{BOX}('.play')")
        await tab.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        for _ in range(100):
            state = await tab.evaluate(STATE)
            if state["slot"] > 1:
                break
            await asyncio.sleep(0.1)
        assert state["slot"] > 1
        await alone(tab, report_page)

    drive(scenario)


def test_arrow_keys_move_one_tick_and_the_ends_hold(report_page: Path, drive: Any) -> None:
    async def scenario(tab: Tab) -> None:
        await tab.open(report_page, width=1280)
        await tab.evaluate('document.querySelector(".cursor-area").focus()')
        await tab.key("Home")
        first = await tab.evaluate(STATE)
        await tab.key("ArrowRight")
        second = await tab.evaluate(STATE)
        await tab.key("End")
        last = await tab.evaluate(STATE)
        await tab.key("ArrowRight")
        assert first["time"] == "0.00 s" and first["slot"] == 0
        assert second["time"] == "0.04 s"
        assert second["spoken"].startswith("0.04 s: ")
        assert last["slot"] == 15
        assert await tab.evaluate(STATE) == last

    drive(scenario)


def test_a_wrong_clip_leads_to_its_timeline(report_page: Path, drive: Any) -> None:
    async def scenario(tab: Tab) -> None:
        await tab.open(report_page, width=1280)
        link = await tab.evaluate("document.querySelectorAll('.to-timeline')[1].hash")
        assert await tab.evaluate(f"document.querySelector('{link}').hidden")
        box = await tab.evaluate(f"{BOX}('.to-timeline[href=\"{link}\"]')")
        await tab.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        assert not await tab.evaluate(f"document.querySelector('{link}').hidden")
        focused = "document.activeElement.closest('.timeline')?.id"
        assert await tab.evaluate(focused) == link.removeprefix("#")
        assert (await tab.evaluate(STATE))["open"] == 1
        await alone(tab, report_page)

    drive(scenario)


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    return int(caught.value.code or 0)


def test_the_command_compares_with_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ERRAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    corpus, out = tmp_path / "corpus", tmp_path / "run"
    corpus.mkdir()
    overrides = [f"corpus.root={corpus}", "report.num_bootstrap=100", "report.num_timelines=1"]
    run = make_run(out, clips_per_split={"train": 8, "val": 8, "test": 12}, overrides=overrides)
    rows = [
        f"{c.clip_id},{c.media},{c.split},{c.group if c.split != 'test' else 'g'}"
        for c in run.clips
    ]
    (corpus / "manifest.csv").write_text("\n".join(["clip_id,media,split,group", *rows]) + "\n")
    options = [part for text in overrides for part in ("-o", text)]
    options += ["--recipe", "demo", "--out", str(out)]
    hog, nowhere = str(out / "training" / "hog"), str(tmp_path / "nowhere")
    assert call("report", *options, "--compare", hog, "--json") == 0
    said = capsys.readouterr()
    found = json.loads(said.out)["comparison"]
    gap = found["clips"]["weighted_f1"]["difference"]["difference"]
    assert f"Against {hog}: weighted F1 {gap:+.3f} " in " ".join(said.err.split())
    assert found["b"] == hog and found["num_clips"] == 12
    page = (out / "report" / "index.html").read_text("utf-8")
    assert 'id="comparison"' in page
    assert call("report", *options, "-o", f"report.compare={nowhere}") == 2
    error = capsys.readouterr().err
    assert f"no finished training run in {nowhere}" in error and "Traceback" not in error
    assert (out / "report" / "index.html").read_text("utf-8") == page
