"""Clips to transcripts to clips, with real sound files and a recogniser of fixed words."""

from dataclasses import replace

import numpy as np
import pytest

from erray.config import parse_recipe
from erray.errors import UserError
from erray.flow.context import Flow
from erray.flow.corpus import recipe_corpus
from erray.flow.transcribe import transcribe_step
from erray.media import Decoder
from erray.plan import Plan
from erray.records import Clip, Word
from erray.speech import Recognition
from erray.store import RunFolder
from erray.transcription import (
    make_recogniser,
    recogniser_fingerprint,
    transcribe,
    transcript_key,
    with_words,
)
from tests.unit.media_files import write_wav

HEARD = Recognition("well yes", (Word("well", 0.1, 0.2), Word("yes", 0.3, 0.4)), "en")


class FixedRecogniser:
    """Hears the same in every sound, and remembers how long each was."""

    def __init__(self):
        self.lengths_s = []

    def __call__(self, wave):
        self.lengths_s.append(len(wave.samples_N) / wave.rate_hz)
        return HEARD


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "media"
    folder.mkdir()
    for name in ("a.wav", "b.wav"):
        write_wav(folder / name, np.zeros((1, 16_000), np.float32), rate_hz=16_000)
    (folder / "bad.wav").write_bytes(b"no sound")
    return folder


@pytest.fixture
def table(tmp_path):
    return RunFolder(str(tmp_path / "run")).transcripts


def clip_of(name, **fields):
    fields = {"file_sha256": name} | fields
    return Clip(clip_id=name, media=f"{name}.wav", split="train", group=name, **fields)


def run(clips, root, table, recogniser):
    with Decoder() as decoder:
        return transcribe(
            clips,
            root=str(root),
            table=table,
            recogniser=recogniser,
            print_="f1",
            decoder=decoder,
            shard_clips=2,
            on_clip=lambda through, total: None,
        )


def test_clips_without_words_get_them_and_a_second_run_does_nothing(root, table):
    clips = [clip_of("a"), clip_of("b", end_s=0.5), clip_of("bad")]
    recogniser = FixedRecogniser()
    counts = run(clips, root, table, recogniser)
    assert (counts.wanted, counts.written, counts.unreadable) == (3, 2, 1)
    assert recogniser.lengths_s == pytest.approx([1.0, 0.5], abs=1e-3)
    joined, lacking = with_words(clips, table, "f1")
    assert [clip.transcript for clip in joined] == ["well yes", "well yes", None]
    assert joined[0].words == HEARD.words and lacking == 1
    again = run(clips, root, table, recogniser)
    assert (again.written, again.unreadable) == (0, 1) and len(recogniser.lengths_s) == 2


def test_known_words_and_known_silence_are_left_alone(root, table):
    words = (Word("hm", 0.0, 0.1),)
    clips = [
        clip_of("a", transcript="hm", words=words),
        clip_of("b", transcript=""),
        clip_of("gone", file_sha256=None),
    ]
    assert run(clips, root, table, FixedRecogniser()).wanted == 0
    assert with_words(clips, table, "f1") == (clips, 0)


def test_a_known_transcript_stays_and_gets_times(root, table):
    clip = clip_of("a", transcript="Well, maybe.")
    run([clip], root, table, FixedRecogniser())
    (joined,), _ = with_words([clip], table, "f1")
    assert joined.transcript == "Well, maybe."
    assert joined.words[0] == Word("Well,", 0.1, 0.2)
    assert joined.words[1].text == "maybe." and joined.words[1].end_s == pytest.approx(0.4)


def test_the_key_is_content_span_and_recogniser():
    clip = clip_of("a")
    key = transcript_key("f1", clip)
    assert transcript_key("f1", replace(clip, clip_id="x", media="y", transcript="z")) == key
    others = [replace(clip, file_sha256="z"), replace(clip, start_s=0.1), replace(clip, end_s=1.0)]
    assert len({key, transcript_key("f2", clip), *(transcript_key("f1", c) for c in others)}) == 5


def recipe_of(root, **transcribe_settings):
    manifest = "clip_id,media,split\na,a.wav,train\nb,b.wav,train\n"
    (root / "manifest.csv").write_text(manifest)
    return parse_recipe(
        {
            "corpus": {"root": str(root), "labels": "basic7", "clock_hz": 10},
            "streams": {"hash": {}},
            "transcribe": transcribe_settings,
        }
    )


@pytest.fixture
def model(tmp_path):
    """The files of a recogniser, without the weights that it would take to load it."""
    folder = tmp_path / "whisper"
    folder.mkdir()
    for name in ("model.bin", "config.json", "tokenizer.json"):
        (folder / name).write_text("{}")
    return str(folder)


def test_a_recipe_joins_what_its_recogniser_wrote(root, model, tmp_path):
    recipe, out = recipe_of(root, model=model), tmp_path / "run"
    before = recipe_corpus(recipe, out)
    assert "2 clips are not transcribed: run `erray transcribe` first" in before.warnings
    print_ = recogniser_fingerprint(make_recogniser(recipe.transcribe))
    table = RunFolder.of(recipe, out).transcripts
    with Decoder() as decoder:
        transcribe(
            before.clips[:1],
            root=str(root),
            table=table,
            recogniser=FixedRecogniser(),
            print_=print_,
            decoder=decoder,
            shard_clips=4,
            on_clip=lambda through, total: None,
        )
    after = recipe_corpus(recipe, out)
    # both files hold the same sound, so one transcript serves both
    assert [clip.words for clip in after.clips] == [HEARD.words] * 2 and not after.warnings
    plan = Plan(recipe)
    assert plan.key("hash", before.clips[0]) != plan.key("hash", after.clips[0])
    other = recipe_of(root, model=model, beam_size=1)
    assert [clip.words for clip in recipe_corpus(other, out).clips] == [None] * 2


def test_the_step_refuses_what_is_not_there(root, tmp_path):
    with pytest.raises(UserError, match=r"transcribe\.model is not set"):
        transcribe_step(Flow(recipe_of(root), tmp_path / "run", tmp_path))
    missing = recipe_of(root, model="nobody/none")
    with pytest.raises(UserError, match="hf download nobody/none"):
        transcribe_step(Flow(missing, tmp_path / "run", tmp_path))
