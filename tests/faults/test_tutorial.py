"""``docs/tutorial.md``, followed to the letter: every command of the page, and what it prints.

Numbers, classes and folders are those of the machine that the page was written on; words are not.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from erray.labels import CEXPR_7
from tests.tiny_run import REPOSITORY

pytestmark = pytest.mark.timeout(3600)

PAGE = REPOSITORY / "docs" / "tutorial.md"
OMITTED = "..."  # on the page: some output, or the rest of a line, is not shown


def commands(page: str) -> Iterator[tuple[str, list[str]]]:
    """Yield every command of the page's console blocks, with the lines that are to follow it.

    A command begins with ``$ `` and ends with its line, or with the END of a here-document.
    """
    for block in re.findall(r"^```console\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = part.splitlines()
            length = 1
            if lines[0].endswith("<<'END'"):
                length = lines.index("END") + 1
            while lines[length - 1].endswith("\\"):
                length += 1
            yield "\n".join(lines[:length]), lines[length:]


def words(line: str) -> str:
    """A line of output without what differs from machine to machine."""
    line = re.sub("|".join(CEXPR_7.names), "CLASS", line)
    line = re.sub(r"/\S*/", "/", line)
    line = re.sub(r"[+-]?\d[\d.:]*", "#", line)
    return " ".join(line.split())


def pattern(shown: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in words(shown).split(OMITTED)))


def run(command: str, folder: Path, ray_dir: Path) -> str:
    outer = {name: value for name, value in os.environ.items() if not name.startswith("ERRAY_")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    own = {"PATH": path, "RAY_TMPDIR": str(ray_dir), "COLUMNS": "100"}
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=outer | own,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout


def test_the_page_can_be_followed(tmp_path, ray_dir):
    steps = list(commands(PAGE.read_text("utf-8")))
    assert len(steps) > 15
    for command, shown in steps:
        start_s = time.monotonic()
        output = run(command, tmp_path, ray_dir)
        print(f"$ {command}\n{output}[{time.monotonic() - start_s:.0f} s]", flush=True)
        printed = {words(line) for line in output.splitlines()}
        for line in shown:
            expected = pattern(line)
            assert line.strip() == OMITTED or any(map(expected.fullmatch, printed)), (
                f"{command}\ndoes not print\n{line}\nbut\n{output}"
            )
