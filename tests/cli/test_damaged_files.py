"""Our own files, damaged in every way: one message, no traceback, and a way out that pays for nothing twice."""

import json
import os
import random
import re
import shlex
import shutil
import sqlite3
from contextlib import closing, nullcontext
from pathlib import Path

import numpy as np
import pytest
from damages import (
    HEAD,
    cases,
    changed,
    cut,
    flipped,
    full_disk,
    holding,
    obeying_permissions,
    other_database,
)
from typer.testing import CliRunner

from model_server import ModelServer, Reply, star_answers
from star_hf import cli
from star_hf.errors import StarError
from star_hf.llm import Journal
from star_hf.utils.files import sha256_of


pytestmark = pytest.mark.slow

COUNT, FLIGHT = 24, 4
"""Questions, and requests in flight."""
LATER = ("3-classify", "4-reason")


def answer(body, before):
    """Answers of a chat model and of an embeddings endpoint."""
    if "input" not in body:
        return star_answers(body, before)
    vectors = ([1.0, sum(text.encode()) % 97, *[0.0] * 600] for text in body["input"])
    data = [{"index": place, "embedding": vector} for place, vector in enumerate(vectors)]
    return Reply(raw=json.dumps({"model": body["model"], "data": data, "usage": {"prompt_tokens": 9}}).encode())


def star_hf(*arguments):
    """Run the command as the shell would; returns the `StarError` that ended it, if one did, and what it printed.

    Any other exception is a traceback, and is raised.
    """
    result = CliRunner().invoke(cli.app, [str(each) for each in arguments], env={"COLUMNS": "500"})
    if result.exception and not isinstance(result.exception, StarError | SystemExit):
        raise result.exception
    assert result.exit_code == 0 or isinstance(result.exception, StarError), result.output
    return result.exception if isinstance(result.exception, StarError) else None, result.output


class Made:
    """A finished run, and the server that answered it."""

    def __init__(self, folder: Path, server: ModelServer):
        self.folder, self.server = folder, server
        self.recipe = folder / "recipe.json.yaml"
        questions = folder / "questions.txt"
        rng = random.Random(0)
        words = [" ".join(f"{rng.getrandbits(64):x}" for _ in range(120)) for _ in range(COUNT)]
        questions.write_text("\n".join(f"How do I hide present number {n}? {more}" for n, more in enumerate(words)))
        endpoint = {"model": "m", "base_url": server.url, "name": "test", "max_retries": 0, "concurrency": FLIGHT}
        roles = ("classifier", "teacher", "scorer", "rewriter")
        data = {
            "collect": {"sources": [], "held_out": [], "questions": str(questions)},
            "deduplicate": {
                "tfidf_threshold": 0.99,
                "embedding_threshold": 1.0,
                "encoder": {"batch_size": 16, "endpoint": {**endpoint, "name": "vectors"}},
            },
            "endpoints": dict.fromkeys(roles, endpoint),
            "select": {"size": 8},
        }
        self.recipe.write_text(json.dumps(data))
        self.run = folder / "made" / "run"
        assert self.build(self.run) is None
        self.tables = tables_of(self.run)
        with closing(sqlite3.connect(self.run / "journal.sqlite")) as db:
            rows = db.execute("SELECT key, stage, endpoint, version, completion FROM responses").fetchall()
        self.bodies = {"".join(row).encode() for row in rows}
        assert len(self.bodies) == len(rows)

    def build(self, run: Path) -> StarError | None:
        """What a user calls again and again."""
        return star_hf("build", "--config", self.recipe, "--run-dir", run, "--until", "reason")[0]

    def copied(self, place: Path) -> Path:
        """A copy of the run, which costs nothing to go on with."""
        shutil.copytree(self.run, place)
        return place

    def lost(self, run: Path) -> int:
        """How many answers are in none of a run's files any more, byte for byte."""
        files = [path.read_bytes() for path in run.rglob("*") if path.is_file() and "sqlite" in path.name]
        return sum(not any(body in content for content in files) for body in self.bodies)


def tables_of(run: Path) -> dict[str, str]:
    paths = sorted(path for path in run.rglob("*.parquet") if not path.parent.name.startswith("."))
    return {str(path.relative_to(run)): sha256_of(path) for path in paths}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with ModelServer(answer) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", "sk-not-a-real-key")
        yield Made(tmp_path_factory.mktemp("made"), server)


