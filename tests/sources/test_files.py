"""Files as people keep them: what can be read is read as it was meant, and what cannot is named by its line."""

import bz2
import codecs
import gzip
import io
import json
import logging
import lzma
import os
import shutil
import subprocess
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from star_hf.audit.rows import load_rows
from star_hf.errors import SourceError
from star_hf.sources.held_out import own_held_out_set
from star_hf.sources.reading import read_file, read_own_texts, read_rows
from star_hf.transforms.collect import collect
from star_hf.utils.text import listed


LOCK, CAT = "How do I pick a lock?", "How do I fool a cat?"
LINES = json.dumps({"question": LOCK, "source": "a"}) + "\n" + json.dumps({"question": CAT, "source": "b"}) + "\n"
COMMA = f"question,source\n{LOCK},a\n{CAT},b\n"
TABS = COMMA.replace(",", "\t")


def zipped(name: str, text: str, *others: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for other in (*others, name):
            archive.writestr(zipfile.ZipInfo(other), text)  # without a time: equal in all test processes
    return content.getvalue()


def parquet_of(names: list[str], *columns) -> bytes:
    content = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(list(map(pa.array, columns)), names), content)
    return content.getvalue()


def parquet(**columns) -> bytes:
    return parquet_of(list(columns), *columns.values())


