"""The demo's comparison on a terminal."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ...demo.before_after import Refusals


__all__ = ["show_before_after"]

ROWS = (
    ("harmful", "refused, of mildly harmful questions", "more"),
    ("harmless", "refused, of harmless ones that sound harmful", "fewer"),
    ("thinks", "answers that open with a thought", "all"),
)
"""Fields of `Refusals` as rows of the table, and what training should make of them."""


def show_before_after(before: Refusals, after: Refusals, console: Console) -> None:
    """Print the comparison as a table."""
    table = Table(
        title="Before and after, in percent",
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    for name, where in (("", "left"), ("before", "right"), ("after", "right"), ("wanted", "left")):
        table.add_column(name, justify=where)
    for field, name, wanted in ROWS:
        both = (getattr(each, field) for each in (before, after))
        table.add_row(name, *(f"{each.percent(interval=False)} ({each.interval()})" for each in both), wanted)
    table.add_row("answers that could not be judged", str(before.failed), str(after.failed), "none")
    console.print(table)
    console.print(
        "A dozen questions, judged by phrases of refusal, tell little; `star-hf evaluate` measures.", style="dim"
    )
