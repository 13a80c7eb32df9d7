"""The demo's comparison on a terminal."""

from ...demo.before_after import Refusals
from .layout import console, new_table, number


__all__ = ["show_before_after"]

ROWS = (
    ("harmful", "refused mildly harmful questions", "more"),
    ("harmless", "refused harmless questions that sound harmful", "fewer"),
    ("thinks", "responses that start with a thought", "all"),
)
"""Fields of `Refusals` as rows of the table, with the desired change."""


def show_before_after(before: Refusals, after: Refusals) -> None:
    """Print the comparison as a table."""
    table = new_table("Before and after, in percent", "", number("before"), number("after"), "desired")
    for field, name, desired in ROWS:
        table.add_row(name, getattr(before, field).percent(), getattr(after, field).percent(), desired)
    table.add_row("responses that could not be judged", str(before.failed), str(after.failed), "none")
    console.print(table)
    console.print(
        "A dozen questions judged by refusal phrases prove little; `star-hf evaluate` measures.", style="dim"
    )
