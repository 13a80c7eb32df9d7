"""The command line. One thin file per group of commands: it reads options, calls the library, prints the result.

The `app` of top-level commands (`star-hf build`) has no name, that of a group (`star-hf journal stats`)
has one. Each command or group has the heading of `panels.py` that lists it.
"""

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.logging import RichHandler
from typer.core import TyperGroup

from .. import __version__
from ..errors import ConfigError, IncompleteRunError, PolicyError, SourceError, StarError, TrainingError
from ..utils.secrets import redacted
from . import audit, build, endpoints, evaluate, hub, improve, journal, judge, policy, report, results, shards, train
from .panels import DATA, EVALUATION, PANELS, SHARING
from .tables.layout import SafeConsole


__all__ = ["app", "main"]


class _ByPanel(TyperGroup):
    """Lists commands in the order of their headings; by default every command is before every group."""

    def list_commands(self, ctx: typer.Context) -> list[str]:
        rank = {panel: place for place, panel in enumerate(PANELS)}
        panels = {name: getattr(command, "rich_help_panel", None) for name, command in self.commands.items()}
        return sorted(super().list_commands(ctx), key=lambda name: rank.get(panels[name], len(rank)))


app = typer.Typer(
    cls=_ByPanel,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Make reasoning models safe with little data, as STAR-1 does: build data, train, evaluate, publish.",
)
for _module in (build, shards, audit, evaluate, report, results, train, improve, hub):
    app.add_typer(_module.app)
for _group, _panel in (
    (hub.publishing, SHARING),
    (endpoints.app, DATA),
    (journal.app, DATA),
    (judge.app, EVALUATION),
    (policy.app, EVALUATION),
):
    app.add_typer(_group, rich_help_panel=_panel)


def _show_version(wanted: bool) -> None:
    if wanted:
        SafeConsole().print(f"star_hf {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def _start(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show more messages.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    trust_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST", help="Let keys go to this host; http://HOST also over plain http. Can be repeated."
        ),
    ] = None,
    vllm: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="vLLM for endpoints with `serve`: the program, or its environment's folder."
        ),
    ] = None,
) -> None:
    import datasets

    from ..llm import serving, trust

    trust.trust(trust_host or ())
    if vllm is not None:
        os.environ[serving.VARIABLE] = str(vllm)
    if sys.stdin.isatty() and sys.stderr.isatty():
        trust.ask_with(lambda question: typer.confirm(question, err=True))

    handler = RichHandler(console=SafeConsole(stderr=True), show_path=False, show_time=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
    logging.getLogger("star_hf").setLevel(logging.DEBUG if verbose else logging.INFO)
    datasets.disable_progress_bars()


EXIT_CODES = ((IncompleteRunError, 3), ((ConfigError, PolicyError, SourceError, TrainingError), 2), (StarError, 1))
"""Exit codes: 2 for wrong input, 3 for a run that can continue, 1 for other errors; docs/README.md lists all."""
INTERRUPTED = 130


def main() -> None:
    """Entry point of `star-hf`."""
    try:
        app()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            told = "Interrupted. Run the same command again: it goes on, and nothing is paid for twice."
            SafeConsole(stderr=True, highlight=False).print(told)
        raise
    except StarError as error:
        problem = SafeConsole(stderr=True, highlight=False)
        problem.print("error: ", style="bold red", end="")
        problem.print(redacted(error.message), markup=False)
        if error.remedy:
            problem.print(redacted(error.remedy), markup=False, style="dim", soft_wrap=True)
        sys.exit(next(code for kinds, code in EXIT_CODES if isinstance(error, kinds)))
