import os
import subprocess
import sys
import textwrap
import time

import pytest

from star_hf.errors import ConfigError
from star_hf.evaluation.grading.code_execution import SANDBOX, SandboxLimits, code_verdicts, run_program
from star_hf.evaluation.grading.grade import check_graders, grade
from star_hf.evaluation.tasks.benchmarks import BENCHMARKS
from star_hf.evaluation.tasks.loading import load_items
from star_hf.evaluation.types import Item, Response, responses_table
from star_hf.llm import Journal


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="model code is only run on Linux")

SHORT = SandboxLimits(seconds=2, memory_mb=256)

ITEM = Item(
    "h/0",
    "ask",
    target="def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(3) == 9\n",
    facts={"signature": 'def square(x):\n    """Square of x."""\n', "entry_point": "square"},
)

HARMLESS = {
    "ordinary": "assert 1 + 1 == 2",
    "imports": "import collections, heapq, itertools, math, re, typing",
    "numpy": "import numpy; assert numpy.ones(3).sum() == 3",
    "a file of its own": "open('a', 'w').write('x'); import os; os.mkdir('d'); os.rename('a', 'd/a')",
    "a thread": "import threading; t = threading.Thread(target=print); t.start(); t.join()",
    "a main block that asks": "if __name__ == '__main__':\n    input()",
    "much output": "print('x' * 10**7)",
}


@pytest.mark.parametrize("program", HARMLESS.values(), ids=HARMLESS)
def test_harmless_programs_pass(program):
    assert run_program(program, SandboxLimits(seconds=20)).label == "passed"


ENDS_EARLY = {
    "os._exit(0)": "import os; os._exit(0)",
    "sys.exit()": "import sys; sys.exit()",
    "an exit inside a test": "class E:\n    def __eq__(self, other):\n        raise SystemExit(0)\nassert E() == 1",
    "a failed test": "assert 1 == 2",
    "a syntax error": "def broken(",
    "a crash": "import os; os.abort()",
    "an unanswered question": "input()",
}


@pytest.mark.parametrize("program", ENDS_EARLY.values(), ids=ENDS_EARLY)
def test_a_program_that_does_not_reach_its_end_has_not_passed(program):
    assert run_program(program, SandboxLimits(seconds=20)).label == "failed"


ESCAPES = {
    "fork": "import os\nwhile True:\n    os.fork()",
    "multiprocessing": "import multiprocessing\nmultiprocessing.get_context('fork').Process(target=print).start()",
    "a command": "import subprocess\nsubprocess.run(['true'], check=True)",
    "a shell": "import os\nassert os.system('true') == 0",
    "another program": "import os\nos.execv('/bin/true', ['true'])",
    "network": "import socket\nsocket.socket()",
    "a web page": "import urllib.request\nurllib.request.urlopen('http://127.0.0.1:1')",
    "kill the parent": "import os, signal\nos.kill(os.getppid(), signal.SIGTERM)",
    "memory": "x = bytearray(1 << 33)",
    "memory step by step": "x = []\nwhile True:\n    x.append(bytearray(1 << 24))",
    "a large file": "f = open('large', 'wb')\nwhile True:\n    f.write(bytes(1 << 20))",
    "many files": "files = [open(str(n), 'w') for n in range(1000)]",
    "read passwords": "open('/etc/passwd').read()",
    "native code": "import ctypes\nctypes.CDLL(None).getpid()",
}


@pytest.mark.parametrize("program", ESCAPES.values(), ids=ESCAPES)
def test_an_attempt_to_escape_fails(program):
    started = time.monotonic()
    outcome = run_program(program, SHORT)
    assert outcome.label in ("failed", "timeout") and time.monotonic() - started < 15


@pytest.mark.parametrize(
    "what", ["open({0!r}, 'w').write('x')", "import os; os.mkdir({0!r})", "import os; os.remove({1!r})"]
)
def test_nothing_is_written_or_removed_outside(what, tmp_path):
    (tmp_path / "there").write_text("kept")
    program = what.format(str(tmp_path / "new"), str(tmp_path / "there"))
    assert run_program(program, SHORT).label == "failed"
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_disk_is_not_filled():
    program = "for number in range(1000):\n    open(str(number), 'wb').write(bytes(1 << 20))"
    assert run_program(program, SHORT).detail.endswith("100 times at most")


def test_a_file_cannot_grow_beyond_a_megabyte():
    program = "file = open('a', 'wb', 0)\nfor _ in range(3):\n    file.write(bytes(1 << 20))"
    assert "File too large" in run_program(program).detail


def test_times_of_files_outside_stay(tmp_path):
    before = tmp_path.stat().st_mtime_ns
    assert run_program(f"import os; os.utime({str(tmp_path)!r})", SHORT).label == "failed"
    assert tmp_path.stat().st_mtime_ns == before


def landlocked():
    script = f"import runpy; raise SystemExit(not runpy.run_path({str(SANDBOX)!r})['landlock']('/tmp'))"
    return subprocess.run([sys.executable, "-I", "-c", script]).returncode == 0


@pytest.mark.skipif(not landlocked(), reason="this kernel has no Landlock")
def test_the_kernel_keeps_files_safe_when_pythons_fence_is_down(tmp_path, monkeypatch):
    from star_hf.evaluation.grading import code_execution

    open_gate = tmp_path / "sandbox.py"
    open_gate.write_text(code_execution.SANDBOX.read_text().replace("    forbid(folder)\n", ""))
    monkeypatch.setattr(code_execution, "SANDBOX", open_gate)
    (tmp_path / "there").write_text("kept")
    assert run_program(f"open({str(tmp_path / 'new')!r}, 'w')", SHORT).label == "failed"
    assert run_program(f"open({str(tmp_path / 'there')!r})", SHORT).label == "failed"
    assert run_program("import os; os.execv('/bin/true', ['true'])", SHORT).label == "failed"
    assert run_program(f"import os; os.kill({os.getpid()}, 0)", SHORT).label == "failed"
    assert run_program("import socket; socket.create_connection(('127.0.0.1', 1), 1)", SHORT).label == "failed"


