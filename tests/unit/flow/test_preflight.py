"""Every name and option that a recipe may have wrong, each found without data, each by its key."""

from __future__ import annotations

import subprocess
import sys

import pytest

from erray.config import load_recipe
from erray.corpora import CorpusClips
from erray.corpora.scan import ScannedMedium
from erray.errors import UserError
from erray.flow.preflight import recipe_mistakes, refuse_mistakes, refuse_unfit
from tests.tiny_run import REPOSITORY
from tests.unit.made_up_features import tiny_clips, tiny_recipe

PIPELINE = ["extract", "train", "tune", "register", "predict", "report"]

MISTAKES = {
    "streams={}": "the recipe has no streams: name at least one encoder",
    "streams.hogg={}": "streams.hogg: expected an encoder of .*; did you mean hog?",
    "streams.hog.size=64": "streams.hog: encoder hog has no option 'size'; .*mean size_px?",
    "streams.hog.size_px=3": "streams.hog: .*multiple of cell_px",
    "streams.ir50={}": "streams.ir50.weights: expected the path of",
    "streams.bert={model: no/where}": "streams.bert: expected a model on this machine, found no",
    "transcribe.model=no/where": "transcribe.model: expected a model on this machine, found no",
    "model.name=lfann": "model.name: no model named 'lfann'; .*; did you mean lfan?",
    "model.options.dropuot=0.1": "model.options: .*'dropuot'; .*; did you mean dropout?",
    "model.options.dropout=much": "model.options: model lfan: dropout: .*found 'much'",
    "model.options.leader=hgo": "model.options: leader 'hgo' is not a stream",
    "model.options.channels={hgo: [8]}": "model.options: channels name no stream of the model: hgo",
    "model.options.channels=[8]": "model.options: model lfan: channels: ",
    "model.options.num_heads=5": "model.options: .*must be a positive multiple of num_heads",
    "train.loss.class_weights=[1, 2]": "train.loss.class_weights has 2 numbers, the label set 7",
    "train.schedule.name=cosin": "train.schedule: no schedule named 'cosin'; .*mean cosine?",
    "train.schedule.options.tmax=9": "train.schedule: .*no option 'tmax'; .*; did you mean t_max?",
    "train.schedule.options.t_max=0": "train.schedule: .*t_max must be positive",
    "tune.space=lfn": "tune.space: no search space named 'lfn'; .*; did you mean lfan?",
    "tune.space=gone.py": "tune.space: no search space file gone.py",
    "tune.storage=postgresql://127.0.0.1:1/x": "tune.storage postgresql://127.0.0.1:1/x cannot be",
    "tracking.model_name=a/b": "tracking.model_name: model name 'a/b': expected letters",
    "tracking.alias=latest": "tracking.alias: alias 'latest': expected letters",
    "predict.model=models:/demo": "predict.model: .*expected models:/name@alias",
    "corpus.clock_hz=5": "predict.frame_list: a submission needs a class per frame",
    "report.compare=/no/run": "report.compare: no finished training run in /no/run",
}


@pytest.mark.parametrize("override", MISTAKES)
def test_a_mistake_is_one_line_that_begins_with_its_key(override):
    recipe = load_recipe("demo", [override])
    (line,) = recipe_mistakes(recipe, PIPELINE)
    assert "\n" not in line
    with pytest.raises(UserError, match=rf"^{MISTAKES[override]}"):
        refuse_mistakes(recipe, PIPELINE)


def test_the_recipe_of_the_demo_has_none():
    assert list(recipe_mistakes(load_recipe("demo"), [*PIPELINE, "repeat", "ablate"])) == []


def test_all_mistakes_are_told_together():
    overrides = ["model.name=can", "model.options.leeder=hog", "train.schedule.name=stp"]
    more = ["tracking.alias=v1", "streams.hog.cells=4", "tune.space=lfn"]
    lines = list(recipe_mistakes(load_recipe("demo", overrides + more), PIPELINE))
    keys = ["streams.hog", "model.options", "train.schedule", "tune.space", "tracking.alias"]
    assert [line.partition(":")[0] for line in lines] == keys


