"""Figures of a report as SVG and PNG."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from metamap_rl.bench.report.hover import hover
from metamap_rl.bench.report.sheet import FAINT, INK, Sheet

__all__ = ["ReportFigure", "as_inline_svg", "as_png", "as_svg"]


@dataclass(frozen=True)
class ReportFigure:
    """A figure and its caption."""

    name: str
    """File name without suffix."""
    title: str
    caption: str
    sheet: Sheet

    @property
    def figure(self) -> Figure:
        """The figure."""
        return self.sheet.figure

    def hover(self) -> dict[str, Any]:
        """What the page tells under the pointer."""
        return hover(self.figure, self.sheet.told)


def as_svg(drawn: ReportFigure) -> bytes:
    """Standalone SVG, dark on white."""
    text = _svg(drawn)
    return text.encode()


def as_inline_svg(drawn: ReportFigure) -> str:
    """SVG for the page: with its text colour and width, and learners as classes."""
    text = _svg(drawn)
    text = text[text.index("<svg") :]
    text = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', "", text, count=1)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'id="L(\d+)-[\w-]+"', r'class="learner-\1"', text)  # ids would repeat between figures
    text = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", text)
    text = re.sub(r"font-family: [^;]*; ?", "", text)  # the page's
    text = re.sub(r' transform="rotate\(-0 [^"]*"', "", text)
    text = re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.1f}", text)
    text = re.sub(r"\s*\n\s*", "\n", text)
    return text.replace(INK, "currentColor").replace(FAINT, "var(--faint)")


def as_png(drawn: ReportFigure) -> bytes:
    """PNG, dark on white."""
    content = io.BytesIO()
    with rc_context({"savefig.facecolor": "white"}):
        drawn.figure.savefig(content, format="png", dpi=150, metadata={"Software": None})
    return content.getvalue()


def _svg(drawn: ReportFigure) -> str:
    content = io.BytesIO()
    with rc_context({"svg.hashsalt": drawn.name, "svg.fonttype": "none"}):
        drawn.figure.savefig(content, format="svg", metadata={"Date": None}, transparent=True)
    return content.getvalue().decode()