def unread(run: Path) -> None:
    """Leave of a run what its free stages wrote, and the journal: all answers are read from it again."""
    for stage in LATER:
        shutil.rmtree(run / stage)
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["stages"] = {name: manifest["stages"][name] for name in ("collect", "deduplicate")}
    (run / "manifest.json").write_text(json.dumps(manifest))


def killed(run: Path) -> None:
    """Leave the journal as a kill does: all answers are in the log and none in the file."""
    rows = []
    with Journal(run / "journal.sqlite") as journal:
        columns = ", ".join("?" * 7)
        rows = list(journal.rows("SELECT * FROM responses ORDER BY created_at"))
    (run / "journal.sqlite").unlink()
    with Journal(run / "new.sqlite") as journal:
        for row in rows:
            journal.execute(f"INSERT INTO responses VALUES ({columns})", row)
        shutil.copyfile(run / "new.sqlite", run / "journal.sqlite")
        shutil.copyfile(run / "new.sqlite-wal", run / "journal.sqlite-wal")
    (run / "new.sqlite").unlink()


def follow(problem: StarError, run: Path) -> None:
    """Do what a message says, to the letter, except for permissions and room on a disk."""
    said = problem.remedy or ""
    for command in re.findall(r"`star-hf ([^`]+)`", said):
        words = shlex.split(command)
        if words[:2] == ["journal", "repair"]:
            again, output = star_hf(*words)
            assert again is None, again
            assert "saved in" in output
    for path in re.findall(r"[Dd]elete (/\S+?)[.,;:]?(?: |$)", said):
        shutil.rmtree(path) if Path(path).is_dir() else Path(path).unlink()
    if re.search(r"[Mm]ove (it|/\S+) away", said):
        path = Path(re.match(r"/\S+", problem.message).group())
        path.rename(path.with_name(f"{path.name}.away"))


def finish(made: Made, run: Path, names: str | None, *, paid: int | None = None, **context) -> list[str]:
    """Run the command; if it fails follow its advice and run it again, until the run is as it was.

    `names` is what the first message has to name; `None` if the run is to go on at once. It may pay for what is lost,
    or for `paid` answers. `under` is a context that the first command runs in, `mend` what a user does then, and not
    `surely` says that the damage may be in text, where nobody sees it.
    """
    before, messages = len(made.server.requests), []
    allowed = made.lost(run) if paid is None else paid
    for attempt in range(4):
        with context.get("under", nullcontext()) if attempt == 0 else nullcontext():
            problem = made.build(run)
        if problem is None:
            break
        if not context.get("surely", True) and "unusable" in problem.message:
            return messages
        messages.append(str(problem))
        assert problem.remedy and names and names in problem.message, messages
        follow(problem, run)
        if attempt == 0 and "mend" in context:
            context["mend"]()
    else:
        raise AssertionError(messages)
    assert len(made.server.requests) - before <= allowed, messages
    if not context.get("surely", True):
        return messages
    assert tables_of(run) == made.tables, messages
    assert bool(messages) == (names is not None), messages
    return messages


JOURNAL = {
    "cut by 12 KB": cut(-12_288),
    "cut to a half": cut(0.5),
    "cut to a page": cut(4096),
    "cut to less than a head": cut(60),
    "cut to a byte": cut(1),
    "head zeroed": changed(0, bytes(100)),
    "first letter": changed(0, b"X"),
    "other page size": changed(HEAD["page size"], b"\x20\x00"),
    "no page size": changed(HEAD["page size"], b"\0\0"),
    "write version": changed(HEAD["write version"], b"\x03"),
    "read version": changed(HEAD["read version"], b"\x03"),
    "schema format": changed(HEAD["schema"], b"\0\0\0\x09"),
    "encoding": changed(HEAD["encoding"], b"\0\0\0\x02"),
    "newer layout": changed(HEAD["layout"], b"\0\0\0\x63"),
    "free pages": changed(HEAD["free pages"], b"\0\0\0\x63"),
    "first page": changed(100, b"\0" * 3996),
    "second page": changed(4096, bytes(4096)),
    "middle page zeroed": changed(0.5, bytes(4096)),
    "middle page random": changed(0.5, bytes(range(256)) * 16),
    "half is foreign": changed(0.5, b"\xff" * 40_000),
    "text file": holding(b"these are my notes\n" * 20),
    "folder": holding(None),
    "other database": other_database,
}


RANDOM = {f"flipped {seed}": flipped(seed, bits) for seed, bits in enumerate((1, 1, 1, 3, 10, 100, 1000))}
"""Where these hit text, nobody can know; where they hit anything else, it must be found."""