def test_pythons_fence_keeps_secrets_where_the_kernel_cannot(tmp_path, monkeypatch):
    from star_hf.evaluation.grading import code_execution

    open_gate = tmp_path / "sandbox.py"
    open_gate.write_text(code_execution.SANDBOX.read_text().replace("    landlock(folder)\n", ""))
    monkeypatch.setattr(code_execution, "SANDBOX", open_gate)
    (tmp_path / "token").write_text("secret")
    for path in (tmp_path / "token", f"/proc/{os.getpid()}/environ"):
        assert "only read where Python is" in run_program(f"open({str(path)!r}).read()", SHORT).detail
    for program in HARMLESS.values():
        assert run_program(program, SandboxLimits(seconds=20)).label == "passed"


def test_endless_work_and_output_are_stopped_in_time():
    for program in ("while True: pass", "import sys\nwhile True: sys.stderr.write('x' * 10000)"):
        started = time.monotonic()
        assert run_program(program, SHORT).label != "passed"
        assert time.monotonic() - started < 10


def test_secrets_of_the_environment_are_not_passed_on(monkeypatch):
    monkeypatch.setenv("STAR_TEST_TOKEN", "not-for-you")
    program = "import os\nassert not [name for name in os.environ if 'TOKEN' in name or 'KEY' in name], os.environ"
    assert run_program(program).label == "passed"
    assert run_program("import os\nassert os.path.expanduser('~') == os.getcwd()").label == "passed"


def test_the_proof_cannot_be_read_from_an_open_file():
    program = """
        import contextlib, os
        for source in range(3, 30):
            with contextlib.suppress(OSError):
                os.set_blocking(source, False)
                word = os.read(source, 64)
                for sink in range(3, 30):
                    with contextlib.suppress(OSError):
                        os.write(sink, word)
        os._exit(0)
    """
    assert run_program(textwrap.dedent(program)).label == "failed"


def test_guessing_the_proof_does_not_help():
    guess = "import contextlib, os\nfor fd in range(3, 20):\n    with contextlib.suppress(OSError):\n        "
    assert run_program(guess + "os.write(fd, b'x' * 32)\nos._exit(0)").label == "failed"


def test_the_detail_is_the_last_line_of_the_error_and_short():
    assert run_program("1 / 0").detail == "ZeroDivisionError: division by zero"
    assert len(run_program("raise ValueError('x' * 10**6)").detail) <= 200


def answers(*texts):
    return [Response("h/0", sample, text) for sample, text in enumerate(texts)]


def test_verdicts_on_answers():
    found = code_verdicts(
        {"h/0": ITEM},
        [
            *answers(
                "```python\ndef square(x):\n    return x * x\n```",
                "    return x ** 2\n",
                "```python\ndef square(x):\n    return x + x\n```",
                "```python\nimport os\nos._exit(0)\n```",
                "I would rather not.",
            ),
            Response("h/0", 5, failure="truncated"),
        ],
        allow_code_execution=True,
        progress=False,
    )
    assert [verdict.value for verdict in found] == [1, 1, 0, 0, None, None]
    assert [verdict.failure for verdict in found][4:] == ["unparseable", "truncated"]
    assert "AssertionError" in found[2].detail and [verdict.sample for verdict in found] == list(range(6))


def test_nothing_runs_without_leave(tmp_path):
    mark = tmp_path / "ran"
    with pytest.raises(ConfigError, match="--allow-code-execution"):
        check_graders([BENCHMARKS["humaneval"]], [], allow_code_execution=False)
    with pytest.raises(ConfigError, match="--allow-code-execution"):
        code_verdicts({"h/0": ITEM}, answers(f"```python\nopen({str(mark)!r}, 'w')\n```"))
    assert not mark.exists()


def test_extractors_grade_a_table(tmp_path):
    item = Item("i", "ask", target="4")
    table = responses_table("math500", [item], [Response("i", 0, r"\boxed{4}"), Response("i", 1, "Answer: 5")])
    with Journal(tmp_path / "journal.sqlite") as journal:
        found = grade(BENCHMARKS["math500"], [item], table, [], journal)
    assert found["value"] == [1.0, 0.0] and set(found["benchmark"]) == {"math500"}


def test_real_solutions_pass_and_empty_ones_do_not(shared_data, tmp_path):
    import gzip
    import json

    folder = shared_data / "raw" / "HumanEval"
    (tmp_path / "HumanEval").symlink_to(folder)
    with gzip.open(folder / "HumanEval.jsonl.gz") as file:
        solutions = {row["task_id"]: row["canonical_solution"] for row in map(json.loads, file)}
    items = {item.id: item for item in load_items("humaneval", tmp_path, limit=16)}
    right = [Response(name, answer=f"```python\n{textwrap.dedent(solutions[name])}```") for name in items]
    whole = [
        Response(name, answer=f"```python\n{item.facts['signature']}{solutions[name]}```")
        for name, item in items.items()
    ]
    wrong = [Response(name, answer="```python\n    return None\n```") for name in items]
    verdicts = code_verdicts(items, right + whole + wrong, allow_code_execution=True, progress=False)
    assert [verdict.value for verdict in verdicts] == [1] * 32 + [0] * 16
