"""``erray faces`` in this process, on a real portrait made into a film."""

import re
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from erray.cli.main import main
from erray.media import VideoReader


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """The portrait for 12 frames, then a wall for 8, at uneven times."""
    path = tmp_path_factory.mktemp("film") / "[film].mp4"
    portrait = np.ascontiguousarray(astronaut()[40:240, 120:320])
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 200, 200, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for i in range(20):
            image = portrait if i < 12 else np.full_like(portrait, 90)
            one = av.VideoFrame.from_ndarray(image, format="rgb24")
            one.pts, one.time_base = 40 * i + 7 * (i % 3), Fraction(1, 1000)
            container.mux(stream.encode(one))
        container.mux(stream.encode(None))
    return path


def call(*arguments) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["faces", *map(str, arguments)])
    return int(caught.value.code or 0)


def test_a_contact_sheet_lands_in_the_current_folder(film, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call(film, "-o", "faces.min_face_px=60") == 0
    line = capsys.readouterr().out.strip()
    pattern = (
        r"20 frames, 1 tracks, main track in 60% of the frames, \d+ frames/s: \[film\]\.faces\.png"
    )
    assert re.fullmatch(pattern, line), line
    with Image.open(tmp_path / "[film].faces.png") as sheet:
        assert sheet.format == "PNG" and sheet.width > 1000


def test_an_annotated_video_of_a_span(film, tmp_path, capsys):
    out = tmp_path / "seen.mp4"
    assert call(film, "--start", 0.2, "--end", 0.6, "--out", out) == 0
    assert capsys.readouterr().out.startswith("10 frames, 1 tracks, main track in 70%")
    span_s = [t for t, _ in VideoReader(film, start_s=0.2, end_s=0.6)]
    seen_s = [t for t, _ in VideoReader(out)]
    assert seen_s == pytest.approx(np.array(span_s) - span_s[0], abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "faces.gif"], "expected a file that ends in .png or .mp4"),
        (["--out", "nowhere/faces.png"], "no folder"),
        (["--start", "2", "--end", "1"], "expected a time after --start 2"),
        (["-o", "faces.stride=0"], "faces.stride"),
        (["--recipe", "no_such"], "no recipe named"),
        (["-o", "streams={hash: {}}"], "no stream reads faces"),
        (["--start", "99"], "no_frames"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    film, arguments, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert call(film, *arguments) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error
    assert not list(tmp_path.iterdir())


def test_a_clip_is_never_overwritten_and_a_broken_one_says_why(film, tmp_path, capsys):
    before = film.read_bytes()
    assert call(film, "--out", film) == 2 and film.read_bytes() == before
    assert "the clip itself" in capsys.readouterr().err
    text = tmp_path / "text.mp4"
    text.write_text("Not a film.\n")
    assert call(text, "--out", tmp_path / "a.png") == 2
    assert "not_media" in capsys.readouterr().err
