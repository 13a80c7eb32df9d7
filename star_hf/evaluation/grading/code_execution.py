"""Runs code that a model wrote, against tests: confined, limited in everything, and only where it is asked for.

Each program has a process group, an empty folder and a clean environment of its own. The kernel keeps it from the
network and from other processes (namespaces, where `unshare` works), from other files (Landlock, from Linux 5.13 on),
and from more memory, time, files or output than it is given. What a kernel cannot do is refused inside Python, which
stops accidents, not an attacker: for code you have reason to fear, run the whole evaluation in a container or a
virtual machine. `confinement()` says what holds on this machine.
"""

import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ...errors import ConfigError
from ...utils.progress import track
from ..types import Answer, Item, Verdict
from .code_extraction import complete_program, extract_code


__all__ = ["Limits", "Outcome", "code_verdicts", "confinement", "run_program"]

JUDGE = "unit-tests"

SANDBOX = Path(__file__).with_name("sandbox.py")
QUOTED = 200


@dataclass(frozen=True)
class Limits:
    """What a program may use.

    Args:
        seconds (`float`, defaults to 10): Time until the whole process group is killed.
        memory_mb (`int`, defaults to 1024): Address space.
    """

    seconds: float = 10.0
    memory_mb: int = 1024


@dataclass(frozen=True)
class Outcome:
    """How a program ended.

    Attributes:
        label (`str`): `"passed"`, `"failed"` (an error, a failed test, an early end) or `"timeout"`.
        detail (`str`): Last line that it wrote to standard error.
    """

    label: str
    detail: str = ""


def run_program(program: str, limits: Limits | None = None) -> Outcome:
    """Run a Python program under restrictions, and see whether it reaches its end.

    Neither exit code nor output decide: after the program's last line a random word is sent back to us, which it is
    not told and finds in no open file. `os._exit(0)` in the middle of a test is therefore a failure. Code and tests
    share a process all the same: code written to deceive can search our frames for the word, or return objects that
    call themselves equal to anything, as with every grader of this benchmark.

    Args:
        program (`str`): Python source: what is tested, then its tests.
        limits (`Limits`, *optional*): What it may use.
    """
    limits = limits or Limits()
    nonce = secrets.token_bytes(32)
    with tempfile.TemporaryDirectory(prefix="star_hf-", ignore_cleanup_errors=True) as place:
        folder = Path(place) / "work"
        folder.mkdir()
        source, errors = Path(place) / "program.py", Path(place) / "errors"
        source.write_text(program, encoding="utf-8", errors="replace")
        nonce_out, nonce_in = os.pipe()
        result_out, result_in = os.pipe()
        try:
            os.write(nonce_in, nonce)
            with errors.open("wb") as sink:
                process = subprocess.Popen(
                    [*_namespaces(), *_command(source, limits, nonce_out, result_in)],
                    cwd=folder,
                    env=_environment(folder),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=sink,
                    pass_fds=(nonce_out, result_in),
                    start_new_session=True,
                )
            timed_out = _wait(process, limits.seconds)
            os.close(result_in)
            result_in = None
            proof = b"" if timed_out else _read(result_out)
        finally:
            for handle in (nonce_out, nonce_in, result_out, result_in):
                if handle is not None:
                    os.close(handle)
        if timed_out:
            return Outcome("timeout", f"no end within {limits.seconds:g} s")
        return Outcome("passed") if proof == nonce else Outcome("failed", _last_line(errors, process.returncode))


