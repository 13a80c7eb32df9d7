"""`star-hf policy`: tests of a policy of your own. One file per command."""

import typer

from .draft import draft
from .test import test


__all__ = ["app"]

app = typer.Typer(
    name="policy",
    help="Draft tests of a policy of your own, and test whether a model follows it.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
app.command()(draft)
app.command()(test)


@app.callback()
def _group() -> None:
    """Policies and their suites."""
