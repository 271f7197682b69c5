"""The arithmetic of the planning page, from the results that it names."""

import json
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "planning.md").read_text("utf-8")
TICKS = {"MELD": 1.2e6, "10,000 h": 900e6}
SPEED_DATE = "2026-11-24"


def result(name):
    path = REPOSITORY / "benchmarks" / "results" / f"{name}-{SPEED_DATE}.json"
    return json.loads(path.read_text("utf-8"))


def number(cell):
    return float(cell.replace(",", "").split()[0])


def rows(heading):
    """Cells of the first table below a heading."""
    text = PAGE.split(f"## {heading}\n")[1]
    table = re.search(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)[0]
    return [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines()][
        2:
    ]


def measured():
    """Stage to ms per tick on one core."""
    found = {}
    for claim in result("decode")["claims"]:
        rate = claim["frames_per_cpu_second"]["faces"]["median"]
        found[f"faces, {claim['claim']}"] = 1000 / rate
    for name, encoder in result("encoders")["encoders"].items():
        found[f"`{name}`"] = encoder["ms_per_tick"]
    return found


@pytest.mark.parametrize("cells", rows("Computing"), ids=lambda cells: cells[0])
def test_core_hours(cells):
    stage, ms, meld, much = cells
    assert number(ms) == pytest.approx(measured()[stage], abs=0.01)
    for shown, ticks, step in ((meld, TICKS["MELD"], 0.1), (much, TICKS["10,000 h"], 1)):
        assert number(shown) == pytest.approx(number(ms) * ticks / 3.6e6, abs=step * 0.6)


def test_wall_times():
    table = re.findall(r"^\| (`.*`) \| ([\d.]+) h \| ([\d.]+) days \| (\d+) h \|$", PAGE, re.M)
    assert len(table) == 2
    for streams, meld, days, hours in table:
        names = ["faces, 720p", *streams.split(", ")]
        ms = sum(measured()[name] for name in names)
        assert float(meld) == pytest.approx(ms * TICKS["MELD"] / 3.6e6 / 8, abs=0.06)
        total = ms * TICKS["10,000 h"] / 3.6e6
        assert float(days) == pytest.approx(total / 64 / 24, rel=0.04)
        assert float(hours) == pytest.approx(total / 1024, abs=0.6)


@pytest.mark.parametrize("cells", rows("Storage"), ids=lambda cells: cells[0])
def test_storage(cells):
    _, num_bytes, meld, much = cells
    assert number(meld) == pytest.approx(number(num_bytes) * TICKS["MELD"] / 1e9, abs=0.06)
    assert number(much) == pytest.approx(number(num_bytes) * TICKS["10,000 h"] / 1e12, abs=0.06)


def test_training():
    (lfan,) = [m for m in result("models")["models"] if m["model"] == "lfan"]
    forward_ms = lfan["latency_cpu_ms"]["16 clips"]["median"] / (16 * result("models")["ticks"])
    assert f"takes {forward_ms:.3f} ms per tick" in PAGE
    minutes = 3 * forward_ms * 0.7 * TICKS["MELD"] / 60_000
    hours = 3 * forward_ms * 0.7 * TICKS["10,000 h"] / 3.6e6
    sentence = " ".join(PAGE.split())
    assert f"core {minutes:.0f} minutes for MELD and {hours:.0f} hours for 10,000 hours" in sentence
