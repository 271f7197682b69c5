"""The option ``--save`` of every benchmark: only a committed tree has its results kept."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from erray.run_record import git_commit

HERE = Path(__file__).parent
RESULTS = HERE / "results"


def add_save(parser: argparse.ArgumentParser) -> None:
    """Add ``--save``; a tree with uncommitted changes is refused before anything is measured."""
    parser.add_argument(
        "--save", action=_SaveFromCleanTree, help=f"keep the result in {RESULTS.name}/"
    )


class _SaveFromCleanTree(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, **settings: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, default=False, **settings)

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, *_: object
    ) -> None:
        commit = git_commit(HERE)
        if commit is None or commit.endswith("-dirty"):
            parser.error(
                "--save names the commit that was measured, and this tree has uncommitted changes: "
                "commit them first, or leave --save out"
            )
        setattr(namespace, self.dest, True)
