"""The look of all tables, and plain text on the terminal."""

from collections.abc import Iterable
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Column, Table
from rich.text import Text

from ...utils.formatting import printable


__all__ = ["SafeConsole", "console", "new_table", "number", "say"]


class SafeConsole(Console):
    """A console on which no text can move the cursor, change colours or the window's title, or hide other text."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of what is printed; all that commands print goes through here."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)


console = SafeConsole()


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
