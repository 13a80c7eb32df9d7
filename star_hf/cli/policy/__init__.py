"""`star-hf policy`: tests of a policy of your own. One file per command."""

import typer

from .check import check
from .draft import draft
from .test import test


__all__ = ["app"]

app = typer.Typer(
    name="policy",
    help="Check a policy of your own, draft tests of it, and test whether a model follows it.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
app.command()(check)
app.command()(draft)
app.command()(test)


@app.callback()
def _group() -> None:
    """Policies and their suites."""
