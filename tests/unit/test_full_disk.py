"""Whatever is written for a user is whole or as it was before, also where no room is left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from erray.checkpoint import save_model, save_state
from erray.config import parse_recipe
from erray.corpora import label_folders
from erray.errors import UserError
from erray.faces.annotated import write_video
from erray.faces.sheet import contact_sheet
from erray.faces.track import ClipFaces
from erray.flow.import_model import write_recipe
from erray.flow.media_corpus import MediaFiles
from erray.labels import CEXPR_7
from erray.records import Clip
from erray.store import write_json
from erray.submission import write_submission
from erray.timelines import Timeline, write_timelines
from tests.unit.file_limit import file_limit
from tests.unit.test_checkpoint import description, fresh_model

LIMIT_BYTES = 2000
LONG = "x" * LIMIT_BYTES
RNG = np.random.default_rng(0)
PICTURES = [(i / 25, RNG.integers(0, 255, (64, 64, 3), dtype=np.uint8)) for i in range(20)]
NO_FACES = ClipFaces(np.arange(20) / 25, [], {}, (64, 64))


def model(path: Path) -> None:
    found = description.__wrapped__()
    save_model(path, fresh_model(found), found)


def timelines(path: Path) -> None:
    small = Timeline("a", np.zeros(1), np.full((1, 7), 1 / 7), CEXPR_7.names)
    large = Timeline("b", np.zeros(99), np.full((99, 7), 1 / 7), CEXPR_7.names)
    write_timelines(path, [small, large])


def submission(path: Path) -> None:
    frame_list = path.parents[1] / "frames.txt"
    if not frame_list.exists():
        frame_list.write_text("".join(f"v/{i:05d}.jpg\n" for i in range(1, 301)))
    classes = {"v": np.zeros(300, np.int64)}
    write_submission(path, classes, frame_list, class_names=CEXPR_7.names, rejected={})


def manifest(path: Path) -> None:
    label_folders.write_manifest(path, [Clip("a", LONG, "train", "g", label="Anger")])


def sheet(path: Path) -> None:
    contact_sheet(path, {i: image for i, (_, image) in enumerate(PICTURES)}, NO_FACES)


WRITERS = {
    "model": model,
    "state.pt": lambda path: save_state(path, {"x": torch.zeros(LIMIT_BYTES)}),
    "study.json": lambda path: write_json(path, [LONG]),
    "timelines": timelines,
    "submission.csv": submission,
    "imported.yaml": lambda path: write_recipe(parse_recipe({"name": LONG}), path),
    "media.csv": lambda path: MediaFiles(Path("/"), {LONG: LONG}).write_manifest(path),
    "manifest.csv": manifest,
    "faces.mp4": lambda path: write_video(path, PICTURES, None),
    "faces.png": sheet,
}


def contents(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize("name", WRITERS)
def test_what_does_not_fit_leaves_what_was_there(name, tmp_path, monkeypatch):
    monkeypatch.setattr("erray.store.folder._PAUSES_S", ())
    path = tmp_path / "run" / name
    path.parent.mkdir()
    WRITERS[name](path)
    if name == "manifest.csv":  # one that is there is refused, and never replaced
        path.unlink()
    before = contents(path.parent)
    with file_limit(LIMIT_BYTES), pytest.raises(UserError) as refused:
        WRITERS[name](path)
    line = str(refused.value)
    assert name in line and str(path.parent) in line and "File too large" in line
    assert "\n" not in line
    assert contents(path.parent) == before
