"""Layout of a film's frames: robots side by side, what they are, how fast they move, and the task below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from metamap_rl.viz.drawing import Picture
from metamap_rl.viz.marks import Colour

__all__ = ["SIDE", "Cell", "Gauge", "Lane", "Layout", "Tone"]

SIDE = (384, 288)
"""Width and height of one robot's picture, pixels, both even."""

Tone = Literal["plain", "alarm", "good"]

_TOP, _BELOW = 60, 82  # pixels: height above the pictures, and below them
_PAD, _LINE, _STRIPE = 10, 19, 5
_LINES = 2  # of the task's parameters
_BAR: Colour = (20, 23, 28)
_TEXT: Colour = (238, 240, 243)
_DIM: Colour = (160, 170, 182)
_LANES: dict[str, Colour] = {"base": (154, 164, 176), "generated": (98, 174, 240), "expert": (92, 194, 131)}
_TONES: dict[str, Colour] = {"plain": _TEXT, "alarm": (255, 100, 112), "good": _LANES["generated"]}
_GAUGE = (130, 7)  # width and height, pixels


@dataclass(frozen=True)
class Lane:
    """One of the robots side by side.

    Attributes:
        key: "base", "generated" or "expert", for its colour.
        name: above the picture.
    """

    key: str
    name: str


@dataclass(frozen=True)
class Gauge:
    """A speedometer's scale.

    Attributes:
        low: lower end, m/s; at most 0.
        high: upper end, m/s.
        target: wanted speed, m/s; None for none.
    """

    low: float
    high: float
    target: float | None = None


@dataclass(frozen=True, eq=False)
class Cell:
    """What one lane shows in a frame.

    Attributes:
        picture: uint8 [height, width, 3].
        value: its return so far; None to leave it out.
        caption: a line of small text.
        speed: m/s; None for a robot that stays in place.
        waits: whether it is shown in the dark.
    """

    picture: Picture
    value: float | None = None
    caption: str = ""
    speed: float | None = None
    waits: bool = False


class Layout:
    """Composes frames.

    Args:
        lanes: from left to right.
    """

    def __init__(self, lanes: Sequence[Lane]) -> None:
        self.size = len(lanes) * SIDE[0], _TOP + SIDE[1] + _BELOW
        self._empty = Image.new("RGB", self.size, _BAR)
        pen = ImageDraw.Draw(self._empty)
        for index, lane in enumerate(lanes):
            left = index * SIDE[0]
            pen.rectangle((left, 0, left + SIDE[0] - 3, _STRIPE - 1), fill=_LANES[lane.key])
            pen.text((left + _PAD, 22), lane.name, _LANES[lane.key], _font(15, bold=True), anchor="lm")

    def compose(
        self,
        cells: Sequence[Cell],
        banner: tuple[str, Tone],
        words: Sequence[tuple[str, Colour | None]],
        gauge: Gauge,
    ) -> Picture:
        """One frame, uint8 [height, width, 3].

        Args:
            cells: of each lane.
            banner: what is happening, and in which tone.
            words: the task, each part with its colour.
            gauge: of the speedometers.
        """
        frame = self._empty.copy()
        pen = ImageDraw.Draw(frame)
        for index, cell in enumerate(cells):
            self._cell(frame, pen, index * SIDE[0], cell, gauge)
        text, tone = banner
        if tone == "alarm":
            pen.rectangle((0, _TOP, self.size[0] - 1, _TOP + SIDE[1] - 1), outline=_TONES[tone], width=4)
        pen.text((_PAD, _TOP + SIDE[1] + 20), text, _TONES[tone], _font(17, bold=True), anchor="lm")
        self._words(pen, words)
        return np.asarray(frame)

    def _cell(self, frame: Image.Image, pen: ImageDraw.ImageDraw, left: int, cell: Cell, gauge: Gauge) -> None:
        picture = Image.fromarray(cell.picture)
        frame.paste(Image.blend(picture, Image.new("RGB", SIDE, _BAR), 0.7) if cell.waits else picture, (left, _TOP))
        pen.line((left + SIDE[0] - 1, _TOP, left + SIDE[0] - 1, _TOP + SIDE[1] - 1), fill=_BAR, width=2)
        pen.text((left + _PAD, 46), _cut(cell.caption, SIDE[0] - 2 * _PAD), _DIM, _font(12), anchor="lm")
        right = left + SIDE[0] - _PAD
        if cell.value is not None and not cell.waits:
            pen.text((right, 22), f"return {cell.value:.1f}", _TEXT, _font(15), anchor="rm")
        if cell.speed is not None and not cell.waits:
            self._speed(pen, left, cell.speed, gauge)

    def _speed(self, pen: ImageDraw.ImageDraw, left: int, speed: float, gauge: Gauge) -> None:
        """A speedometer in the lower left corner of a picture."""
        (wide, high), bottom = _GAUGE, _TOP + SIDE[1] - _PAD
        start, top = left + _PAD + 6, bottom - high - 6
        pen.rectangle((start - 6, top - 26, start + wide + 6, bottom), fill=_BAR)
        wanted = "" if gauge.target is None else f" of {gauge.target:.1f}"
        pen.text((start, top - 12), f"{_number(speed)}{wanted} m/s", _TEXT, _font(13), anchor="lm")

        def place(value: float) -> float:
            share = (value - gauge.low) / max(gauge.high - gauge.low, 1e-9)
            return start + wide * min(1.0, max(0.0, share))

        pen.rectangle((start, top, start + wide, top + high), fill=(60, 66, 75))
        ends = sorted((place(0.0), place(speed)))
        pen.rectangle((ends[0], top, ends[1], top + high), fill=_TEXT)
        if gauge.target is not None:
            at = place(gauge.target)
            pen.rectangle((at - 1, top - 4, at + 1, top + high + 3), fill=_TONES["alarm"])

    def _words(self, pen: ImageDraw.ImageDraw, words: Sequence[tuple[str, Colour | None]]) -> None:
        """The task in at most two lines; what does not fit is counted."""
        font, gap = _font(13), 18
        x, row = float(_PAD), 0
        for index, (text, colour) in enumerate(words):
            wide = font.getlength(text)
            if x + wide > self.size[0] - _PAD - 60 and x > _PAD:
                x, row = float(_PAD), row + 1
            top = _TOP + SIDE[1] + 48 + row * _LINE
            if (row == _LINES - 1 and x + wide > self.size[0] - _PAD - 60) or row >= _LINES:
                pen.text(
                    (self.size[0] - _PAD, top - _LINE * (row >= _LINES)), f"+{len(words) - index}", _DIM, font, "rm"
                )
                return
            pen.text((x, top), text, colour or _DIM, font, anchor="lm")
            x += wide + gap


def _number(value: float) -> str:
    return f"{value:.1f}".replace("-0.0", "0.0")


def _cut(text: str, wide: int) -> str:
    """Text that is no wider than a lane."""
    if _font(12).getlength(text) <= wide:
        return text
    while text and _font(12).getlength(text + " ...") > wide:
        text = text[:-1]
    return text.rstrip() + " ..."


@cache
def _font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Matplotlib's own font, which is there wherever figures are."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", name), size)
