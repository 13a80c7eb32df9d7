import multiprocessing
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from star_hf.errors import StarError
from star_hf.llm import Completion, Journal
from star_hf.llm.journal import store as journal
from star_hf.llm.journal.store import LAYOUT, Entry, MergeResult


def entry(key="k", text="hello"):
    return Entry(key, "score", "http://x/v1", "v1", Completion(text, reasoning="because", prompt_tokens=3), 0.5)


def test_an_entry_comes_back_as_it_went_in_also_after_reopening(tmp_path):
    put = entry(text="quote ' \" \x00 é 漢")
    with Journal(tmp_path / "deep" / "journal.sqlite") as journal:
        journal.put(put)
    with Journal(tmp_path / "deep" / "journal.sqlite") as journal:
        assert journal.get("k") == put and journal.get("k").created_at == put.created_at
        assert journal.get("other") is None
        assert "k" in journal and len(journal) == 1


def test_the_first_answer_stays(tmp_path):
    with Journal(tmp_path / "j.sqlite") as journal:
        journal.put(entry(text="first"))
        journal.put(entry(text="second"))
        assert journal.get("k").completion.text == "first"


def test_two_open_journals_see_each_other(tmp_path):
    with Journal(tmp_path / "j.sqlite") as one, Journal(tmp_path / "j.sqlite") as other:
        one.put(entry("a"))
        other.put(entry("b"))
        assert "b" in one and "a" in other


def test_a_merge_counts_what_it_adds_and_what_is_answered_differently(tmp_path):
    with Journal(tmp_path / "j.sqlite") as journal:
        journal.put(entry("a"))
        journal.put(entry("b"))
        merged = journal.merge([entry("a"), entry("b", "another answer"), entry("c"), entry("c")])
        assert merged == MergeResult(new=1, present=3, differing=1)
        assert journal.get("b").completion.text == "hello"


def test_a_merge_that_fails_adds_nothing(tmp_path):
    def broken():
        yield entry("b")
        raise StarError("the rest is unreadable")

    with Journal(tmp_path / "j.sqlite") as journal:
        journal.put(entry("a"))
        with pytest.raises(StarError, match="unreadable"):
            journal.merge(broken())
        assert len(journal) == 1
        journal.put(entry("c"))
        assert len(journal) == 2


def write_many(path, first, count):
    with Journal(path) as journal:
        for index in range(first, first + count):
            journal.put(entry(f"{index:064x}", f"answer {index}"))


def test_several_processes_write_to_one_new_journal_at_once(tmp_path):
    path, context = tmp_path / "j.sqlite", multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_many, args=(path, 250 * part, 500)) for part in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0, 0, 0]
    with Journal(path) as journal:
        assert len(journal) == 1250
        assert all(journal.get(f"{i:064x}").completion.text == f"answer {i}" for i in range(1250))


def write_until_killed(path, written):
    with Journal(path) as journal:
        for index in range(1_000_000):
            journal.put(entry(f"{index:064x}", "x" * 2_000))
            written.send(index)


def test_nothing_committed_is_lost_when_the_process_is_killed(tmp_path):
    context = multiprocessing.get_context("spawn")
    reader, written = context.Pipe(duplex=False)
    process = context.Process(target=write_until_killed, args=(tmp_path / "j.sqlite", written))
    process.start()
    written.close()
    last = 0
    while last < 300:
        last = reader.recv()
    process.kill()
    process.join()
    try:
        while True:
            last = reader.recv()
    except EOFError:
        pass
    with Journal(tmp_path / "j.sqlite") as journal:
        assert len(journal) in (last + 1, last + 2)
        assert all(f"{index:064x}" in journal for index in range(last + 1))


