"""What the scripts share: variants timed in turns, and a result with date, commit and machine."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from saving import HERE, RESULTS, add_save

from erray.run_record import git_commit

CLIPS = HERE.parents[1] / "shared" / "clips"


def arguments(description: str | None, *, repeats: int = 5) -> argparse.Namespace:
    """Read the options that every script has; one thread each from here on."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=repeats, help="timed rounds of a variant")
    add_save(parser)
    torch.set_num_threads(1)
    return parser.parse_args()


def compare(
    claim: str, num_frames: int, variants: Mapping[str, Callable[[], Any]], *, repeats: int
) -> dict[str, Any]:
    """Run the variants in turns; the ratio says how much faster the last is than the first.

    Counted are CPU seconds of this process and of children that have ended: others on the machine
    disturb them less than the time on the wall.
    """
    rates: dict[str, list[float]] = {name: [] for name in variants}
    for round_ in range(repeats + 1):
        for name, run in variants.items():
            start_s = cpu_s()
            run()
            if round_ > 0:  # the first round warms up
                rates[name].append(num_frames / (cpu_s() - start_s))
    medians = [statistics.median(values) for values in rates.values()]
    return {
        "claim": claim,
        "frames": num_frames,
        "frames_per_cpu_second": {name: summary(values) for name, values in rates.items()},
        "ratio": round(medians[-1] / medians[0], 2),
    }


def summary(values: list[float]) -> dict[str, float]:
    """Median, least and most."""
    return {
        "median": round(statistics.median(values), 1),
        "least": round(min(values), 1),
        "most": round(max(values), 1),
    }


def cpu_s() -> float:
    """CPU seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def report(name: str, content: Mapping[str, Any], *, save: bool) -> None:
    """Print a result with what it depends on; keep it where asked."""
    result = {
        "benchmark": name,
        "date": datetime.now(UTC).date().isoformat(),
        "commit": git_commit(HERE),
        "machine": machine(),
        **content,
    }
    text = json.dumps(result, indent=2) + "\n"
    sys.stdout.write(text)
    if save:
        (RESULTS / f"{name}-{result['date']}.json").write_text(text, encoding="utf-8")


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
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "python": platform.python_version(),
    }
