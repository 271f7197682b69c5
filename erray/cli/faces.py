"""``erray faces``: how the faces of one medium are found, to look at with one's own eyes."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from erray.cli.display import print_plainly
from erray.cli.options import OverrideOption
from erray.config import Recipe, load_recipe
from erray.errors import MediaError, UserError, refusal

if TYPE_CHECKING:
    from erray.faces.track import ClipFaces
    from erray.media import Decoder

SUFFIXES = (".png", ".mp4")


def faces(
    clip: Annotated[Path, typer.Argument(help="A video file.", show_default=False)],
    recipe: Annotated[
        str, typer.Option("--recipe", "-r", help="Recipe whose faces section is used.")
    ] = "demo",
    override: OverrideOption = None,
    start: Annotated[
        float | None, typer.Option("--start", help="First second of the span.")
    ] = None,
    end: Annotated[float | None, typer.Option("--end", help="First second after the span.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="A .png (contact sheet) or .mp4 (annotated video); "
            "if left out, CLIP's name with .faces.png in the current folder.",
        ),
    ] = None,
) -> None:
    """Draw the faces that are found in a video: a contact sheet or an annotated video."""
    target = out or Path(f"{clip.stem}.faces.png")
    _check(clip, target, start, end)
    loaded = load_recipe(recipe, override)
    from erray.media import Decoder
    from erray.plan import Plan

    try:
        with Decoder(Plan(loaded).limits) as decoder:
            found, seconds = _track(loaded, decoder, clip, start, end)
            _write(decoder, clip, target, found, start, end)
    except MediaError as error:
        raise UserError(f"{clip}: {error}") from None
    print_plainly(f"{_summary(found, seconds)}: {target}")


def _check(clip: Path, target: Path, start: float | None, end: float | None) -> None:
    if target.suffix.lower() not in SUFFIXES:
        raise UserError(f"--out {target}: expected a file that ends in {' or '.join(SUFFIXES)}")
    if not target.absolute().parent.is_dir():
        raise UserError(f"--out {target}: no folder {target.absolute().parent}, make it first")
    if not clip.is_file():
        raise UserError(f"no file {str(clip)!r}: give a video file")
    if target.exists() and clip.exists() and target.samefile(clip):
        raise UserError(f"--out {target}: that is the clip itself, give another file")
    try:  # now rather than after the whole video
        with tempfile.TemporaryFile(dir=target.absolute().parent):
            pass
    except OSError as error:
        found, advice = refusal(error) or (str(error), "name another place")
        raise UserError(f"--out {target}: {found}: {advice}") from None
    if start is not None and end is not None and end <= start:
        raise UserError(f"--end {end:g}: expected a time after --start {start:g}")


def _track(
    recipe: Recipe, decoder: Decoder, clip: Path, start: float | None, end: float | None
) -> tuple[ClipFaces, float]:
    """Return the faces and how long that took, start-up apart."""
    from erray.faces.detect import MtcnnDetector
    from erray.faces.track import FaceTracker
    from erray.plan import Plan

    plan = Plan(recipe)
    if plan.detector is None:
        raise UserError(f"recipe {recipe.name}: no stream reads faces; choose one with, say, hog")
    detector = MtcnnDetector(plan.detector)
    detector([np.zeros((64, 64, 3), np.uint8)])  # loads the nets
    tracker = FaceTracker(detector, plan.tracker)
    start_s = time.perf_counter()
    found = tracker.track(decoder.frames(clip, start_s=start, end_s=end))
    return found, time.perf_counter() - start_s


def _write(
    decoder: Decoder,
    clip: Path,
    target: Path,
    found: ClipFaces,
    start: float | None,
    end: float | None,
) -> None:
    """Read the frames once more: a whole video does not fit into memory."""
    frames = decoder.frames(clip, start_s=start, end_s=end)
    if target.suffix.lower() == ".mp4":
        from erray.faces.annotated import SOUND_RATE_HZ, write_annotated

        sound = decoder.waveform(clip, start_s=start, end_s=end, rate_hz=SOUND_RATE_HZ)
        write_annotated(target, frames, found, sound)
        return
    from erray.faces.sheet import contact_sheet, sheet_ticks

    ticks = set(sheet_ticks(len(found.frame_times_s_T)))
    shown = {tick: image.copy() for tick, (_, image) in enumerate(frames) if tick in ticks}
    contact_sheet(target, shown, found)


def _summary(found: ClipFaces, seconds: float) -> str:
    num_frames = len(found.frame_times_s_T)
    main = next((track for track in found.tracks if track.is_main), None)
    share = 0.0 if main is None else float(main.present_T.mean())
    return (
        f"{num_frames} frames, {len(found.tracks)} tracks, "
        f"main track in {share:.0%} of the frames, {num_frames / seconds:.0f} frames/s"
    )