def read(path):
    refused = []
    rows = [(text, row.get("source")) for row, text in read_own_texts(path, refused)]
    return rows, refused


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", LINES),
        ("A.JSONL", LINES),
        ("a.ndjson", LINES),
        ("a.jsonl", LINES.replace("\n", "\r\n")),
        ("a.jsonl", "\ufeff" + LINES.replace("\n", "\n\ufeff\n\n", 1)),
        ("a.jsonl", LINES.encode("utf-16")),
        ("a.jsonl", LINES.encode("utf-16-le")),
        ("a.jsonl", LINES.encode("utf-16-be")),
        ("a.jsonl", codecs.BOM_UTF16_BE + LINES.encode("utf-16-be")),
        ("a.jsonl", LINES.encode("utf-32")),
        ("a.json", LINES),
        ("a.json", json.dumps([json.loads(line) for line in LINES.splitlines()])),
        ("a.json", json.dumps({"question": [LOCK, CAT], "source": ["a", "b"]})),
        ("a.json", json.dumps({"question": {"0": LOCK, "1": CAT}, "source": {"0": "a", "1": "b"}})),
        ("a.json", json.dumps({"0": {"question": LOCK, "source": "a"}, "1": {"question": CAT, "source": "b"}})),
        ("a.json", json.dumps({"columns": ["question", "source"], "index": [0], "data": [[LOCK, "a"], [CAT, "b"]]})),
        ("a.json", json.dumps({"version": 1, "data": [json.loads(line) for line in LINES.splitlines()]})),
        ("a.csv", COMMA),
        ("a.CSV", COMMA),
        ("a.csv", COMMA.replace(",", ";")),
        ("a.csv", "sep=;\n" + COMMA.replace(",", ";")),
        ("a.csv", "\n  \n" + COMMA),
        ("a.csv", "\nsep=;\n" + COMMA.replace(",", ";")),
        ("a.csv", COMMA.replace("question", "\u200bquestion")),
        ("a.csv", COMMA.replace("question", "ｑｕｅｓｔｉｏｎ")),
        ("a.csv", TABS),
        ("a.csv", COMMA.replace(",", "|")),
        ("a.csv", "\ufeff" + COMMA),
        ("a.csv", COMMA.replace("question,source", '"Question"," SOURCE "')),
        ("a.csv", COMMA.replace("\n", "\r\n")),
        ("a.csv", COMMA.replace("\n", ",,\n")),
        ("a.csv", f"source,note,question\na,,{LOCK}\nb,5,{CAT}\n"),
        ("a.tsv", TABS),
        ("a.tsv", COMMA),
        ("a.jsonl", LINES.replace('"question"', '"Question"')),
        ("a.jsonl", LINES.replace('"question"', '" question "')),
        ("a.jsonl", json.dumps([json.loads(line) for line in LINES.splitlines()], indent=1)),
        ("a.jsonl", "\n" + "".join(json.dumps(json.loads(line), indent=1) for line in LINES.splitlines())),
        ("a.json", LINES.replace("\n", "")),
        ("a.jsonl.gz", gzip.compress(LINES.encode(), mtime=0)),
        ("a.jsonl", gzip.compress(LINES.encode(), mtime=0)),
        ("a.jsonl.gz", LINES),
        ("a.tsv.gz", gzip.compress(TABS.encode(), mtime=0)),
        ("a.TSV.GZ", gzip.compress(TABS.encode(), mtime=0)),
        ("a.csv.bz2", bz2.compress(COMMA.encode())),
        ("a.tsv.xz", lzma.compress(TABS.encode())),
        ("a.jsonl.zst", pa.Codec("zstd").compress(LINES.encode(), asbytes=True)),
        ("a.zip", zipped("b.tsv", TABS)),
        ("a.tsv.zip", zipped("b.tsv", TABS, "__MACOSX/._b.tsv")),
        ("a.parquet", parquet(question=[LOCK, CAT], source=["a", "b"], extra=[1, 2])),
        ("a.parquet", parquet(Question=[LOCK.encode(), CAT.encode()], source=["a", "b"])),
        ("a.parquet", parquet(question=pa.array([LOCK, CAT]).dictionary_encode(), source=pa.array(["a", "b"]))),
        ("x::y*[1].jsonl", LINES),
        ("a b'c\".csv", COMMA),
    ],
)  # fmt: skip
def test_the_same_rows_in_any_form(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    assert read(path) == ([(LOCK, "a"), (CAT, "b")], [])


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        ("a.txt", f"{LOCK}\n{CAT}", [LOCK, CAT]),
        ("a.TXT", f"\ufeff{LOCK}\r\n\ufeff{CAT}\r\n", [LOCK, CAT]),
        ("a.txt.gz", gzip.compress(f"{LOCK}\n\n{CAT}\n".encode(), mtime=0), [LOCK, "", CAT]),
        ("a.txt", "one\u2028line\x0c and\x85 no more\n", ["one\u2028line\x0c and\x85 no more"]),
        ("a.txt", "BZh is no compression\n", ["BZh is no compression"]),
        ("a.json", json.dumps([LOCK, CAT]), [LOCK, CAT]),
        ("a.jsonl", f'"{LOCK}"\n', [LOCK]),
        ("a.csv", "question\n5\n06\nNaN\nnull\n", ["5", "06", "NaN", "null"]),
        ("a.csv", 'question\n"He said ""hi"",\nthen left"\n', ['He said "hi",\nthen left']),
        ("a.csv", "question,source\nonly one\n", ["only one"]),
        ("a.csv", "Question,question\na,b\n", ["b"]),
        ("a.csv", "question;notes, with, commas\na;b, c, d\n", ["a"]),
        ("a.tsv", "one, question\ttwo, or more\tquestion\nx, y\tz\ta\n", ["a"]),
        ("a.txt", "a\0b\n" + "c" * 100 + "\n", ["a\0b", "c" * 100]),
        ("a.csv", f"question\n{'x' * 200_000}\n", ["x" * 200_000]),
        ("a.jsonl", '{"question": 5}\n{"question": 2.5}\n', ["5", "2.5"]),
        ("a.jsonl", '{"question": NaN}\n{"question": null}\n{"question": "a", "x": NaN}\n', ["", "", "a"]),
        ("a.jsonl", r'{"question": "a \ud83d\ude00 \ud83d b"}' + "\n", ["a \U0001f600 \ufffd b"]),
        ("a.jsonl", '{"question": "a", "x": 1' + "0" * 4000 + "}\n", ["a"]),
        ("a.json", '[{"question": "a"}, {"question": "b", "late": [{"x": 1}]}]', ["a", "b"]),
        ("a.json", '{"question": "a"}', ["a"]),
        ("a.parquet", parquet(question=["a", None]), ["a", ""]),
        ("a.parquet", parquet(question=[1.5, float("nan")]), ["1.5", ""]),
        ("a.txt", "我怎样种番茄\n猫一天睡多久\n".encode("utf-16-le"), ["我怎样种番茄", "猫一天睡多久"]),
        ("a.txt", "我怎样种番茄\n猫一天睡多久\n".encode("utf-16-be"), ["我怎样种番茄", "猫一天睡多久"]),
        ("a.csv", "question\na\n\x1aend of file\nb\n", ["a", "\x1aend of file", "b"]),
    ],
)  # fmt: skip
def test_texts_are_read_as_they_were_meant(tmp_path, name, content, texts):
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    rows, refused = read(path)
    assert ([text for text, _ in rows], refused) == (texts, [])