@pytest.fixture
def writer_elsewhere(tmp_path):
    """A connection of another program that holds the journal's write lock."""
    Journal(tmp_path / "j.sqlite").close()
    other = sqlite3.connect(tmp_path / "j.sqlite", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    yield other
    other.close()


def test_a_write_waits_for_another_process(tmp_path, writer_elsewhere):
    end = threading.Timer(0.3, writer_elsewhere.execute, ["COMMIT"])
    started = time.monotonic()
    end.start()
    with Journal(tmp_path / "j.sqlite") as journal:
        journal.put(entry())
        assert time.monotonic() - started > 0.2
        assert "k" in journal
    end.join()


def test_a_journal_that_stays_locked_says_so_and_can_still_be_read(tmp_path, writer_elsewhere, monkeypatch):
    monkeypatch.setattr(journal, "BUSY_S", 0.1)
    with Journal(tmp_path / "j.sqlite") as held:
        assert "k" not in held
        with pytest.raises(StarError, match="j.sqlite cannot be used .database is locked.") as caught:
            held.put(entry())
        assert "another process" in caught.value.remedy


def test_a_full_disk_keeps_what_is_there(tmp_path):
    with Journal(tmp_path / "j.sqlite") as journal:
        journal.put(entry("a"))
        journal.execute("PRAGMA max_page_count=4")
        with pytest.raises(StarError, match="full"):
            journal.merge([entry("b"), entry("c", "long " * 10_000)])
        assert len(journal) == 1 and journal.get("a") == entry("a")


def test_a_file_that_is_no_journal_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes, not a data base\n" * 10)
    with pytest.raises(StarError, match="is not a journal"):
        Journal(path)
    assert path.read_text().startswith("these are my notes")


def test_a_data_base_of_another_program_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "bookmarks.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE bookmarks (url TEXT)")
    before = path.read_bytes()
    with pytest.raises(StarError, match=r"not a journal .it has the tables bookmarks"):
        Journal(path)
    assert path.read_bytes() == before


def test_a_folder_in_place_of_the_file_is_refused(tmp_path):
    with pytest.raises(StarError, match="is a folder, and a journal is a file"):
        Journal(tmp_path)


def test_a_newer_layout_is_refused(tmp_path):
    path = tmp_path / "j.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=99")
    with pytest.raises(StarError, match="layout 99"):
        Journal(path)


def test_a_journal_of_layout_1_is_brought_up_to_date_and_keeps_its_answers(tmp_path):
    with Journal(tmp_path / "j.sqlite") as journal:
        journal.put(entry())
        journal.execute("UPDATE responses SET completion = json_remove(completion, '$.finish_reason', '$.usage')")
        journal.execute("DROP TABLE batches")
        journal.execute("PRAGMA user_version=1")
    with Journal(tmp_path / "j.sqlite") as journal:
        assert journal.get("k") == entry()
        assert journal.execute("SELECT COUNT(*) FROM batches").fetchone() == (0,)
        assert journal.execute("PRAGMA user_version").fetchone() == (LAYOUT,)


def test_an_unknown_older_layout_says_how_to_go_on(tmp_path):
    path = tmp_path / "j.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE responses (key TEXT PRIMARY KEY, stage TEXT, completion TEXT)")
        db.execute("INSERT INTO responses VALUES ('k', 'score', '{}')")
    before = path.read_bytes()
    with pytest.raises(StarError, match="older layout .key, stage, completion.") as caught:
        Journal(path)
    assert "star-hf journal export" in caught.value.remedy and "import" in caught.value.remedy
    assert path.read_bytes() == before


def test_a_journal_whose_making_was_interrupted_is_finished(tmp_path):
    with Journal(tmp_path / "j.sqlite") as journal:
        journal.put(entry())
        journal.execute("PRAGMA user_version=0")
    with Journal(tmp_path / "j.sqlite") as journal:
        assert "k" in journal
        assert journal.execute("PRAGMA user_version").fetchone() == (LAYOUT,)


def test_a_journal_made_without_row_ids_is_read_and_written_as_before(tmp_path):
    path = tmp_path / "j.sqlite"
    with sqlite3.connect(path) as db:
        db.execute(
            "CREATE TABLE responses (key TEXT PRIMARY KEY, stage TEXT NOT NULL, endpoint TEXT NOT NULL, "
            "version TEXT NOT NULL, completion TEXT NOT NULL, cost_usd REAL, created_at REAL NOT NULL) WITHOUT ROWID"
        )
        db.execute("PRAGMA user_version=1")
        db.execute("""INSERT INTO responses VALUES ('old', 's', 'e', 'v', '{"text": "kept"}', NULL, 1.0)""")
    with Journal(path) as journal:
        journal.put(entry("new"))
        assert journal.get("old").completion == Completion("kept") and len(journal) == 2


def test_many_may_open_a_new_journal_in_the_same_instant(tmp_path):
    def make(path):
        start.wait()
        with Journal(path) as journal:
            journal.put(entry(str(threading.get_ident())))

    for attempt in range(10):
        path, start = tmp_path / f"{attempt}.sqlite", threading.Barrier(8)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(make, [path] * 8))
        with Journal(path) as journal:
            assert len(journal) == 8
