"""What several integration tests share."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import requests
from moto.server import ThreadedMotoServer

from erray.report.build import build_report
from tests.integration.browser import BROWSERS, Tab, browser
from tests.tiny_run import build_tiny_corpus
from tests.unit.report.made_up_run import make_run


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus of :mod:`tests.tiny_run`; tests that change it copy it first."""
    return build_tiny_corpus(tmp_path_factory.mktemp("tiny") / "corpus")


@pytest.fixture(scope="module")
def ray_dir() -> Iterator[Path]:
    """Ray's folder of a module: its name must be short, as Unix sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """URL of a bucket; the environment names the server, as it does for the workers."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        # what moto holds, and the connection, are of the process: those of the module before
        requests.post(f"http://{host}:{port}/moto-api/reset", timeout=10).raise_for_status()
        patch.setenv("AWS_ACCESS_KEY_ID", "tester")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        fsspec.filesystem("s3").mkdir("tables")
        yield "s3://tables"
    server.stop()


@pytest.fixture(scope="session")
def report_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a made-up run with every section, another run to compare with among them."""
    out = tmp_path_factory.mktemp("page") / "run"
    counts = {"train": 12, "val": 6, "test": 36, "challenge": 8}
    run = make_run(out, clips_per_split=counts, overrides=["report.num_bootstrap=200"])
    build_report(run.out, run.recipe, compare=str(out / "training" / "hog"))
    return out / "report" / "index.html"


@pytest.fixture
def drive(tmp_path: Path) -> Callable[[Callable[[Tab], Coroutine[Any, Any, None]]], None]:
    """Run a scenario with a page of a real browser; skipped where there is none."""
    binary = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if binary is None:
        pytest.skip(f"no browser found (looked for {', '.join(BROWSERS)})")

    async def with_tab(scenario: Callable[[Tab], Coroutine[Any, Any, None]]) -> None:
        async with browser(binary, tmp_path / "profile") as tab:
            await scenario(tab)

    return lambda scenario: asyncio.run(with_tab(scenario))
