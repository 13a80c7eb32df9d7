"""Names, rates and durations as text in the report."""

from collections.abc import Sequence

from ..evaluation.results.statistics import Estimate


__all__ = ["duration", "joined", "rate", "spaced"]


def spaced(name: str) -> str:
    """A name with spaces instead of underscores."""
    return name.replace("_", " ")


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