@pytest.mark.parametrize(
    ("name", "content", "place", "said"),
    [
        ("a.jsonl", '{"question": "a"}\n{"que\n{"question": "b"}\n', "line 2", "not JSON"),
        ("a.jsonl", '{"question": "a"}\n\n["x"]\n{"question": "b"}\n', "line 3", "a JSON list, expected an object"),
        ("a.jsonl", '{"question": "a"}\n{"question": ["x"]}\n{"question": "b"}', "line 2", "`question` is a list"),
        ("a.jsonl", '{"question": "a"}\n{"prompt": "x"}\n{"question": "b"}', "line 2", "no column `question`"),
        ("a.jsonl", '{"question": "a"}\n{"question": true}\n{"question": "b"}', "line 2", "`question` is a bool"),
        ("a.jsonl", '{"question": "a"}\n' + "[" * 100_000 + '\n{"question": "b"}', "line 2", "not JSON"),
        ("a.jsonl", '{"question": "a"}\n{"x": ' + "1" * 5000 + '}\n{"question": "b"}', "line 2", "not JSON"),
        ("a.jsonl", b'{"question": "a"}\n{"question": "\xff"}\n{"question": "b"}', "line 2", "not UTF-8"),
        ("a.txt", b"a\nb\xe9\nb\n", "line 2", "not UTF-8"),
        ("a.csv", b"question,x\na,1\n\xe9,1\nb,\xe9\n", "line 3", "not UTF-8"),
        ("a.csv", 'question\n"a"\none, two\nb\n', "line 3", "2 values, but 1 columns"),
        ("a.csv", 'question,x\na,1\n"c \\"c\\" c",1\nb,1\n', "line 3", "a quote inside quotes is written twice"),
        ("a.csv", 'question,x\na,1\n"c" c,1\nb,1\n', "line 3", "a quote inside quotes is written twice"),
        ("a.csv", 'question,x\n"a",1\n"c\nc",1,2\nb,1\n', "line 3", "3 values, but 2 columns"),
        ("a.json", '["a", 5, "b"]', "row 2", "a JSON int, expected an object"),
    ],
)  # fmt: skip
def test_a_broken_row_is_refused_and_the_others_are_read(tmp_path, caplog, name, content, place, said):
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with caplog.at_level(logging.WARNING):
        outcome = collect(sources=[], held_out=[], questions=path).outcome
    assert outcome.rows["question"][:] == ["a", "b"]
    (gone,) = outcome.removed.to_list()
    assert gone["reason"] == "unreadable" and gone["detail"].startswith(f"{place}: ") and said in gone["detail"]
    assert f"{path}: 1 row cannot be read: {place}: " in caplog.text and len(caplog.text) < 1000
    with pytest.raises(SourceError, match=place):
        own_held_out_set("mine", path)  # a benchmark is held out as a whole or not at all


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "question\n", "a.csv has no rows"),
        ("a.jsonl", "\n\n", "a.jsonl has no rows"),
        ("a.json", "[]", "a.json has no rows"),
        ("a.csv", "", "a.csv is empty"),
        ("a.csv", "\ufeff", "a.csv has no rows"),
        ("a.csv", 'question\na\n"b\nc\n', "line 3: a quote opens and never closes"),
        ("a.csv", "Question, QUESTION\na,b\n", "several columns `question`"),
        ("a.csv", "question,question\na,b\n", "several columns `question`"),
        ("a.parquet", parquet_of(["question", "question"], ["a"], ["b"]), "several columns `question`"),
        ("a.csv", "prompt,source\na,b\n", "no column `question`; its columns are prompt, source"),
        ("a.json", '[{"question": "a"', "a.json is not JSON"),
        ("a.json", '{"prompts": ["a"]}', "no column `question`; its columns are prompts"),
        ("a.json", "5", "a JSON int"),
        ("a.parquet", b"PAR1not parquet", "a.parquet cannot be read"),
        ("a.parquet", parquet(question=pa.array([], pa.string())), "a.parquet has no rows"),
        ("a.xlsx", zipped("sheet.xml", "x"), "files of type `.xlsx` are not supported"),
        ("a", "x", "files of type `` are not supported"),
        ("a.gz", "x", "files of type `` are not supported"),
        ("a.txt", bytes(100) + b"x", "holds zero bytes"),
        ("a.jsonl.gz", gzip.compress(LINES.encode(), mtime=0)[:-9], "a.jsonl.gz cannot be read"),
        ("a.jsonl.gz", b"\x1f\x8bnothing", "a.jsonl.gz cannot be read"),
        ("a.zip", zipped("b.txt", "x", "c.txt"), "holds 2 files"),
        ("a.zip", b"PK\x03\x04", "not supported|cannot be read"),
        ("a.txt", b"\xe9\n" * 30, "30 rows of 30 cannot be read. line 1: not UTF-8"),
        ("a.jsonl", LINES * 50 + "{\n" * 11, "11 rows of 111 cannot be read. line 101: not JSON"),
        ("a.csv", "prompt\nx\n", "a.csv has no column `question`; its columns are prompt"),
        ("a.jsonl", json.dumps({f"column-{n}" * 20: n for n in range(5000)}), "4,980 more"),
        ("a.json", json.dumps({"prompt": {str(n): "x" for n in range(50_000)}}), "no column `question`"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_has_one_short_error(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(SourceError, match=said) as caught:
        collect(sources=[], held_out=[], questions=path)
    assert caught.value.remedy and len(str(caught.value)) < 1500
    with pytest.raises(SourceError):
        collect(sources=[], held_out=[], questions=tmp_path)


def test_unneeded_columns_do_not_matter(tmp_path):
    """Over the block size of Arrow's reader, with a column that is null at first, and one that comes late."""
    row = {"question": LOCK, "null": None, "mixed": 1, "source": 0}
    late = {"question": CAT, "null": {"deep": [1]}, "mixed": "text", "late": [{"x": None}], "source": 0}
    path = tmp_path / "a.jsonl"
    path.write_text((json.dumps({**row, "filler": "x" * 1000}) + "\n") * 11_000 + json.dumps(late) + "\n")
    rows, refused = read(path)
    assert not refused and len(rows) == 11_001 and rows[-1] == (CAT, "0")


def test_a_numeric_source_of_a_long_table_is_text(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("question,source\n" + "".join(f"q {n},{n % 7}\n" for n in range(12_000)) + "last,late\n")
    rows, refused = read(path)
    assert not refused and rows[7] == ("q 7", "0") and rows[-1] == ("last", "late")


def test_the_id_does_not_depend_on_a_byte_order_mark(tmp_path):
    (tmp_path / "a.txt").write_text(f"\ufeff{LOCK}\n", encoding="utf-8")
    (tmp_path / "b.txt").write_text(f"{LOCK}\n", encoding="utf-8")
    a, b = (collect(sources=[], held_out=[], questions=tmp_path / name).outcome.rows[0] for name in ("a.txt", "b.txt"))
    assert (a["id"], a["question"]) == (b["id"], b["question"])


def test_the_advice_for_windows_files_works(tmp_path):
    path = tmp_path / "it's mine.csv"
    path.write_bytes(f"question\n{'Où est-il?  “là”'}\n".encode("cp1252"))
    with pytest.raises(SourceError) as caught:
        own_held_out_set("mine", path)
    command = caught.value.remedy.partition("Windows: ")[2]
    if shutil.which("iconv") is None:
        pytest.skip("iconv is not installed")
    subprocess.run(command, shell=True, check=True)
    assert read(tmp_path / "it's mine.utf8.csv")[0] == [("Où est-il?  “là”", None)]


def test_a_sources_file_keeps_its_types_and_its_objects(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"instructions": ["a", "b"], "tags": []}))
    assert list(read_rows(path, ("instructions",))) == [{"instructions": ["a", "b"]}]
    (tmp_path / "b.jsonl").write_text('{"prompt": "a", "is_safe": false, "turn": 1}\n')
    assert list(read_rows(tmp_path / "b.jsonl", ("prompt", "is_safe"))) == [{"prompt": "a", "is_safe": False}]
    (tmp_path / "b.jsonl").write_text('{"prompt": "a"}\n{')
    with pytest.raises(SourceError, match="line 2: not JSON"):
        list(read_rows(tmp_path / "b.jsonl", ("prompt",)))


def test_an_audit_reads_what_it_can_and_counts_the_rest(tmp_path):
    path = tmp_path / "a.JSONL"
    path.write_text('{"Question": "a", "Source": 0, "score": {"x": 1}}\n{"Question"\n')
    rows = load_rows(path)
    assert (rows.questions, rows.sources, rows.scores) == (["a"], ["0"], [{"x": 1}])
    assert rows.columns["question"] == "Question" and rows.refused[0].startswith("line 2: not JSON")


def test_long_lists_are_cut():
    assert listed(["a", "b"]) == "a, b"
    assert listed(range(25), 3) == "0, 1, 2, 22 more"
    assert len(listed(["x" * 1000])) == 40


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_where_all_columns_are_read_no_name_may_repeat(tmp_path, name):
    names = ["question", "response", "response", "", ""]
    data = parquet_of(names, *[["x"]] * 5) if name == "a.parquet" else f"{','.join(names)}\nx,x,x,x,x\n".encode()
    (tmp_path / name).write_bytes(data)
    with pytest.raises(SourceError, match="several columns `response`"):
        list(read_file(tmp_path / name))


def test_what_is_no_file_is_called_what_it_is(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "a.jsonl").mkdir()
    for path, said in ((tmp_path / "pipe.jsonl", "is a pipe"), (tmp_path / "a.jsonl", "is a folder")):
        with pytest.raises(SourceError, match=said):
            list(read_file(path))