@pytest.mark.parametrize(
    ("override", "steps"),
    [
        ("model.name=lfann", ["extract", "predict", "report", "register"]),
        ("tune.space=lfn", ["extract", "train", "repeat", "ablate", "predict"]),
        ("report.compare=/no/run", ["extract", "train"]),
        ("predict.model=models:/demo", ["extract", "train", "tune", "report"]),
        ("streams.hogg={}", ["register"]),
    ],
)
def test_a_step_minds_only_what_it_uses(override, steps):
    recipe = load_recipe("demo", [override])
    for step in steps:
        assert list(recipe_mistakes(recipe, [step])) == []


def test_transcribing_needs_a_model():
    (line,) = recipe_mistakes(load_recipe("demo"), ["transcribe"])
    assert line.startswith("transcribe.model is not set: name a model")


SPACES = {
    "def space(trial):\n    return {'model.options.dropuot': 0.5}\n": "none of 5 .*'dropuot'",
    "def space(trial):\n    return {'train.schedule.name': 'stp'}\n": "none of 5 draws .*'stp'",
    "def space(trial):\n    return {'corpus.root': 'x'}\n": "none of 5 .*a trial changes keys of",
    "def space(trial):\n    trial.suggest_flaot('x', 0, 1)\n": "none of 5 .*mine.py, line 2: Attr",
    "def spcae(trial):\n    return {}\n": "mine.py has no function space",
    "def space(trial:\n": "mine.py, line 1: SyntaxError",
    "import numpyy\n": "mine.py, line 1: ModuleNotFoundError: No module named 'numpyy'",
}


@pytest.mark.parametrize("code", SPACES)
def test_a_search_space_is_loaded_and_drawn(code, tmp_path):
    (tmp_path / "mine.py").write_text(code)
    recipe = load_recipe("demo", [f"tune.space={tmp_path / 'mine.py'}"])
    with pytest.raises(UserError, match=f"^tune.space: .*{SPACES[code]}") as caught:
        refuse_mistakes(recipe, ["tune"])
    assert "\n" not in str(caught.value)


def test_neither_ray_nor_weights_are_needed():
    code = (
        "import sys\nfrom erray.config import load_recipe\n"
        "from erray.flow.preflight import recipe_mistakes\n"
        f"print(list(recipe_mistakes(load_recipe('demo'), {PIPELINE})), 'ray' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert done.stdout == "[] False\n"


def unfit(recipe, clips, steps):
    told: list[str] = []
    refuse_unfit(recipe, CorpusClips(clips), steps, say=told.append)
    return told


def test_a_corpus_that_lacks_what_the_steps_want_is_refused(tmp_path):
    recipe = tiny_recipe(corpus={"clock_hz": 25}, streams={"hash": {}})
    clips = [*tiny_clips(8), *tiny_clips(2, split="val", labelled=False)]
    with pytest.raises(UserError, match=r"^corpus: no_labels_in_val: 2 clips in split val, none"):
        unfit(recipe, clips, ["extract", "train"])
    told = unfit(recipe, clips, ["extract"])
    assert all(line.startswith("warning: ") for line in told)


def test_the_split_to_predict_must_be_there():
    settings = {"corpus": {"clock_hz": 25}, "streams": {"hash": {}}}
    clips = [*tiny_clips(8), *tiny_clips(2, split="val"), *tiny_clips(2, split="test")]
    typo = tiny_recipe(predict={"split": "tset"}, **settings)
    for steps in (["predict"], PIPELINE):
        with pytest.raises(UserError, match=r"^predict.split 'tset' .*; did you mean test\?$"):
            unfit(typo, clips, steps)
    unfit(tiny_recipe(**settings), clips, PIPELINE)  # no challenge: a pipeline predicts nothing
    with pytest.raises(UserError, match=r"^predict.split 'challenge' has no clips"):
        unfit(tiny_recipe(**settings), clips, ["predict"])


def test_a_frame_list_is_looked_for_before_hours_of_extraction(tmp_path):
    (tmp_path / "test0.mp4").touch()
    corpus = CorpusClips(
        tiny_clips(1, split="test"),
        media={"test0.mp4": ScannedMedium("test0.mp4", 0, 0, 0, "test0", True, 0.0, 3.0, 1, None)},
    )
    settings = {"split": "test", "frame_list": "frames.txt"}
    recipe = tiny_recipe(corpus={"root": str(tmp_path)}, predict=settings)
    with pytest.raises(UserError, match=r"^predict.frame_list: no frame list at .*frames.txt"):
        refuse_unfit(recipe, corpus, ["predict"], say=print)
    (tmp_path / "frames.txt").touch()
    refuse_unfit(recipe, corpus, ["predict"], say=print)
