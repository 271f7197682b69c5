"""What every benchmark needs: the machine it ran on, and its result as one JSON file."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from erray.run_record import git_commit

RESULTS = Path(__file__).parent / "results"


def options(doc: str, *, repeats: int) -> argparse.ArgumentParser:
    """The options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=repeats, help="rounds of every variant")
    parser.add_argument(
        "--save", action="store_true", help="write the result to benchmarks/results"
    )
    return parser


def report(name: str, facts: dict[str, Any], *, save: bool) -> None:
    """Print the result with date, commit and machine; keep it in ``results`` if asked to."""
    result = {
        "benchmark": name,
        "date": datetime.now(UTC).date().isoformat(),
        "commit": git_commit(Path(__file__).parent),
        "machine": machine(),
        **facts,
    }
    text = json.dumps(result, indent=2) + "\n"
    sys.stdout.write(text)
    if save:
        path = RESULTS / f"{name}-{result['date']}.json"
        path.write_text(text, encoding="utf-8")


def spread(values: Sequence[float], digits: int = 1) -> dict[str, float]:
    """Median, least and most of repeated measurements."""
    return {
        "median": round(statistics.median(values), digits),
        "least": round(min(values), digits),
        "most": round(max(values), digits),
    }


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text(encoding="utf-8").splitlines()
        cpu = next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), cpu)
    return {
        "cpu": cpu,
        "cpus": os.cpu_count(),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "load": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "python": platform.python_version(),
    }
