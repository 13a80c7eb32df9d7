"""Numbers for people: one form for shares and decimals, and one sign where there is no value."""

__all__ = ["decimal", "percent"]

NOTHING = "-"


def percent(value: float | None, sign: bool = False) -> str:
    """A share in percent, such as `93.3`.

    Args:
        value (`float` or `None`): The share, 0 to 1; `None` is shown as `-`.
        sign (`bool`, defaults to `False`): Whether a gain is shown with its `+`.
    """
    return NOTHING if value is None else format(100 * value, "+z.1f" if sign else "z.1f")


def decimal(value: float | None) -> str:
    """A number with three decimals; `None` is shown as `-`."""
    return NOTHING if value is None else f"{value:.3f}"
