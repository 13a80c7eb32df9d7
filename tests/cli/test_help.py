"""The command line as a whole: its headings, its examples, its version."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

import star_hf
from star_hf import cli
from star_hf.cli.panels import PANELS
from star_hf.errors import BusyError, ConfigError, IncompleteRunError, PolicyError, SourceError, TrainingError


def commands(group=None, path=()):
    """All commands by their words: `("journal", "stats")`."""
    for name, command in (group or typer.main.get_command(cli.app)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


def test_hf_runs_it_as_an_extension(tmp_path):
    """As `hf extensions install OWNER/hf-star` leaves it: a manifest that names the console script."""
    from huggingface_hub.cli.extensions import EXTENSIONS_ROOT, ExtensionManifest

    script = shutil.which("hf-star", path=Path(sys.executable).parent)
    if script is None:
        pytest.skip("star_hf is not installed here, only on the path")
    folder = Path(str(EXTENSIONS_ROOT).replace("~", str(tmp_path))) / "hf-star"
    folder.mkdir(parents=True)
    names = {"owner": "me", "repo": "hf-star", "repo_id": "me/hf-star", "short_name": "star"}
    now = datetime.now(UTC)
    ExtensionManifest(**names, executable_path=script, type="python", installed_at=now).save(folder)
    command = [str(Path(sys.executable).with_name("hf")), "star", "--version"]
    done = subprocess.run(command, env={**os.environ, "HOME": str(tmp_path)}, capture_output=True, text=True)
    assert done.stdout.strip() == f"star_hf {star_hf.__version__}", done.stderr


def test_every_command_stands_under_a_heading_in_their_order():
    top = typer.main.get_command(cli.app).commands
    panels = {name: command.rich_help_panel for name, command in top.items()}
    stray = {name for name, panel in panels.items() if panel not in PANELS}
    assert not stray, f"give these a rich_help_panel of star_hf/cli/panels.py: {sorted(stray)}"
    shown = CliRunner().invoke(cli.app, ["--help"], env={"COLUMNS": "120"}).output
    places = [shown.index(f"─ {panel} ─") for panel in PANELS if panel in panels.values()]
    assert places == sorted(places)


@pytest.mark.parametrize("words", [words for words, _ in commands()], ids=" ".join)
def test_help_says_what_each_option_is_for(words):
    command = dict(commands())[words]
    assert command.help
    silent = [option.name for option in command.params if not getattr(option, "help", "")]
    assert not silent, f"star-hf {' '.join(words)}: say what these are for: {silent}"


def words_of(help_text: str) -> list[str]:
    """The words of a help text as they must be printed: without the marks of Markdown."""
    return re.sub(r"\*\*|`", "", help_text).split()


def printed_words(output: str) -> list[str]:
    """What a terminal shows, without the boxes around it."""
    return re.sub(r"[│╭╮╰╯─]", " ", output).split()


def contains(words: list[str], part: list[str]) -> bool:
    return any(words[start : start + len(part)] == part for start in range(len(words) - len(part) + 1))


@pytest.mark.parametrize("words", [words for words, command in commands() if command.add_help_option], ids=" ".join)
def test_help_is_printed_in_full(words):
    """Rich drops `<think>` and the like where it takes them for HTML: `recipes/<model>/sft` became `recipes//sft`."""
    command = dict(commands())[words]
    printed = printed_words(CliRunner().invoke(cli.app, [*words, "--help"], env={"COLUMNS": "400"}).output)
    for text in (command.help, *(option.help for option in command.params if option.help)):
        for paragraph in text.split("\n\n"):
            assert contains(printed, words_of(paragraph)), f"star-hf {' '.join(words)} --help lacks: {paragraph}"


def test_lost_brackets_are_found():
    app = typer.Typer(rich_markup_mode="markdown")

    @app.command()
    def run(recipe: Annotated[str, typer.Option(help="One of recipes/<model>/sft.")]) -> None: ...

    printed = printed_words(CliRunner().invoke(app, ["--help"]).output)
    assert contains(printed, ["One", "of"]) and not contains(printed, words_of("One of recipes/<model>/sft."))


@pytest.mark.parametrize("words", [words for words, _ in commands()], ids=" ".join)
def test_examples_in_help_are_of_this_command_and_can_be_parsed(words):
    command = dict(commands())[words]
    for example in re.findall(r"\*\*Example:\*\* `(.*?)`", command.help, re.S):
        arguments = shlex.split(example)
        assert tuple(arguments[: len(words) + 1]) == ("star-hf", *words)
        command.make_context(words[-1], arguments[len(words) + 1 :])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError, 2),
        (PolicyError, 2),
        (SourceError, 2),
        (TrainingError, 2),
        (IncompleteRunError, 3),
        (BusyError, 1),
    ],
)
def test_the_exit_code_tells_wrong_input_from_what_can_continue(error, code, monkeypatch, capsys):
    def fail():
        raise error("It [/] failed.", "Do this.")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == code and capsys.readouterr().err.split("\n")[:2] == [
        "error: It [/] failed.",
        "Do this.",
    ]


def test_the_version_is_told():
    result = CliRunner().invoke(cli.app, ["--version"])
    assert result.exit_code == 0 and result.output == f"star_hf {star_hf.__version__}\n"


def test_ctrl_c_says_that_the_same_command_goes_on(monkeypatch, capsys):
    def interrupted():
        raise SystemExit(130)

    monkeypatch.setattr(cli, "app", interrupted)
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 130 and "same command again: it goes on" in " ".join(capsys.readouterr().err.split())


def test_other_ends_say_nothing_more(monkeypatch, capsys):
    for code in (0, 1, 3):
        monkeypatch.setattr(cli, "app", lambda code=code: sys.exit(code))
        with pytest.raises(SystemExit):
            cli.main()
    assert capsys.readouterr().err == ""


def test_ctrl_c_in_a_command_ends_with_130():
    app = typer.Typer()

    @app.command()
    def run() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stopped:
        app(args=[])
    assert stopped.value.code == cli.INTERRUPTED


def test_the_completion_of_a_shell_can_be_shown():
    shown = CliRunner().invoke(cli.app, ["--help"], env={"COLUMNS": "120"}).output
    assert "--install-completion" in shown and "--show-completion" in shown


def test_hf_finds_a_description_for_the_list_of_extensions(monkeypatch):
    from huggingface_hub.cli import extensions

    def github(method, url):
        if not url.endswith("pyproject.toml"):
            raise OSError(url)
        return type("Reply", (), {"text": (Path(__file__).parents[2] / "pyproject.toml").read_text()})

    monkeypatch.setattr(extensions, "_github_request", github, raising=False)
    if not hasattr(extensions, "_try_fetch_remote_description"):
        pytest.skip("this huggingface_hub reads no description")
    assert "STAR-1" in extensions._try_fetch_remote_description(owner="me", repo_name="hf-star")


@pytest.mark.parametrize("row", ["nope", "7b-star1", ""])
def test_a_row_that_the_paper_does_not_have_is_wrong_input(row):
    result = CliRunner().invoke(cli.app, ["ledger", "--row", row])
    assert isinstance(result.exception, ConfigError) and f"no row {row!r}" in str(result.exception)


def test_ids_of_the_papers_rows_are_whole_at_80_columns():
    from star_hf.evaluation.comparison.paper import paper_rows

    shown = subprocess.run(
        [sys.executable, "-c", "from star_hf.cli import main; main()", "ledger"],
        env={**os.environ, "COLUMNS": "80"},
        capture_output=True,
        text=True,
    ).stdout
    assert all(f"{name} " in shown for name in paper_rows()) and max(map(len, shown.splitlines())) <= 80


def test_preflight_names_a_missing_recipe_before_it_loads_torch(monkeypatch):
    monkeypatch.setattr("importlib.import_module", lambda name: pytest.fail(f"{name} was loaded"))
    result = CliRunner().invoke(cli.app, ["preflight", "--config", "nowhere.yaml"])
    assert isinstance(result.exception, ConfigError) and "nowhere.yaml" in str(result.exception)


def test_steps_of_deduplicate_have_words_that_are_whole_at_80_columns():
    from rich.console import Console

    from star_hf.cli.tables.layout import new_table, number
    from star_hf.cli.tables.run import STEP_NAMES
    from star_hf.transforms.deduplicate import STEPS

    for steps in STEPS.values():
        names = [STEP_NAMES[step] for step in steps]
        table = new_table("", "source", number("rows"), *map(number, names))
        table.add_row("SimpleSafetyTests", *["530,000"] * (len(names) + 1))
        console = Console(width=80)
        with console.capture() as shown:
            console.print(table)
        assert {word for name in names for word in name.split()} <= set(shown.get().split())
        assert shown.get().count("530,000") == len(names) + 1, "and so are the numbers"
