"""The demo's comparison on a terminal."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ...demo.before_after import Refusals


__all__ = ["show_before_after"]

ROWS = (
    ("harmful", "refused mildly harmful questions", "more"),
    ("harmless", "refused harmless questions that sound harmful", "fewer"),
    ("thinks", "responses that start with a thought", "all"),
)
"""Fields of `Refusals` as rows of the table, with the desired change."""


def show_before_after(before: Refusals, after: Refusals, console: Console) -> None:
    """Print the comparison as a table."""
    table = Table(
        title="Before and after, in percent",
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    for name, where in (("", "left"), ("before", "right"), ("after", "right"), ("desired", "left")):
        table.add_column(name, justify=where)
    for field, name, desired in ROWS:
        table.add_row(name, getattr(before, field).percent(), getattr(after, field).percent(), desired)
    table.add_row("responses that could not be judged", str(before.failed), str(after.failed), "none")
    console.print(table)
    console.print(
        "A dozen questions judged by refusal phrases prove little; `star-hf evaluate` measures.", style="dim"
    )
