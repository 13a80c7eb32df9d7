"""Values as text in the report: cells of tables, rates, durations, lists."""

import json
from collections.abc import Sequence
from typing import Any

from ..evaluation.results.statistics import Estimate


__all__ = ["duration", "joined", "rate", "readable", "spaced"]


def spaced(name: str) -> str:
    """A name with spaces instead of underscores."""
    return name.replace("_", " ")


def readable(value: Any, digits: int | None = None) -> str:
    """A value as text: `–` for `None`, `yes` or `no`, numbers with separators, anything else as JSON.

    Args:
        value (`Any`): The value.
        digits (`int`, *optional*): Decimals of a `float`; by default as many as it needs.
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


def rate(estimate: Estimate | None) -> str | None:
    """`93.3 (90.0 to 95.6) of 310`, in percent; a narrow cell breaks it before the bracket and before `of`."""
    if estimate is None or estimate.value is None:
        return None
    text = estimate.percent().replace(" to ", "\u00a0to\u00a0")
    return f"{text} of\u00a0{estimate.n:,}" if estimate.n else text


def duration(seconds: float) -> str:
    """A duration in the unit that fits, such as `2.5 minutes`."""
    for size, unit in ((3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:,.1f} seconds"


def joined(names: Sequence[str]) -> str:
    """`a, b and c`"""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
