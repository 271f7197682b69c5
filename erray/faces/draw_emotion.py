"""A frame with what a model says at it: box and label of the face, a panel of probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from erray.faces.draw import draw_tag

MIN_SIDE_PX = 360
"""Smaller pictures are drawn larger, or nobody could read the panel."""
MIN_LINES = 17
"""Lines of text that a panel is high at least; a class takes two, headings and foot seven."""
WINNER, OTHER, GROUND, TROUGH, BRIGHT, DIM = (
    *("#ffb000", "#648fff", "#14171c", "#2b313a"),
    *("#f2f4f7", "#9aa4b2"),
)


class EmotionPanel:
    """Draws the frames of one clip, each as large as the others.

    Args:
        frame_size_px: width and height of the frames.
        classes: names of the classes, in the order of the probabilities.
        heading: what is said of the whole clip, above the classes.
    """

    def __init__(
        self, frame_size_px: tuple[int, int], classes: Sequence[str], *, heading: str
    ) -> None:
        self.classes, self.heading = classes, heading
        self.scale = max(1.0, MIN_SIDE_PX / min(frame_size_px))
        width_px, height_px = (round(side * self.scale) for side in frame_size_px)
        lines = max(MIN_LINES, 2 * len(classes) + 7)
        self.line_px = height_px / lines
        self.font = ImageFont.load_default(round(0.75 * self.line_px))
        longest = max(self.font.getlength(text) for text in (heading, *classes))
        self.left_px = width_px  # where the panel begins
        self.panel_px = round(longest + 5 * self.line_px)
        self.size_px = (width_px + self.panel_px, height_px)

    def draw(
        self,
        image_HWC: NDArray[np.uint8],
        probabilities_C: NDArray[np.float64],
        *,
        box_px_4: NDArray[np.float32] | None,
        time_s: float,
    ) -> NDArray[np.uint8]:
        """Return the frame with its panel as a new picture, ``size_px`` large.

        Args:
            image_HWC: uint8 RGB.
            probabilities_C: at this frame.
            box_px_4: of the face, of the main track, in pixels of the frame; None: not there.
            time_s: since the first frame.
        """
        winner = int(probabilities_C.argmax())
        picture = Image.new("RGB", self.size_px, GROUND)
        frame = Image.fromarray(image_HWC)
        if self.scale > 1:
            frame = frame.resize((self.left_px, self.size_px[1]), Image.Resampling.BICUBIC)
        if box_px_4 is not None:
            box = (box_px_4 * self.scale).tolist()
            line_px = max(2, round(min(frame.size) / 160))
            ImageDraw.Draw(frame).rectangle(box, outline=WINNER, width=line_px)
            text = f"{self.classes[winner]} {probabilities_C[winner]:.0%}"
            draw_tag(frame, box, text, WINNER)
        picture.paste(frame, (0, 0))
        face = "" if box_px_4 is not None else "   main face not seen"
        self._draw_panel(picture, probabilities_C, winner, f"{_clock(time_s)}{face}")
        return np.asarray(picture)

    def _draw_panel(
        self, picture: Image.Image, probabilities_C: NDArray[np.float64], winner: int, foot: str
    ) -> None:
        pen, line = ImageDraw.Draw(picture), self.line_px
        left, right = self.left_px + line, self.size_px[0] - line
        pen.text((left, line * 0.6), "Whole clip", fill=DIM, font=self.font)
        pen.text((left, line * 1.7), self.heading, fill=BRIGHT, font=self.font)
        pen.text((left, line * 3.6), "At this moment", fill=DIM, font=self.font)
        for i, (name, value) in enumerate(zip(self.classes, probabilities_C, strict=True)):
            top = line * (4.8 + 2 * i)
            text = BRIGHT if i == winner else DIM
            pen.text((left, top), name, fill=text, font=self.font)
            pen.text((right, top), f"{value:.0%}", fill=text, font=self.font, anchor="ra")
            bar_top, bar_bottom = top + line * 1.1, top + line * 1.6
            pen.rectangle((left, bar_top, right, bar_bottom), fill=TROUGH)
            length_px = (right - left) * float(value)
            if length_px >= 1:
                fill = WINNER if i == winner else OTHER
                pen.rectangle((left, bar_top, left + length_px, bar_bottom), fill=fill)
        pen.text((left, self.size_px[1] - line * 1.4), foot, fill=DIM, font=self.font)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}:{rest:04.1f}"
