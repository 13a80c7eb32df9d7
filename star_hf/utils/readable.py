"""Any value as text for people, in tables of reports and on the terminal."""

import json
from typing import Any


__all__ = ["readable"]


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
