"""`star-hf policy`: tests of a policy of your own. One file per command."""

import typer

from .test import test


__all__ = ["app"]

app = typer.Typer(
    name="policy",
    help="Test whether a model follows a policy of your own.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
app.command()(test)


@app.callback()
def _group() -> None:
    """Policies and their suites."""
