"""Made-up features on disk, as ``erray.training.ingest`` writes them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from erray.config import Model, Train, parse_recipe
from erray.training.arrays import FeatureArrays
from erray.training.job import TrainJob

WIDTHS = {"hog": 6, "logmel": 4}
NUM_CLASSES = 3


def write_arrays(folder: Path, *, num_clips: int, seed: int, num_views: int = 1) -> FeatureArrays:
    """Clips of 5 to 40 ticks whose class shows in both streams, one stream absent now and then.

    Views of ``hog`` besides the first are far from it, so that who sees them differs.
    """
    rng = np.random.default_rng(seed)
    lengths = rng.integers(5, 40, num_clips)
    labels = np.arange(num_clips) % NUM_CLASSES
    folder.mkdir(parents=True)
    for name, width in WIDTHS.items():
        centres = np.random.default_rng(len(name)).normal(size=(NUM_CLASSES, width))
        values = rng.normal(size=(lengths.sum(), width)) + centres[np.repeat(labels, lengths)]
        np.save(folder / f"{name}.values.npy", values.astype(np.float32))
        if name == "hog" and num_views > 1:
            more = [values * (2 + view) for view in range(num_views - 1)]
            np.save(folder / "hog.more_views.npy", np.array(more, np.float32))
        np.save(folder / f"{name}.present.npy", rng.random(lengths.sum()) > 0.2)
    np.save(folder / "times_s.npy", np.concatenate([np.arange(n) / 25 for n in lengths]))
    offsets = np.cumsum([0, *lengths])
    clips = [
        {
            "clip_id": f"clip{i}",
            "split": folder.name,
            "group": f"group{i}",
            "label": int(labels[i]),
            "offset": int(offsets[i]),
            "num_ticks": int(lengths[i]),
        }
        for i in range(num_clips)
    ]
    (folder / "index.json").write_text(json.dumps({"streams": list(WIDTHS), "clips": clips}))
    return FeatureArrays(folder)


@pytest.fixture(scope="session")
def make_job(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., TrainJob]:
    """A job over made-up arrays; keywords are settings of the recipe's ``train`` section."""
    folder = tmp_path_factory.mktemp("arrays")
    train = write_arrays(folder / "train", num_clips=23, seed=1)
    with_views = write_arrays(folder / "views" / "train", num_clips=23, seed=1, num_views=3)
    val = write_arrays(folder / "val", num_clips=9, seed=2, num_views=3)

    def make(
        *, dropout: float = 0.1, seed: int = 0, views: bool = False, **settings: object
    ) -> TrainJob:
        options = {"dropout": dropout, "channels": {"hog": [8, 8], "logmel": [8, 8]}}
        defaults = {"epochs": 3, "window": 16, "hop": 8, "batch_size": 5}
        recipe = parse_recipe({"train": defaults | settings})
        assert isinstance(recipe.train, Train)
        return TrainJob(
            train=with_views if views else train,
            val=val,
            streams=WIDTHS,
            num_classes=NUM_CLASSES,
            model=Model(name="lfan", options=options),
            settings=recipe.train,
            seed=seed,
        )

    return make
