"""Numbers as text, the same in tables and figures."""

from __future__ import annotations

import re

__all__ = ["decimals", "without_zeros"]

# Fences, what is indented, code, formulas, links and tags stay as they are.
_CODE = re.compile(r"```.*?```|^ {4}[^\n]*$|`(?:[^`\n]|\n(?!\n))*`|\$[^$\n]*\$|\]\([^)\n]*\)|<[^>\n]*>", re.S | re.M)
_ZERO = re.compile(r"(?<![\w.])0(\.\d+)(?!\.?\w)")  # not the one of 10.5, nor of version 0.2.0


def decimals(value: float, digits: int = 2) -> str:
    """A number with so many decimals and without a zero before the point: ``.98``, ``-.04``, ``1.02``."""
    return _ZERO.sub(r"\1", f"{round(value, digits) + 0.0:.{digits}f}")  # + 0.0: no -0


def without_zeros(text: str) -> str:
    """Markdown whose numbers have no zero before the point: ``0.98`` is ``.98``. Code, formulas and links stay."""
    pieces, end = [], 0
    for code in _CODE.finditer(text):
        pieces += [_ZERO.sub(r"\1", text[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*pieces, _ZERO.sub(r"\1", text[end:])])
