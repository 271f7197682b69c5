"""Every named component of a recipe, made without data before anything runs.

What a typo breaks is found here within seconds: no Ray is started, no medium opened, and of weights
only the presence and the hash are looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import nn

from erray.config import Recipe, with_settings
from erray.corpora import CorpusClips
from erray.corpora.check import check_corpus
from erray.corpora.findings import ERROR, Finding
from erray.corpora.purpose import check_purpose
from erray.encoders import make_encoder
from erray.errors import UserError, did_you_mean
from erray.models import MODELS, make_model
from erray.plan import Plan
from erray.records import Clip
from erray.registry.names import parse_model_uri, require_valid_alias, require_valid_name
from erray.report.other_run import training_folder
from erray.training.job import model_over
from erray.training.losses import ClassCounts, TrainingLoss
from erray.training.optimiser import make_optimiser
from erray.training.warmup import run_schedule
from erray.transcription import make_recogniser, recogniser_fingerprint, require_recogniser
from erray.tuning.length import trial_recipe
from erray.tuning.space import load_space
from erray.tuning.storage import require_storage

TRAINING = frozenset({"train", "tune", "repeat", "ablate"})
"""Steps that train."""
USING_CLIPS = TRAINING | {"extract", "predict"}
"""Steps that make or read features of the corpus."""

_WIDTH = 128
"""Of a stream whose encoder cannot be made: the model's own mistakes are found all the same."""
_NUM_DRAWS = 5
"""Of a search space; a draw may be no recipe, as a trial may fail."""


def refuse_mistakes(recipe: Recipe, steps: Collection[str]) -> None:
    """Make all that ``steps`` will make of ``recipe``.

    Raises:
        UserError: what is wrong, a line per mistake that begins with its key.
    """
    found = list(recipe_mistakes(recipe, steps))
    if found:
        raise UserError("\n".join(found))


def recipe_mistakes(recipe: Recipe, steps: Collection[str]) -> Iterator[str]:
    """Yield a line for everything that ``steps`` could not make of ``recipe``."""
    wanted, widths = set(steps), dict.fromkeys(recipe.streams, _WIDTH)
    if wanted & {*USING_CLIPS, "report"}:
        yield from _extraction_mistakes(recipe, widths)
    if "transcribe" in wanted:
        yield from _mistake("transcribe", lambda: require_recogniser(recipe.transcribe))
    if wanted & TRAINING and recipe.streams:
        found = list(_training_mistakes(recipe, widths))
        yield from found
        if "tune" in wanted:
            yield from _search_mistakes(recipe, widths, draw=not found)
    if wanted & {*TRAINING, "register", "predict"}:
        tracking = recipe.tracking
        yield from _mistake("tracking.model_name", partial(require_valid_name, tracking.model_name))
        yield from _mistake("tracking.alias", partial(require_valid_alias, tracking.alias))
    if "predict" in wanted:
        yield from _prediction_mistakes(recipe)
    compared = recipe.report.compare
    if "report" in wanted and compared is not None:
        yield from _mistake("report.compare", partial(training_folder, compared))


def _mistake(key: str, make: Callable[[], object]) -> Iterator[str]:
    """A line where ``make`` refuses what the recipe says at ``key``."""
    try:
        make()
    except UserError as error:
        said = str(error)
        yield said if said.startswith(key) else f"{key}: {said}"


def _extraction_mistakes(recipe: Recipe, widths: dict[str, int]) -> Iterator[str]:
    """What is wrong with streams, faces and recogniser; notes the streams' widths."""
    if not recipe.streams:
        yield "the recipe has no streams: name at least one encoder in `streams`"

    def make_stream(name: str) -> None:
        encoder = make_encoder(name, recipe.streams[name])
        widths[name] = encoder.width
        encoder.weights_sha256  # noqa: B018 - refuses weights that are not there

    found = [
        line for n in recipe.streams for line in _mistake(f"streams.{n}", partial(make_stream, n))
    ]
    yield from found
    if not found:  # which detector there is depends on the streams
        plan = Plan(recipe)
        yield from _mistake("faces", lambda: (plan.detector, plan.tracker))
        yield from _mistake("media", lambda: plan.limits)
    if recipe.transcribe.model is not None:
        recogniser = make_recogniser(recipe.transcribe)
        yield from _mistake("transcribe.model", lambda: recogniser_fingerprint(recogniser))


def _training_mistakes(recipe: Recipe, widths: Mapping[str, int]) -> Iterator[str]:
    """What is wrong with the model, of all streams and of each alone, and with its training."""
    train, ones = recipe.train, [1] * len(recipe.corpus.label_set)
    key = "model.options" if recipe.model.name in MODELS else "model.name"
    yield from _mistake(key, partial(_make_models, recipe, widths))
    yield from _mistake(
        "train.loss", lambda: TrainingLoss(train.loss, ClassCounts(ones, ones, ones))
    )
    yield from _mistake("train.schedule", lambda: run_schedule(train))
    yield from _mistake("train.optimiser", lambda: make_optimiser(nn.Linear(1, 1), train.optimiser))