def code_verdicts(
    items: Mapping[str, Item],
    answers: Sequence[Answer],
    *,
    allow_code_execution: bool = False,
    limits: Limits | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> list[Verdict]:
    """Run the code of each answer against its item's tests.

    Args:
        items (`dict[str, Item]`): HumanEval's items by id.
        answers (list of `Answer`): What the model wrote.
        allow_code_execution (`bool`, defaults to `False`): Must be given, since model code is run.
        limits (`Limits`, *optional*): What each program may use.
        workers (`int`, *optional*): Programs at once; one per CPU by default.
        progress (`bool`, defaults to `True`): Whether to show a bar.

    Returns:
        `list[Verdict]`: In the order of the answers. A failed answer keeps its failure, one without code is
        `unparseable`, and a program that does not pass is `incorrect`, whatever it did.

    Raises:
        [`ConfigError`]: If it was not allowed, or on a system without the means to confine code.
    """
    if not allow_code_execution:
        raise ConfigError(
            "Grading this benchmark runs code that a model wrote.",
            "Pass --allow-code-execution if that is what you want; docs/evaluation.md says how it is confined.",
        )
    if sys.platform != "linux":
        raise ConfigError(
            f"Model code is not run on {sys.platform}: it cannot be confined.", "Use Linux, or a container."
        )

    with track("run code", len(answers), progress) as bar, ThreadPoolExecutor(workers or os.cpu_count()) as threads:

        def grade(answer: Answer) -> Verdict:
            verdict = _verdict(items[answer.item_id], answer, limits)
            bar.advance()
            return verdict

        return list(threads.map(grade, answers))


@cache
def confinement() -> dict[str, str]:
    """What keeps programs in, on this machine: of `network`, `processes` and `files`, by whom."""
    namespaces = _namespaces()
    script = f"import runpy; m = runpy.run_path({str(SANDBOX)!r}); raise SystemExit(0 if m['landlock']('/tmp') else 1)"
    landlocked = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True).returncode == 0
    return {
        "network": "namespace" if namespaces else "landlock, python" if landlocked else "python",
        "processes": "namespace" if "-p" in namespaces else "python",
        "files": "landlock" if landlocked else "python",
    }


def _verdict(item: Item, answer: Answer, limits: Limits | None) -> Verdict:
    who = (answer.item_id, answer.sample, JUDGE)
    if answer.failure:
        return Verdict(*who, failure=answer.failure)
    name = item.facts["entry_point"]
    code = extract_code(answer.answer or "", name)
    if code is None:
        return Verdict(*who, failure="unparseable", detail="no code is given")
    program = complete_program(item.facts["signature"], code, name)
    outcome = run_program(f"{program}\n\n{item.target}\n\ncheck({name})\n", limits)
    passed = outcome.label == "passed"
    label = "correct" if passed else "incorrect"
    return Verdict(*who, label=label, value=float(passed), detail=outcome.detail)


def _command(source: Path, limits: Limits, nonce: int, result: int) -> list[str]:
    numbers = (limits.memory_mb << 20, int(limits.seconds) + 1, nonce, result)
    return [sys.executable, "-I", str(SANDBOX), str(source), *map(str, numbers)]


def _environment(folder: Path) -> dict[str, str]:
    """Nothing of ours: no keys, no tokens, no home."""
    return {
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


@cache
def _namespaces() -> tuple[str, ...]:
    """The command before ours that takes network and, where it can, the other processes away."""
    for options in (("-r", "-n", "-p", "-f", "--kill-child"), ("-r", "-n")):
        try:
            tried = subprocess.run(["unshare", *options, "true"], capture_output=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return ()
        if tried.returncode == 0:
            return ("unshare", *options)
    return ()


def _wait(process: subprocess.Popen, seconds: float) -> bool:
    """Wait, then kill what is left of the group; returns whether it had to be stopped."""
    try:
        process.wait(timeout=seconds)
        timed_out = False
    except subprocess.TimeoutExpired:
        timed_out = True
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
    return timed_out


def _read(pipe: int) -> bytes:
    """What is in a pipe, without waiting for a process that might still hold its other end."""
    os.set_blocking(pipe, False)
    try:
        return os.read(pipe, 64)
    except BlockingIOError:
        return b""


def _last_line(errors: Path, code: int) -> str:
    with errors.open("rb") as file:
        file.seek(max(0, errors.stat().st_size - 2000))
        lines = file.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:QUOTED] if lines else f"it ended early, with exit code {code}"