def in_schema(word: bytes, other: bytes):
    def damage(path):
        content = path.read_bytes()
        assert word in content[:4096]
        path.write_bytes(content.replace(word, other, 1))

    return damage


def in_index(how):
    """Damage a page of the index by which requests are found: what SQLite cannot see unless it is asked to check."""

    def damage(path):
        with closing(sqlite3.connect(path)) as db:
            (page,) = db.execute(
                "SELECT MAX(pageno) FROM dbstat WHERE name LIKE 'sqlite_autoindex_responses%'"
            ).fetchone()
        how(path, (page - 1) * 4096)

    return damage


def in_row(column: str, value):
    """Damage an answer in a way that SQLite has nothing against."""

    def damage(path):
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            one = "(SELECT MIN(key) FROM responses WHERE stage = 'reason')"
            db.execute(f"UPDATE responses SET {column} = {value} WHERE key = {one}")

    return damage


JOURNAL |= {
    "name of the table": in_schema(b"responses (", b"rdsponses ("),
    "name of a column": in_schema(b"endpoint TEXT NOT NULL,\n    version ", b"endqoint TEXT NOT NULL,\n    version "),
    "no statement": in_schema(b"CREATE TABLE responses", b"CRXATE TABLE responses"),
    "index zeroed": in_index(lambda path, at: changed(at, bytes(4096))(path)),
    "index without cells": in_index(lambda path, at: changed(at + 3, b"\0\0")(path)),
    "index of other keys": in_index(lambda path, at: changed(at + 2000, b"\0" * 2000)(path)),
    "answer cut": in_row("completion", "substr(completion, 1, 30)"),
    "answer no text": in_row("completion", "CAST(x'ff' || completion AS TEXT)"),
    "answer null": in_row("completion", "'null'"),
    "answer of other form": in_row("completion", """'{"text": 5}'"""),
}


@pytest.mark.parametrize("damage", cases(JOURNAL))
@pytest.mark.parametrize("copy", [False, True], ids=["alone", "copied"])
def test_a_damaged_journal(made, tmp_path, damage, copy):
    run = made.copied(tmp_path / "run")
    unread(run)
    if not copy:
        (run / "journal.copy.sqlite").unlink()
    damage(run / "journal.sqlite")
    lost = made.lost(run)
    finish(made, run, "journal.sqlite")
    assert not copy or lost == 0


@pytest.mark.parametrize("damage", cases(RANDOM))
def test_random_bits_of_a_journal(made, tmp_path, damage):
    run = made.copied(tmp_path / "run")
    unread(run)
    (run / "journal.copy.sqlite").unlink()
    damage(run / "journal.sqlite")
    finish(made, run, "journal.sqlite", surely=False)


def in_log(damage):
    return lambda run: damage(run / "journal.sqlite-wal")


def foreign_log(run):
    """The log of another journal, as when a file was moved without it."""
    with Journal(run / "other.sqlite") as journal:
        columns = ", ".join("?" * 7)
        for number in range(90):
            values = (f"{number:064x}", "s", "e", "v", json.dumps({"text": "x" * 3000}), None, 1.0)
            journal.execute(f"INSERT INTO responses VALUES ({columns})", values)
        shutil.copyfile(run / "other.sqlite-wal", run / "journal.sqlite-wal")
    (run / "other.sqlite").unlink()


LOG = {
    "left by a kill": (lambda run: None, None),
    "cut": (in_log(cut(0.6)), None),
    "cut in its head": (in_log(cut(20)), None),
    "empty": (in_log(cut(0)), None),
    "lost": (lambda run: (run / "journal.sqlite-wal").unlink(), None),
    "stale index": (lambda run: (run / "journal.sqlite-shm").write_bytes(os.urandom(32_768)), None),
    "index of nothing": (lambda run: (run / "journal.sqlite-shm").write_bytes(b""), None),
    "rollback journal": (lambda run: (run / "journal.sqlite-journal").write_bytes(b"x" * 5000), None),
    "head zeroed": (in_log(changed(0, bytes(32))), "journal.sqlite"),
    "head flipped": (in_log(changed(17, b"\xff")), "journal.sqlite"),
    "middle zeroed": (in_log(changed(0.5, bytes(4096))), "journal.sqlite"),
    "middle flipped": (in_log(changed(0.5, b"\xa5\x5a")), "journal.sqlite"),
    "end flipped": (in_log(changed(-0.0001 + 1, b"\xa5\x5a")), "journal.sqlite"),
    "flipped": (in_log(flipped(5, 20)), "journal.sqlite"),
    "a folder": (in_log(holding(None)), "journal.sqlite"),
    "without a file": (lambda run: (run / "journal.sqlite").unlink(), "journal.sqlite"),
    "beside an empty file": (lambda run: cut(0)(run / "journal.sqlite"), "journal.sqlite"),
    "beside a damaged file": (lambda run: changed(0, b"X")(run / "journal.sqlite"), "journal.sqlite"),
    "of another journal": (foreign_log, None),
}


