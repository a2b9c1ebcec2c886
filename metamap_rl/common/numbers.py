"""Numbers as text, the same in tables and figures."""

from __future__ import annotations

__all__ = ["decimals"]


def decimals(value: float, digits: int = 2) -> str:
    """A number with so many decimals and without a zero before the point: ``.98``, ``-.04``, ``1.02``."""
    text = f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0: no -0
    whole, point, rest = text.partition(".")
    return f"{whole.removesuffix('0')}.{rest}" if point and whole in ("0", "-0") else text
