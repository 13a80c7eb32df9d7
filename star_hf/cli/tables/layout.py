"""The look of all tables, and plain text on the terminal."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text


__all__ = ["console", "new_table", "number", "say"]

console = Console()


def new_table(title: str, *columns: str | Column, **options: Any) -> Table:
    """An empty table in the style of the command line.

    A column is a name, which is left-justified, or a `Column` such as that of [`number`]; options are `rich`'s.
    """
    named = (Column(Text(name), overflow="fold") if isinstance(name, str) else name for name in columns)
    shown = Text(title, "table.title") if title else None
    style = {"title_justify": "left", "box": SIMPLE_HEAD, "show_edge": False, "padding": (0, 1, 0, 0), **options}
    return Table(*named, title=shown, **style)


def number(name: str, **options: Any) -> Column:
    """A right-justified column."""
    return Column(Text(name), justify="right", overflow="fold", **options)


def say(text: str, style: str = "") -> None:
    """Print text as it is: not wrapped, without markup and highlighting."""
    console.print(Text(text, style), soft_wrap=True)