def _make_models(recipe: Recipe, widths: Mapping[str, int]) -> None:
    names = list(recipe.streams)
    alone = [[name] for name in names] if len(names) > 1 else []
    for part in (names, *alone):
        model = model_over(recipe.model, part, all_streams=names)
        streams = {name: widths[name] for name in part}
        with torch.device("meta"):  # shapes alone
            make_model(model.name, streams, len(recipe.corpus.label_set), model.options)


def _search_mistakes(recipe: Recipe, widths: Mapping[str, int], *, draw: bool) -> Iterator[str]:
    """What is wrong with the search; ``draw``: the recipe itself can be trained."""
    if draw:
        yield from _mistake("tune.space", partial(_draw, recipe, widths))
    elif recipe.tune.space is not None:
        yield from _mistake("tune.space", partial(load_space, recipe.tune.space))
    storage = recipe.tune.storage
    if storage is not None:
        yield from _mistake("tune.storage", lambda: require_storage(storage))


def _draw(recipe: Recipe, widths: Mapping[str, int]) -> None:
    """Load the search space, and make the model and schedule of one draw.

    Raises:
        UserError: no such space, or none of a few draws is a recipe; the first one's reason.
    """
    space, short = load_space(recipe.tune.space or recipe.model.name), trial_recipe(recipe)
    reasons = []
    for seed in range(_NUM_DRAWS):
        try:
            changed = with_settings(short, space.draw(short, seed=seed))
            _make_models(changed, widths)
            run_schedule(changed.train)
        except UserError as error:
            reasons.append(str(error))
        else:
            return
    raise UserError(f"none of {_NUM_DRAWS} draws can be trained; the first: {reasons[0]}")


def _prediction_mistakes(recipe: Recipe) -> Iterator[str]:
    settings = recipe.predict
    if settings.model is not None:
        yield from _mistake("predict.model", partial(parse_model_uri, settings.model))
    if settings.frame_list is not None and recipe.corpus.clock_hz is not None:
        yield from _mistake("predict.frame_list", lambda: submission_list(recipe))


def refuse_unfit(
    recipe: Recipe, corpus: CorpusClips, steps: Collection[str], *, say: Callable[[str], None]
) -> list[Finding]:
    """See that the corpus has what ``steps`` want of it; ``say`` what is odd, and return that.

    Raises:
        UserError: what cannot work, a line each.
    """
    wanted = set(steps)
    findings = [
        *check_corpus(recipe.corpus, corpus),
        *check_purpose(
            corpus.clips,
            training=bool(wanted & TRAINING),
            predicted=recipe.predict.split,
            text=wordless_streams(recipe),
        ),
    ]
    errors = [f"corpus: {found.line()}" for found in findings if found.level == ERROR]
    if "predict" in wanted:
        errors += _predicted_mistakes(recipe, corpus.clips, alone=wanted == {"predict"})
    if errors:
        raise UserError("\n".join(errors))
    for found in findings:
        say(f"{found.level}: {found.line()}")
    return findings


def wordless_streams(recipe: Recipe) -> list[str]:
    """Streams that read the corpus' own words alone, because no recogniser is named."""
    if recipe.transcribe.model is not None:
        return []
    return [name for name, modality in Plan(recipe).modalities.items() if modality == "text"]


def _predicted_mistakes(recipe: Recipe, clips: Sequence[Clip], *, alone: bool) -> Iterator[str]:
    """What is wrong with the split that is predicted; a pipeline leaves one without clips out."""
    split, splits = recipe.predict.split, sorted({clip.split for clip in clips})
    if split in splits:
        if recipe.predict.frame_list is not None:
            yield from _mistake("predict.frame_list", lambda: submission_list(recipe))
    elif alone or split != type(recipe.predict).model_fields["split"].default:
        yield (
            f"predict.split {split!r} has no clips; the corpus has {', '.join(splits)}"
            f"{did_you_mean(split, splits)}"
        )


def submission_list(recipe: Recipe) -> Path:
    """Return the challenge's list of frames that the recipe names.

    Raises:
        UserError: the recipe's clock is not the frames' own, or the list is not there.
    """
    listed, clock_hz = recipe.predict.frame_list, recipe.corpus.clock_hz
    assert listed is not None
    if clock_hz is not None:
        raise UserError(
            f"a submission needs a class per frame, corpus.clock_hz is {clock_hz:g}: predict with "
            f"a model of the frames' own times, or leave predict.frame_list out"
        )
    path = Path(recipe.corpus.root) / listed
    if not path.is_file():
        raise UserError(
            f"no frame list at {path}: set predict.frame_list to the organisers' list, relative to "
            f"corpus.root; null writes no submission"
        )
    return path
