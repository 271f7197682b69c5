"""Two finished training runs on the same clips, from the predictions that they left."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from erray.errors import UserError
from erray.evaluation.clips import LabelledClips
from erray.evaluation.comparison import common_clips, compare, require_same_clips
from erray.flow.context import FUSION
from erray.training.runs import TrainingRun

_NUM_BOOTSTRAP, _SEED = 2000, 0


def compare_runs(
    folders: tuple[Path, Path],
    *,
    split: str,
    metrics: Sequence[str],
    rule: str | None = None,
    common: bool = False,
    num_bootstrap: int = _NUM_BOOTSTRAP,
) -> dict[str, Any]:
    """Compare the first run with the second.

    Args:
        folders: each of a training run, or of a whole run, whose fusion is then meant.
        rule: clip rule of both; None: each run's own.
        common: leave out what only one of them covers.

    Returns:
        ``a`` and ``b`` (folders), ``split``, ``left_out`` (clips of each), and the fields of
        :class:`erray.evaluation.comparison.Comparison`.

    Raises:
        UserError: no training run, one run twice, no labelled clip, runs that do not fit together.
    """
    runs = [find_run(folder) for folder in folders]
    if runs[0].folder.resolve() == runs[1].folder.resolve():
        raise UserError(f"{folders[0]} and {folders[1]} are one run: give two")
    names = (str(runs[0].folder), str(runs[1].folder))
    a, b = whole = [labelled_clips(run, split) for run in runs]
    if common and a.classes == b.classes:
        a, b = common_clips(a, b, names=names)
    remedy = "pass --common to compare the others"
    require_same_clips(a, b, names=names, remedy=remedy)
    found = compare(a, b, metrics=metrics, rule=rule, num_bootstrap=num_bootstrap, seed=_SEED)
    left_out = [len(before) - len(after) for before, after in zip(whole, (a, b), strict=True)]
    return {"a": names[0], "b": names[1], "split": split, "left_out": left_out, **asdict(found)}


def find_run(folder: Path) -> TrainingRun:
    """The training run in ``folder``, or the fusion of the whole run there.

    Raises:
        UserError: neither is there.
    """
    if not folder.is_dir():
        raise UserError(
            f"no folder {folder}: give the folder of a run, which `erray train -r RECIPE` makes"
        )
    for run in (TrainingRun(folder / "training" / FUSION), TrainingRun(folder)):
        if run.history():
            return run
    raise UserError(
        f"no finished training run in {folder}: expected history.json and predictions there, or in "
        f"training/{FUSION} below it; `erray train` writes them"
    )


def labelled_clips(run: TrainingRun, split: str, *, without: Collection[str] = ()) -> LabelledClips:
    """The labelled clips of a split as the run predicted them.

    Args:
        without: clips that are left out, such as those that another run has rejected.

    Raises:
        UserError: it predicted none.
    """
    rows = [row for row in run.predictions.read().to_pylist() if row["label"] is not None]
    rows = [row for row in rows if row["clip_id"] not in without]
    clips = LabelledClips.from_rows(row for row in rows if row["split"] == split)
    if clips is None:
        found = ", ".join(sorted({row["split"] for row in rows})) or "none"
        raise UserError(
            f"{run.folder} predicts no labelled clip of split {split!r}; "
            f"splits with labels: {found}"
        )
    return clips
