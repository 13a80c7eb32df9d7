"""A results folder, damaged in every way: named in one message, and made again without asking a model."""

import errno
import json
import os
import re
import shutil
from pathlib import Path

import pytest
from damages import cases, changed, cut, flipped, holding, obeying_permissions, other_database
from datasets import Dataset
from typer.testing import CliRunner

from model_server import ModelServer
from small_benchmarks import answer, write_benchmarks
from star_hf import cli
from star_hf.errors import StarError


pytestmark = pytest.mark.slow


def star_hf(*arguments):
    """Run the command as the shell would; returns the `StarError` that ended it, if one did."""
    result = CliRunner().invoke(cli.app, [str(each) for each in arguments], env={"COLUMNS": "500"})
    if result.exception and not isinstance(result.exception, StarError | SystemExit):
        raise result.exception
    return result.exception if isinstance(result.exception, StarError) else None


class Made:
    """A results folder, and the server that answered it."""

    def __init__(self, folder: Path, server: ModelServer):
        self.server, self.data = server, write_benchmarks(folder / "data")
        self.results = folder / "results"
        assert self.evaluate(self.results) is None
        self.asked = len(server.requests)
        assert self.evaluate(self.results) is None
        self.probes = len(server.requests) - self.asked

    def evaluate(self, output: Path) -> StarError | None:
        words = ("--model", "m", "--base-url", self.server.url, "--fingerprint", "a", "--data-dir", self.data)
        judges = ("--judge", "refusal-phrases")
        return star_hf("evaluate", *words, "--tasks", "star1:strongreject,xstest", *judges, "--output", output)


def rates(folder: Path) -> dict:
    found = json.loads((folder / "results.json").read_text())["benchmarks"]
    return {name: {key: value for key, value in each.items() if key != "data"} for name, each in found.items()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with ModelServer(answer) as server:
        yield Made(tmp_path_factory.mktemp("made"), server)


def follow(problem: StarError, folder: Path) -> None:
    said = problem.remedy or ""
    if match := re.search(r"`star-hf journal repair ([^`]+)`", said):
        assert star_hf("journal", "repair", match.group(1)) is None
    for path in re.findall(r"(/\S+?)[.,;:]?(?: |$)", said) if "delete /" in said.lower() else []:
        shutil.rmtree(path) if Path(path).is_dir() else Path(path).unlink(missing_ok=True)
    if re.search(r"[Mm]ove (it|/\S+) away", said):
        path = Path(re.match(r"/\S+", problem.message).group())
        path.rename(path.with_name(f"{path.name}.away"))


def finish(made: Made, folder: Path, names: str | None) -> None:
    before, messages = len(made.server.requests), []
    for attempt in range(5):
        problem = made.evaluate(folder)
        if problem is None:
            break
        messages.append(str(problem))
        if not attempt:
            assert names and names in problem.message, messages
        follow(problem, folder)
    assert problem is None, messages
    assert rates(folder) == rates(made.results), messages
    assert len(made.server.requests) - before <= made.probes * (attempt + 1), "the journal has it all"
    assert bool(messages) == (names is not None), messages


def in_results(*path, value):
    def damage(file):
        data = json.loads(file.read_text())
        place = data
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
        file.write_text(json.dumps(data))

    return damage


RESULTS = {
    "missing": (lambda path: path.unlink(), None),
    "empty": (cut(0), "results.json"),
    "cut": (cut(0.5), "results.json"),
    "random": (changed(0.3, bytes(range(200, 250))), "results.json"),
    "a list": (holding(b"[]"), "results.json"),
    "nested": (holding(b'{"a":' * 100_000), "results.json"),
    "a folder": (holding(None), "results.json"),
    "no benchmarks": (in_results("benchmarks", value={}), None),
    "benchmarks a list": (in_results("benchmarks", value=[]), "results.json"),
    "a value of text": (in_results("benchmarks", "xstest", "value", value="high"), "results.json"),
    "generation null": (in_results("generation", value=None), "results.json"),
    "sampling a text": (in_results("generation", "benchmarks", value="greedy"), "results.json"),
    "a benchmark's sampling a list": (in_results("generation", "benchmarks", "xstest", value=[]), "results.json"),
    "judges of text": (in_results("judges", value=["me"]), "results.json"),
    "a judge without a name": (in_results("judges", value=[{"model": "x"}]), "results.json"),
    "failures a list": (in_results("benchmarks", "xstest", "failures", value=[1]), "results.json"),
    "of a later version": (in_results("benchmarks", "nextbench", value={
        "kind": "safety", "metric": "safe_rate", "judge": "j", "part": "answer", "value": 1.0, "low": 0.9,
        "high": 1.0, "n": 3, "items": 3}), None),
    "another kind": (in_results("benchmarks", "xstest", "kind", value="speed"), None),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "names"), cases(RESULTS))
