"""Values as text for people: one form for shares, decimals and anything else, harmless wherever it is shown."""

import json
import re
from typing import Any


__all__ = ["as_code", "decimal", "in_markdown", "percent", "printable", "readable"]

NOTHING = "-"

CONTROL = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t\r"} | {127: 0x2421, 13: None}
CONTROL |= dict.fromkeys([*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)], 0xFFFD)
"""Characters that steer a terminal or turn the direction of a text, and the picture that stands for each."""


def printable(text: str) -> str:
    """A text that shows the characters that would steer a terminal, such as `␛`, and cannot hide others."""
    return text if text.isascii() and text.isprintable() else text.translate(CONTROL)


def in_markdown(value: object) -> str:
    """A value as Markdown text on one line: nothing in it is markup, HTML, a link or the end of a table's cell."""
    line = printable(" ".join(str(value).split()))
    escaped = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\|`*_~\[\]])", r"\\\1", escaped)


def as_code(value: object) -> str:
    """A value as Markdown code on one line."""
    line = printable(" ".join(str(value).split())).replace("`", "'").replace("|", "\\|")
    return f"`{line}`" if "<!--" not in line and "-->" not in line else in_markdown(value)


def percent(value: float | None, sign: bool = False) -> str:
    """A share in percent, such as `93.3`, or `+93.3` with `sign`; `None` is shown as `-`."""
    return NOTHING if value is None else format(100 * value, "+z.1f" if sign else "z.1f")


def decimal(value: float | None) -> str:
    """A number with three decimals; `None` is shown as `-`."""
    return NOTHING if value is None else f"{value:.3f}"


def readable(value: Any, digits: int | None = None) -> str:
    """A value as text: `–` for `None`, `yes` or `no`, numbers with separators, anything else as JSON.

    A `float` has as many `digits` as it needs by default.
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        form = f",.{digits}f" if digits is not None else ",.4g" if abs(value) < 1 else ",.2f"
        return format(value, form)
    if isinstance(value, int):
        return f"{value:,}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
