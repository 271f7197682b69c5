from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from erray.report.build import build_report
from tests.unit.report.made_up_run import MadeUpRun, make_run


@dataclass
class Built:
    """A made-up run with its report."""

    run: MadeUpRun
    metrics: dict[str, Any]
    page: str


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    out = tmp_path_factory.mktemp("report") / "run"
    counts = {"train": 18, "val": 8, "test": 30, "challenge": 9}
    run = make_run(out, clips_per_split=counts, overrides=["report.num_bootstrap=200"])
    metrics = build_report(run.out, run.recipe)
    return Built(run, metrics, (out / "report" / "index.html").read_text(encoding="utf-8"))


@pytest.fixture
def run_folder(built: Built, tmp_path: Path) -> Iterator[Path]:
    """A copy of the made-up run that a test may damage."""
    import shutil

    yield shutil.copytree(built.run.out, tmp_path / "copy")
