"""Values as text for people: one form for shares, decimals and anything else."""

import json
from typing import Any


__all__ = ["decimal", "percent", "readable"]

NOTHING = "-"


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
