"""The recipes with the published streams: an epoch on made-up features of the right shapes."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from erray.checkpoint import load_model
from erray.config import load_recipe
from erray.errors import UserError
from erray.plan import Plan
from erray.training.arrays import ClipPlace, FeatureArrays
from erray.training.job import TrainJob
from erray.training.runs import TrainingRun, finish_run, train_in_process

WIDTHS = {"ir50": 512, "vggish": 128, "bert": 768}
PUBLISHED = [f"{c}_{m}" for c in ("meld", "cexpr") for m in ("lfan", "can", "jmt", "mt")]
NUM_CLIPS = {"train": 10, "val": 5}


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> dict[str, FeatureArrays]:
    """Short clips of the published streams, one stream of each absent now and then."""
    folder, rng = tmp_path_factory.mktemp("arrays"), np.random.default_rng(0)
    for split, num_clips in NUM_CLIPS.items():
        (folder / split).mkdir()
        lengths = rng.integers(3, 20, num_clips)
        num_ticks = int(lengths.sum())
        for name, width in WIDTHS.items():
            values = rng.normal(size=(num_ticks, width)).astype(np.float32)
            np.save(folder / split / f"{name}.values.npy", values)
            np.save(folder / split / f"{name}.present.npy", rng.random(num_ticks) > 0.2)
        np.save(
            folder / split / "times_s.npy", np.concatenate([np.arange(n) / 25 for n in lengths])
        )
        places = [
            ClipPlace(f"{split}{i}", split, f"group{i}", i % 7, int(offset), int(length))
            for i, (offset, length) in enumerate(
                zip(np.cumsum([0, *lengths]), lengths, strict=False)
            )
        ]
        index = {"streams": list(WIDTHS), "clips": [vars(place) for place in places]}
        (folder / split / "index.json").write_text(json.dumps(index))
    return {split: FeatureArrays(folder / split) for split in NUM_CLIPS}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_recipe_trains_an_epoch(name, arrays, tmp_path):
    recipe = load_recipe(name)
    corpus, model = name.split("_")
    assert (recipe.corpus.kind, recipe.model.name) == (corpus, model)
    settings = recipe.train.model_copy(update={"epochs": 1})
    job = TrainJob(
        **arrays,
        streams={stream: WIDTHS[stream] for stream in recipe.streams},
        num_classes=len(recipe.corpus.label_set),
        model=recipe.model,
        settings=settings,
        seed=recipe.seed,
    )
    run = TrainingRun(tmp_path / name)
    state = train_in_process(job, run)
    (row,) = state["history"]
    assert math.isfinite(row["train_loss"]) and row["lr"] == pytest.approx(1e-3)
    before = job.make_model().state_dict()
    assert any(not torch.equal(x, before[key]) for key, x in state["model"].items())
    assert run.history() == {}
    finish_run(
        run,
        job,
        state,
        labels=recipe.corpus.label_set,
        features=dict.fromkeys(job.streams, "0" * 16),
        clock_hz=recipe.corpus.clock_hz,
        splits={"val": job.val},
    )
    selection = {"meld": "val_weighted_f1", "cexpr": "val_frame_weighted_f1"}
    assert run.history()["metric"] == selection[corpus]
    assert run.predictions.read().num_rows == NUM_CLIPS["val"]
    _, description = load_model(run.model)
    assert description.streams == dict(job.streams)


@pytest.mark.parametrize("name", ["meld_lfan", "cexpr_jmt"])
def test_without_the_face_networks_weights_a_recipe_ends_in_one_line(name):
    with pytest.raises(UserError, match=r"^streams\.ir50\.weights: expected the path of [^\n]+$"):
        Plan(load_recipe(name)).fingerprints  # noqa: B018 every step asks for them


@pytest.mark.parametrize("name", ["cexpr", "cexpr_lfan", "meld", "meld_mt"])
def test_seeds_and_folds_that_are_repeated(name):
    repeat = load_recipe(name).repeat
    assert len(repeat.seeds) == 3
    assert repeat.folds == ("all" if name.startswith("cexpr") else None)
