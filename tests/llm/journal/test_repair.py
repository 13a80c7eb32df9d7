import contextlib
import hashlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from damages import changed, cut, full_disk, holding

from star_hf.errors import StarError
from star_hf.llm import Completion, Journal
from star_hf.llm.batch.ledger import BatchLedger
from star_hf.llm.journal import repair as room
from star_hf.llm.journal.checks import left_in
from star_hf.llm.journal.log import frames_of, log_is_damaged
from star_hf.llm.journal.pages import copy_of, log_of, read_rows
from star_hf.llm.journal.repair import guarded, keep_copy, repair
from star_hf.llm.journal.store import Entry
from star_hf.llm.journal.upkeep import Selection, prune


def key(number):
    return hashlib.sha256(str(number).encode()).hexdigest()


def entry(number, size=None):
    """An entry with an answer of any length: most are longer than a page of 4 KB."""
    rng = random.Random(number)
    text = " ".join(f"wörd{rng.getrandbits(40):x}" for _ in range(rng.randint(1, 900) if size is None else size))
    completion = Completion(text, reasoning="so" * rng.randint(0, 90) or None, prompt_tokens=number)
    return Entry(key(number), "reason", "http://x/v1", "v" * (number % 70), completion, number / 8, number / 4)


def filled(path, count=60, size=None):
    with Journal(path) as journal:
        for number in range(count):
            journal.put(entry(number, size))
    return path


def answers(path):
    """The entries that can be read without SQLite, by key."""
    found = {}
    for kind, values in read_rows(path):
        if kind == "response":
            name, stage, at, version, text, cost, created = values
            found.setdefault(name, Entry(name, stage, at, version, Completion(**json.loads(text)), cost, created))
    return found


@pytest.mark.parametrize("page_size", [1024, 4096, 65536])
@pytest.mark.parametrize("without_row_ids", [False, True])
def test_every_row_is_read_without_sqlite(tmp_path, page_size, without_row_ids):
    path = tmp_path / "j.sqlite"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(f"PRAGMA page_size={page_size}")
        if without_row_ids:
            db.execute(
                "CREATE TABLE responses (key TEXT PRIMARY KEY, stage TEXT NOT NULL, endpoint TEXT NOT NULL, version "
                "TEXT NOT NULL, completion TEXT NOT NULL, cost_usd REAL, created_at REAL NOT NULL) WITHOUT ROWID"
            )
        db.execute("PRAGMA user_version=0")
    filled(path)
    assert answers(path) == {key(number): entry(number) for number in range(60)}
    assert left_in(path)[1:] == (set(), set())


def test_rows_in_the_log_are_read_too(tmp_path):
    with Journal(tmp_path / "j.sqlite") as journal:
        for number in range(60):
            journal.put(entry(number))
        assert len(answers(journal.path)) == 60 and journal.path.stat().st_size <= 4096


def test_a_page_costs_only_its_own_rows_and_what_is_lost_is_counted(tmp_path):
    path = filled(tmp_path / "j.sqlite", 400, size=20)
    pages = path.stat().st_size // 4096
    whole = answers(path)
    for page in range(0, pages, 7):
        shutil.copyfile(path, tmp_path / "damaged.sqlite")
        changed(page * 4096, os.urandom(4096))(tmp_path / "damaged.sqlite")
        kept, lost, _ = left_in(tmp_path / "damaged.sqlite")
        assert len(kept) >= 380, "a page holds no more than some 15 short answers"
        assert kept <= set(whole) and lost <= set(whole) and len(kept) + len(lost) >= 390


