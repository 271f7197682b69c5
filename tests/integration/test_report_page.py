"""The report page in a real browser, driven over the DevTools protocol."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from erray.report.build import build_report
from tests.unit.report.made_up_run import make_run

pytestmark = pytest.mark.integration

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
    "--remote-debugging-port=0",
]

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
    wide: document.documentElement.scrollWidth > window.innerWidth,
  };
})()"""
BOX = """(() => {
  const area = document.querySelector(".cursor-area");
  area.scrollIntoView({ block: "center", behavior: "instant" });
  return area.getBoundingClientRect().toJSON();
})()"""


class Tab:
    """One page of the browser; events are kept as they arrive."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket, self.events, self.calls = socket, list[dict[str, Any]](), 0

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        self.calls += 1
        await self.socket.send_json({"id": self.calls, "method": method, "params": params})
        while True:
            message = await self.socket.receive_json(timeout=30)
            if message.get("id") == self.calls:
                assert "error" not in message, message
                return message["result"]
            self.events.append(message)

    async def evaluate(self, expression: str) -> Any:
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def open(self, path: Path, *, width: int, height: int = 900) -> None:
        for domain in ("Network", "Log", "Runtime", "Page"):
            await self.call(f"{domain}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        await self.call("Emulation.setDeviceMetricsOverride", **size)
        await self.call("Page.navigate", url=path.as_uri())
        while await self.evaluate("document.readyState") != "complete":
            await asyncio.sleep(0.05)

    async def key(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            await self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    async def point(self, x: float, y: float) -> None:
        await self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def seen(self, method: str) -> list[dict[str, Any]]:
        return [event["params"] for event in self.events if event.get("method") == method]


@contextlib.asynccontextmanager
async def browser(binary: str, profile: Path) -> AsyncIterator[Tab]:
    process = await asyncio.create_subprocess_exec(
        binary, *FLAGS, f"--user-data-dir={profile}", "about:blank",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        port = None
        while port is None:
            line = (await asyncio.wait_for(process.stderr.readline(), 60)).decode()
            assert line, "the browser ended before it listened"
            port = re.search(r"ws://127\.0\.0\.1:(\d+)/", line)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port[1]}") as session:
            async with session.put("/json/new?about:blank") as answer:
                address = (await answer.json())["webSocketDebuggerUrl"]
            async with session.ws_connect(address, max_msg_size=0) as socket:
                yield Tab(socket)
    finally:
        process.terminate()
        await process.communicate()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page") / "run"
    counts = {"train": 12, "val": 6, "test": 30, "challenge": 8}
    run = make_run(out, clips_per_split=counts, overrides=["report.num_bootstrap=200"])
    build_report(run.out, run.recipe)
    return out / "report" / "index.html"


@pytest.fixture
def drive(tmp_path: Path) -> Callable[[Callable[[Tab], Coroutine[Any, Any, None]]], None]:
    binary = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if binary is None:
        pytest.skip(f"no browser found (looked for {', '.join(BROWSERS)})")

    async def with_tab(scenario: Callable[[Tab], Coroutine[Any, Any, None]]) -> None:
        async with browser(binary, tmp_path / "profile") as tab:
            await scenario(tab)

    return lambda scenario: asyncio.run(with_tab(scenario))


def test_it_opens_from_disk_without_a_request_or_an_error(page: Path, drive: Any) -> None:
    async def scenario(tab: Tab) -> None:
        await tab.open(page, width=1280)
        state = await tab.evaluate(STATE)
        urls = [event["request"]["url"] for event in tab.seen("Network.requestWillBeSent")]
        assert [url for url in urls if not url.startswith("data:")] == [page.as_uri()]
        assert tab.seen("Log.entryAdded") == []
        assert tab.seen("Runtime.exceptionThrown") == []
        assert state["broken"] is None
        assert state["open"] == 1
        assert not state["wide"]

    drive(scenario)


def test_the_pointer_moves_time_and_thumbnail(page: Path, drive: Any) -> None:
    async def scenario(tab: Tab) -> None:
        await tab.open(page, width=1280)
        box, states = await tab.evaluate(BOX), []
        for share in (0.05, 0.53, 0.95):
            await tab.point(box["x"] + share * box["width"], box["y"] + box["height"] / 3)
            states.append(await tab.evaluate(STATE))
        assert [state["slot"] for state in states] == [0, 8, 15]
        times = [float(state["time"].removesuffix(" s")) for state in states]
        assert times == sorted(times) and times[0] < times[2]

    drive(scenario)


def test_arrow_keys_move_one_tick_and_the_ends_hold(page: Path, drive: Any) -> None:
    async def scenario(tab: Tab) -> None:
        await tab.open(page, width=1280)
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


def test_a_phone_needs_no_sideways_scrolling_and_marks_a_visible_face(
    page: Path, drive: Any
) -> None:
    async def scenario(tab: Tab) -> None:
        await tab.open(page, width=390)
        await tab.evaluate('document.querySelector(".cursor-area").focus()')
        await tab.key("End")
        state = await tab.evaluate(STATE)
        assert not state["wide"]
        assert state["slot"] == 14  # every second thumbnail is shown
        await tab.evaluate('document.querySelectorAll("[role=tab]")[1].focus()')
        await tab.key("ArrowRight")
        chosen = "[...document.querySelectorAll('#timelines .timeline')].findIndex(p => !p.hidden)"
        assert await tab.evaluate(chosen) == 2

    drive(scenario)
