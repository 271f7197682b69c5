"""A training whose worker dies at a chosen place, and how two finished trainings are compared."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from erray.training.arrays import FeatureArrays
from erray.windows import WindowSample


@dataclass(frozen=True)
class DeadlyArrays(FeatureArrays):
    """Arrays that note every process that reads them, and kill the first to read ``fatal`` windows.

    Same content, same folder, same job: only the process that reads them may end. It waits for a
    checkpoint to be listed, which takes longer than an epoch as short as here.
    """

    notes: Path
    checkpoints: Path
    fatal: int

    def window(self, *where: Any, **views: Any) -> WindowSample:
        reader = self.notes / f"reader-{os.getpid()}"
        with reader.open("ab") as file:
            file.write(b".")
            num_read = file.tell()
        if num_read == self.fatal:
            try:
                (self.notes / "died").touch(exist_ok=False)
            except FileExistsError:
                pass
            else:
                while not any(self.checkpoints.rglob("checkpoint_manager_snapshot.json")):
                    time.sleep(0.05)
                os._exit(1)
        return super().window(*where, **views)

    def readers(self) -> dict[str, int]:
        """Process to number of windows it read."""
        return {path.name: path.stat().st_size for path in self.notes.glob("reader-*")}


def equal_states(
    found: Mapping[str, Any], expected: Mapping[str, Any], *, tolerance: float
) -> None:
    """Compare two final training states; seconds are not part of the result."""
    assert found["job"] == expected["job"]
    assert found["epoch"] == expected["epoch"]
    assert found["best_epoch"] == expected["best_epoch"]
    for weights in ("model", "best_weights"):
        assert set(found[weights]) == set(expected[weights])
        for name, x in expected[weights].items():
            torch.testing.assert_close(
                found[weights][name], x, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: n + m
            )
    for found_row, row in zip(found["history"], expected["history"], strict=True):
        kept = {key: value for key, value in row.items() if key != "seconds"}
        assert {k: found_row[k] for k in kept} == pytest.approx(kept, abs=tolerance)