KILL = """
import os, sys
from star_hf.llm.journal.store import Journal
sys.path.insert(0, sys.argv[2])
from test_repair import entry
journal = Journal(sys.argv[1])
for number in range(40):
    journal.put(entry(number))
journal.execute("BEGIN IMMEDIATE")
for number in range(40, 40 + int(sys.argv[3])):
    journal.put(entry(number))
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("open_puts", [0, 1, 700])
def test_a_kill_is_no_damage(tmp_path, open_puts):
    """Also not when the log ends with what another transaction left."""
    path, here = tmp_path / "j.sqlite", str(Path(__file__).parent)
    for _ in range(2):
        command = [sys.executable, "-c", KILL, str(path), here, str(open_puts)]
        subprocess.run(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, check=False)
        assert log_of(path).stat().st_size > 100_000
        assert not log_is_damaged(log_of(path))
        cut(-2000)(log_of(path))
        assert not log_is_damaged(log_of(path)), "a write that was cut off"
    with Journal(path) as journal:
        assert len(journal) >= 39


@pytest.fixture
def with_log(tmp_path):
    """A journal whose answers are all in its log."""
    with Journal(tmp_path / "open.sqlite") as journal:
        for number in range(60):
            journal.put(entry(number, size=30))
        shutil.copyfile(journal.path, tmp_path / "j.sqlite")
        shutil.copyfile(log_of(journal.path), log_of(tmp_path / "j.sqlite"))
    return tmp_path / "j.sqlite"


@pytest.mark.parametrize("seed", range(12))
def test_a_flipped_bit_in_a_log_is_found_and_costs_nothing(with_log, seed):
    """SQLite itself would go on with the answers before it. Each page is in the log again and again."""
    log, rng = log_of(with_log), random.Random(seed)
    content = bytearray(log.read_bytes())
    content[rng.randrange(len(content) - 4120)] ^= 1 << rng.randrange(8)
    log.write_bytes(content)
    assert log_is_damaged(log)
    before = log.read_bytes()
    with pytest.raises(StarError, match=r"its log j\.sqlite-wal is damaged\. 60 answers in it can be read"):
        Journal(with_log)
    assert log.read_bytes() == before, "opening it would have removed the log"
    assert repair(with_log).answers == 60
    with Journal(with_log) as journal:
        assert all(journal.get(key(number)) == entry(number, size=30) for number in range(60))


def test_the_frames_of_a_log_are_those_that_sqlite_takes(with_log):
    frames = list(frames_of(log_of(with_log)))
    assert all(frame.whole and frame.current for frame in frames) and sum(frame.commits for frame in frames) > 60
    changed(32 + 10 * 4120 + 100, b"\xff\xff")(log_of(with_log))
    assert [n for n, frame in enumerate(frames_of(log_of(with_log))) if not frame.whole] == [10]


def test_a_repair_saves_what_the_file_its_log_and_its_copy_have(tmp_path):
    path = filled(tmp_path / "j.sqlite", 20)
    with guarded(path) as journal:
        journal.put(entry(20))
    with Journal(path) as journal:
        for number in range(21, 30):
            journal.put(entry(number))
        journal.execute("DELETE FROM responses WHERE key = ?", (key(3),))
    changed(0, bytes(100))(path)
    with pytest.raises(StarError, match=r"j\.sqlite is damaged: .*answers in it can be read.*copy") as caught:
        Journal(path)
    assert f"star-hf journal repair {path}" in caught.value.remedy
    done = repair(path)
    assert (done.answers, done.kept) == (30, tmp_path / "j.damaged-1.sqlite")
    with Journal(path) as journal:
        assert all(journal.get(key(number)) == entry(number) for number in range(30))
    assert repair(path).kept is None and len(answers(done.kept)) == 29 and len(answers(copy_of(path))) == 30


def test_a_second_damage_keeps_both_files(tmp_path):
    path = filled(tmp_path / "j.sqlite", 5)
    for number in (1, 2):
        changed(0, b"X")(path)
        assert repair(path).kept.name == f"j.damaged-{number}.sqlite"


def test_open_batches_are_saved_as_they_were_last(tmp_path):
    """They are paid for, and nobody has read their answers yet."""
    path = filled(tmp_path / "j.sqlite", 3)
    with guarded(path) as journal:
        ledger = BatchLedger(journal, "score", "http://x/v1")
        one, two = ledger.plan({key(90): "v", key(91): "v"}), ledger.plan({key(92): "v"})
        ledger.uploaded(one.name, "file-1")
    with Journal(path) as journal:
        ledger = BatchLedger(journal, "score", "http://x/v1")
        ledger.created(one.name, "batch-1")
        ledger.uploaded(two.name, "file-2")
        ledger.created(two.name, "batch-2")
        ledger.ended(two, [key(92)])
        expected = ledger.open(), ledger.left()
    changed(0, b"X")(path)
    repair(path)
    with Journal(path) as journal:
        ledger = BatchLedger(journal, "score", "http://x/v1")
        assert (ledger.open(), ledger.left()) == expected and [each.batch_id for each in expected[0]] == ["batch-1"]


@pytest.mark.parametrize("instant", range(6))
def test_a_repair_that_is_killed_is_done_again(tmp_path, monkeypatch, instant):
    path = filled(tmp_path / "j.sqlite", 20)
    with guarded(path) as journal:
        journal.put(entry(20))
        journal.execute("DELETE FROM responses WHERE key = ?", (key(3),))
    with Journal(path) as journal:
        journal.put(entry(21))
        shutil.copyfile(path, tmp_path / "killed.sqlite")
        shutil.copyfile(log_of(path), log_of(tmp_path / "killed.sqlite"))
        shutil.copyfile(copy_of(path), copy_of(tmp_path / "killed.sqlite"))
    path, steps = tmp_path / "killed.sqlite", iter(range(9))
    changed(0, b"X")(path)

    def stopping(function):
        def step(*arguments):
            if next(steps) == instant:
                raise KeyboardInterrupt
            return function(*arguments)

        return step

    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        for place, name in ((os, "replace"), (shutil, "copyfile"), (room, "_save"), (room, "_moved_aside")):
            patch.setattr(place, name, stopping(getattr(place, name)))
        repair(path)
    with contextlib.suppress(StarError), Journal(path) as journal:
        assert all(key(number) in journal for number in range(22) if number != 3), "usable again only when it is whole"
    repair(path)
    with Journal(path) as journal:
        assert all(key(number) in journal for number in range(22) if number != 3)


def test_a_sound_journal_is_left_as_it_is(tmp_path):
    path = filled(tmp_path / "j.sqlite", 5)
    before = path.read_bytes()
    done = repair(path)
    assert (done.answers, done.lost, done.kept) == (5, 0, None) and path.read_bytes() == before


@pytest.mark.parametrize("damage", [holding(b"my notes\n" * 50), cut(0), lambda path: path.unlink()])
def test_nothing_to_save_changes_nothing(tmp_path, damage):
    path = filled(tmp_path / "j.sqlite", 5)
    damage(path)
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(StarError, match="Nothing of a journal is in .* Nothing was changed"):
        repair(path)
    assert (path.read_bytes() if path.exists() else None) == before
    assert {file.name for file in tmp_path.iterdir()} <= {"j.sqlite", ".lock"}


def test_a_journal_of_a_newer_layout_is_read_as_far_as_it_is_known(tmp_path):
    """The newer file is kept, for the version that wrote it."""
    path = filled(tmp_path / "j.sqlite", 5)
    with Journal(path) as journal:
        journal.execute("ALTER TABLE responses ADD COLUMN checksum TEXT DEFAULT 'x'")
        journal.execute("UPDATE responses SET checksum = 'y'")
        journal.execute("PRAGMA user_version=4")
    with pytest.raises(StarError, match="layout 4") as caught:
        Journal(path)
    assert "Upgrade star_hf" in caught.value.remedy and "journal repair" in caught.value.remedy
    assert repair(path).answers == 5
    with Journal(path) as journal:
        assert journal.get(key(4)) == entry(4)


def test_the_copy_is_made_when_there_is_something_new_and_is_one_file(tmp_path):
    path, copy = tmp_path / "j.sqlite", tmp_path / "j.copy.sqlite"
    with guarded(path) as journal:
        pass
    assert len(answers(copy)) == 0
    with guarded(path) as journal:
        journal.put(entry(0))
        keep_copy(journal)
        first = copy.stat().st_ino
        keep_copy(journal)
        assert copy.stat().st_ino == first
        journal.put(entry(1))
    assert copy.stat().st_ino != first and len(answers(copy)) == 2
    assert {file.name for file in tmp_path.iterdir()} == {"j.sqlite", "j.copy.sqlite"}


def test_a_run_that_fails_has_a_copy_of_what_it_paid_for(tmp_path):
    with pytest.raises(ZeroDivisionError), guarded(tmp_path / "j.sqlite") as journal:
        journal.put(entry(0))
        1 / 0  # noqa: B018
    assert len(answers(tmp_path / "j.copy.sqlite")) == 1


def test_a_damaged_journal_does_not_replace_its_copy(tmp_path, caplog):
    path = filled(tmp_path / "j.sqlite", 60, size=40)
    with guarded(path) as journal:
        journal.put(entry(60))
    before = copy_of(path).read_bytes()
    with Journal(path) as journal:
        journal.put(entry(61))
        changed(0.5, os.urandom(4096))(path)
        keep_copy(journal)
    assert copy_of(path).read_bytes() == before
    assert "No copy of the journal is kept" in caplog.text and "journal repair" in caplog.text


def test_no_room_for_a_copy_is_only_told(tmp_path, caplog):
    with Journal(tmp_path / "j.sqlite") as journal:
        for number in range(60):
            journal.put(entry(number))
        with full_disk(50_000):
            keep_copy(journal)
        assert len(journal) == 60
    assert "No copy of the journal is kept" in caplog.text and not copy_of(tmp_path / "j.sqlite").exists()


def test_what_is_pruned_is_in_no_copy_either(tmp_path):
    with Journal(tmp_path / "j.sqlite") as journal:
        journal.put(entry(0))
        keep_copy(journal)
        prune(journal, Selection(stages=("reason",)))
    assert not copy_of(tmp_path / "j.sqlite").exists() and not answers(tmp_path / "j.sqlite")
