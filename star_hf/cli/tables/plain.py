"""The table and the line of text that commands print."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text


__all__ = ["plain_table", "say"]


def plain_table(title: str, *columns: str, right: Sequence[str] = (), last: str | None = None) -> Table:
    """A table without a frame, as wide as its content.

    Args:
        title (`str`): Above the table; empty for none.
        *columns (`str`): Names of columns of text.
        right (list of `str`): Names of columns of numbers, which follow.
        last (`str`, *optional*): Name of a column of text after the numbers.
    """
    table = Table(
        title=Text(title) if title else None,
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    for name in columns:
        table.add_column(Text(name), overflow="fold")
    for name in right:
        table.add_column(Text(name), justify="right", overflow="fold")
    if last is not None:
        table.add_column(Text(last))
    return table


def say(console: Console, words: str) -> None:
    """Print a line as it is: without markup, colours or wrapping."""
    console.print(words, markup=False, highlight=False, soft_wrap=True)