@pytest.mark.parametrize(("damage", "names"), cases(LOG))
def test_a_damaged_log(made, tmp_path, damage, names):
    run = made.copied(tmp_path / "run")
    unread(run)
    (run / "journal.copy.sqlite").unlink()
    killed(run)
    damage(run)
    finish(made, run, names)


@pytest.mark.parametrize(
    "damage",
    [cut(0), cut(0.5), holding(None), other_database],
    ids=["empty", "cut", "removed", "other database"],
)
def test_a_damaged_copy_of_a_whole_journal_is_in_nobodys_way(made, tmp_path, damage):
    run = made.copied(tmp_path / "run")
    unread(run)
    damage(run / "journal.copy.sqlite")
    finish(made, run, None)


COPY = {
    "journal missing": lambda run: (run / "journal.sqlite").unlink(),
    "journal empty": lambda run: cut(0)(run / "journal.sqlite"),
    "journal of an earlier day": lambda run: in_older(run / "journal.sqlite"),
    "both cut": lambda run: [cut(0.7)(run / f"journal{copy}.sqlite") for copy in ("", ".copy")],
}


def in_older(path):
    """Answers that are in the copy are missing, as when a log is lost."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("DELETE FROM responses WHERE rowid % 3 = 0")
        db.execute("VACUUM")


@pytest.mark.parametrize("damage", cases(COPY))
def test_what_only_the_copy_has_is_brought_back(made, tmp_path, damage):
    run = made.copied(tmp_path / "run")
    unread(run)
    damage(run)
    finish(made, run, "journal.sqlite")


def in_manifest(**changes):
    def damage(path):
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return damage


def in_stage(name, value):
    def damage(path):
        data = json.loads(path.read_text())
        data["stages"]["classify"][name] = value
        path.write_text(json.dumps(data))

    return damage


MANIFEST = {
    "missing": (lambda path: path.unlink(), None),
    "empty": (cut(0), "manifest.json"),
    "cut": (cut(0.5), "manifest.json"),
    "cut by a byte": (cut(-3), "manifest.json"),
    "random": (changed(0.3, bytes(range(200, 250))), "manifest.json"),
    "zeroed": (changed(0, bytes(500)), "manifest.json"),
    "a list": (holding(b"[]"), "manifest.json"),
    "null": (holding(b"null"), "manifest.json"),
    "nested": (holding(b'{"a":' * 100_000), "manifest.json"),
    "a number of 5,000 digits": (holding(b'{"stages": ' + b"9" * 5000 + b"}"), "manifest.json"),
    "a folder": (holding(None), "manifest.json"),
    "an object of nothing": (holding(b"{}"), None),
    "stages a list": (in_manifest(stages=[]), "manifest.json"),
    "stages null": (in_manifest(stages=None), "manifest.json"),
    "config null": (in_manifest(config=None), "manifest.json"),
    "config a text": (in_manifest(config="x"), "manifest.json"),
    "versions a number": (in_manifest(versions=1), "manifest.json"),
    "an unknown stage": (in_manifest(stages={"classfy": {}}), "manifest.json"),
    "a stage of nothing": (in_manifest(stages={"collect": {}}), "manifest.json"),
    "a count a text": (in_stage("rows_out", "many"), "manifest.json"),
    "tables a list": (in_stage("tables", ["rows"]), "manifest.json"),
    "another hash": (in_stage("tables", {"rows": "0"}), None),
    "a fingerprint": (in_stage("fingerprint", "0"), None),
    "of a later version": (in_manifest(layout=9, extra={"new": True}), None),
}


@pytest.mark.parametrize(("damage", "names"), cases(MANIFEST))
def test_a_damaged_manifest(made, tmp_path, damage, names):
    run = made.copied(tmp_path / "run")
    damage(run / "manifest.json")
    finish(made, run, names)


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), in_manifest(config=None), in_manifest(config=["x"])])
@pytest.mark.parametrize("command", ["build", "reason"])
def test_without_a_recipe_a_damaged_manifest_is_not_replaced_by_another(made, tmp_path, damage, command):
    """The default recipe would be built, and paid for, in its place."""
    run = made.copied(tmp_path / "run")
    damage(run / "manifest.json")
    before = len(made.server.requests)
    problem, _ = star_hf(command, "--run-dir", run)
    assert "manifest.json" in problem.message and "recipe" in problem.remedy
    assert len(made.server.requests) == before and tables_of(run) == made.tables


ROWS = "3-classify/rows.parquet"
TABLES = {
    "missing": lambda run: (run / ROWS).unlink(),
    "empty": lambda run: cut(0)(run / ROWS),
    "cut": lambda run: cut(0.5)(run / ROWS),
    "flipped": lambda run: flipped(1, 5)(run / ROWS),
    "a flip in its data": lambda run: changed(40, b"\xff")(run / ROWS),
    "text": lambda run: holding(b"id,question\n1,2\n")(run / ROWS),
    "a folder": lambda run: holding(None)(run / ROWS),
    "of another stage": lambda run: shutil.copyfile(run / "1-collect/rows.parquet", run / ROWS),
    "removed missing": lambda run: (run / "3-classify/removed.parquet").unlink(),
    "provenance cut": lambda run: cut(100)(run / "3-classify/provenance.parquet"),
    "folder missing": lambda run: shutil.rmtree(run / "3-classify"),
    "folder empty": lambda run: holding(None)(run / "3-classify"),
    "held out damaged": lambda run: cut(0.5)(run / "1-collect/held_out.parquet"),
    "left from a kill": lambda run: [(run / ".3-classify.new").mkdir(), shutil.rmtree(run / "3-classify")],
    "left as a file": lambda run: [holding(b"")(run / ".3-classify.new"), shutil.rmtree(run / "3-classify")],
    "all of them": lambda run: [cut(0.5)(path) for path in run.glob("*/*.parquet")],
}


@pytest.mark.parametrize("damage", cases(TABLES))
def test_a_damaged_table_is_written_again(made, tmp_path, damage):
    run = made.copied(tmp_path / "run")
    damage(run)
    finish(made, run, None)


@pytest.mark.parametrize("name", [name for name in TABLES if "left" not in name])
def test_a_command_that_reads_a_damaged_table_names_it(made, tmp_path, name):
    run = made.copied(tmp_path / "run")
    TABLES[name](run)
    commands = [("reason", "--run-dir", run), ("report", run), ("explain", "0123456789abcdef", "--run-dir", run)]
    problems = [star_hf(*command)[0] for command in commands]
    assert any(problem and str(run) in problem.message for problem in problems), problems
    for problem in problems:
        assert problem is None or "has no row" in problem.message or "star-hf build --run-dir" in problem.remedy
    finish(made, run, None)


IN_PLACE = {
    "a stage": "3-classify",
    "the vectors": "embeddings",
}


@pytest.mark.parametrize("place", cases(IN_PLACE))
def test_a_file_in_the_place_of_a_folder(made, tmp_path, place):
    run = made.copied(tmp_path / "run")
    unread(run)
    shutil.rmtree(run / "2-deduplicate")
    shutil.rmtree(run / "embeddings")
    holding(b"notes")(run / place) if not (run / place).exists() else None
    finish(made, run, place, paid=len(list((made.run / "embeddings").rglob("*.npz"))))


@pytest.mark.parametrize("inside", [".", "inside"])
@pytest.mark.parametrize("command", ["build", "reason", "explain 0123456789abcdef", "report", "journal stats"])
def test_a_run_directory_that_is_a_file(made, tmp_path, inside, command):
    (tmp_path / "notes.txt").write_text("my notes")
    place = tmp_path / "notes.txt" / inside
    option = () if command in ("report", "journal stats") else ("--run-dir",)
    recipe = ("--config", made.recipe) if command == "build" else ()
    problem, _ = star_hf(*command.split(), *option, place, *recipe)
    assert "notes.txt" in problem.message and problem.remedy
    assert (tmp_path / "notes.txt").read_text() == "my notes"


def vectors_of(run: Path) -> list[Path]:
    return sorted((run / "embeddings").rglob("*.npz"))


def saved(**arrays):
    return lambda path: np.savez(path, **arrays)


VECTORS = {
    "empty": cut(0),
    "cut": cut(0.6),
    "flipped": changed(0.5, b"\xff\xfe\xfd"),
    "text": holding(b"x" * 300),
    "a folder": holding(None),
    "other names": saved(a=np.zeros(3)),
    "fewer vectors": saved(keys=np.array(["a" * 64] * 4), vectors=np.zeros((3, 2), np.float32)),
    "no numbers": saved(keys=np.array(["a" * 64] * 4), vectors=np.array([["x"] * 2] * 4)),
    "not finite": saved(keys=np.array(["a" * 64] * 4), vectors=np.full((4, 2), np.nan, np.float32)),
    "numbers for keys": saved(keys=np.arange(4), vectors=np.zeros((4, 2), np.float32)),
    "pickled": saved(keys=np.array([{}] * 4), vectors=np.zeros((4, 2), np.float32)),
    "one array": lambda path: path.write_bytes(b"\x93NUMPY\x01\x00" + bytes(100)),
}


@pytest.mark.parametrize("damage", cases(VECTORS))
def test_a_damaged_file_of_vectors_costs_its_own_vectors(made, tmp_path, damage, caplog):
    run = made.copied(tmp_path / "run")
    unread(run)
    shutil.rmtree(run / "2-deduplicate")
    damage(vectors_of(run)[0])
    finish(made, run, None, paid=1)
    assert f"{vectors_of(made.run)[0].name} is damaged" in caplog.text
    assert len(vectors_of(run)) == len(vectors_of(made.run))


def test_vectors_of_another_length_are_named(made, tmp_path):
    run = made.copied(tmp_path / "run")
    shutil.rmtree(run / "2-deduplicate")
    first = vectors_of(run)[0]
    with np.load(first) as stored:
        keys = stored["keys"]
    np.savez(first, keys=keys, vectors=np.ones((len(keys), 3), np.float32))
    finish(made, run, "embeddings", paid=len(vectors_of(run)))


def padded(run):
    path = run / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "notes": "x" * ROOM}))


def without_vectors(run):
    shutil.rmtree(run / "2-deduplicate")
    shutil.rmtree(run / "embeddings")


def without_answers(run):
    unread(run)
    for path in run.glob("journal*"):
        path.unlink()


ROOM = 34_000
"""More than the index of a log, which SQLite makes whenever a journal is opened."""
NO_ROOM = {
    "answers": (without_answers, "journal.sqlite"),
    "a table": (unread, "3-classify"),
    "the manifest": (padded, "manifest.json"),
    "vectors": (without_vectors, ".npz"),
}


@pytest.mark.parametrize(("before", "names"), cases(NO_ROOM))
def test_a_full_disk(made, tmp_path, before, names):
    run = made.copied(tmp_path / "run")
    before(run)
    paid = {"answers": len(made.bodies), "vectors": len(vectors_of(made.run))}
    most = sum(paid[each] + FLIGHT for each in paid if NO_ROOM[each][0] is before)  # what was in flight is lost
    finish(made, run, names, under=full_disk(ROOM), paid=most)


def one_answer_less(run):
    unread(run)
    (run / "journal.copy.sqlite").unlink()
    with closing(sqlite3.connect(run / "journal.sqlite", isolation_level=None)) as db:
        db.execute("DELETE FROM responses WHERE key = (SELECT MIN(key) FROM responses WHERE stage = 'classify')")


READ_ONLY = {
    "the run": (".", 0o500, unread, 0),
    "the run's content": (".", 0o000, unread, 0),
    "a stage": ("2-deduplicate", 0o000, unread, 0),
    "the journal": ("journal.sqlite", 0o400, one_answer_less, 1),
    "the journal's content": ("journal.sqlite", 0o000, unread, 0),
    "the manifest": ("manifest.json", 0o000, unread, 0),
    "vectors": (None, 0o000, lambda run: shutil.rmtree(run / "2-deduplicate"), 0),
    "the vectors' folder": ("embeddings", 0o000, lambda run: shutil.rmtree(run / "2-deduplicate"), 0),
}


@pytest.mark.parametrize(("place", "mode", "before", "paid"), cases(READ_ONLY))
def test_without_permission(made, tmp_path, place, mode, before, paid):
    run = made.copied(tmp_path / "run")
    before(run)
    path = run / place if place else vectors_of(run)[0]
    usual = path.stat().st_mode
    path.chmod(mode)
    try:
        finish(made, run, str(path), under=obeying_permissions(), mend=lambda: path.chmod(usual), paid=paid)
    finally:
        path.chmod(usual)