def test_a_damaged_results_json(made, tmp_path, damage, names):
    folder = tmp_path / "results"
    shutil.copytree(made.results, folder)
    damage(folder / "results.json")
    for command in (("compare", folder, made.results), ("ledger", folder)):
        problem = star_hf(*command)
        assert names is None or names in problem.message, command
    finish(made, folder, names)


FILES = {
    "cut": cut(0.5),
    "empty": cut(0),
    "text": holding(b"a,b\n1,2\n"),
    "a folder": holding(None),
    "flipped": flipped(3, 200),
    "another table": None,
    "missing": lambda path: path.unlink(),
}


@pytest.mark.parametrize("name", ["responses.parquet", "verdicts.parquet"])
@pytest.mark.parametrize("damage", cases(FILES))
def test_a_damaged_table_of_results(made, tmp_path, name, damage):
    folder = tmp_path / "results"
    shutil.copytree(made.results, folder)
    if damage is None:
        other = {"responses.parquet": "verdicts.parquet", "verdicts.parquet": "responses.parquet"}
        shutil.copyfile(folder / other[name], folder / name)
    else:
        damage(folder / name)
    missing = not (folder / name).exists()
    for command in (("compare", folder, made.results), ("judge", "run", folder, "--judge", "refusal-phrases")):
        problem = star_hf(*command)
        assert missing or problem is None or name in problem.message, command
    finish(made, folder, None if missing and name == "verdicts.parquet" else name)


STATES = {
    "a draft of a kill": (lambda folder: (folder / ".draft").mkdir(), None),
    "a draft that is a file": (lambda folder: holding(b"x")(folder / ".draft"), None),
    "a next that is empty": (lambda folder: (folder / ".next").mkdir(), None),
    "a next that is a file": (lambda folder: holding(b"x")(folder / ".next"), None),
    "a journal cut": (lambda folder: cut(-5000)(folder / "journal.sqlite"), "journal.sqlite"),
    "a journal that is a folder": (lambda folder: holding(None)(folder / "journal.sqlite"), "journal.sqlite"),
    "another database": (lambda folder: other_database(folder / "journal.sqlite"), "journal.sqlite"),
}


@pytest.mark.parametrize(("damage", "names"), cases(STATES))
def test_a_results_folder_in_another_state(made, tmp_path, damage, names):
    folder = tmp_path / "results"
    shutil.copytree(made.results, folder)
    damage(folder)
    finish(made, folder, names)


def test_a_results_folder_that_is_a_file(made, tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    for folder in (tmp_path / "notes.txt", tmp_path / "notes.txt" / "inside"):
        for command in (("compare", folder, made.results), ("ledger", folder), ("report", folder)):
            problem = star_hf(*command)
            assert "notes.txt" in problem.message and problem.remedy
        problem = made.evaluate(folder)
        assert "notes.txt" in problem.message and problem.remedy


def no_room(*arguments):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_results_folder_without_room_or_permission(made, tmp_path, monkeypatch):
    folder = tmp_path / "results"
    shutil.copytree(made.results, folder)
    for name in ("results.json", "responses.parquet", "verdicts.parquet"):
        (folder / name).unlink()
    with monkeypatch.context() as patch:
        patch.setattr(Dataset, "to_parquet", no_room)
        problem = made.evaluate(folder)
    assert str(folder) in problem.message and "disk" in problem.remedy
    folder.chmod(0o500)
    try:
        with obeying_permissions():
            problem = made.evaluate(folder)
    finally:
        folder.chmod(0o700)
    assert str(folder) in problem.message and "ermission" in str(problem)
    finish(made, folder, None)
