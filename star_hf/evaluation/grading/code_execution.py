"""Runs code that a model wrote, against tests: confined, with limits on everything, and only if the user allows it.

Each program has its own process group, empty folder and clean environment. The kernel keeps it from the network and
from other processes (namespaces, if `unshare` works), from other files (Landlock, from Linux 5.13), and within limits
of memory, time, files and output. What the kernel cannot refuse is refused inside Python. That stops accidents, not an
attacker: for code that may be hostile, run the whole evaluation in a container or a virtual machine.
"""

import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ...errors import ConfigError
from ...utils.progress import track
from ..types import Item, Response, Verdict
from .code_extraction import complete_program, extract_code
from .extractors import QUOTED, failed, graded


__all__ = ["ProgramResult", "SandboxLimits", "code_verdicts", "run_program"]

JUDGE = "unit-tests"

SANDBOX = Path(__file__).with_name("sandbox.py")


@dataclass(frozen=True)
class SandboxLimits:
    """What a program may use: seconds until its process group is killed, and the size of its address space."""

    seconds: float = 10.0
    memory_mb: int = 1024


@dataclass(frozen=True)
class ProgramResult:
    """How a program ended: `"passed"`, `"failed"` (an error, a failed test, an early exit) or `"timeout"`.

    `detail` is the last line that it wrote to standard error.
    """

    label: str
    detail: str = ""


def run_program(program: str, limits: SandboxLimits | None = None) -> ProgramResult:
    """Run a Python program, the code under test and then its tests, and check that it reaches its end.

    Neither exit code nor output decides. After the program's last line the sandbox sends back a random word, which the
    program does not know and cannot read from a file, so that `os._exit(0)` in the middle of a test is a failure. Code
    and tests share a process, as with every grader of this benchmark: code written to deceive can search the frames
    for the word, or return objects that are equal to anything.
    """
    limits = limits or SandboxLimits()
    nonce = secrets.token_bytes(32)
    with tempfile.TemporaryDirectory(prefix="star_hf-", ignore_cleanup_errors=True) as place:
        folder = Path(place) / "work"
        folder.mkdir()
        source, errors = Path(place) / "program.py", Path(place) / "errors"
        source.write_text(program, encoding="utf-8", errors="replace")
        nonce_out, nonce_in = os.pipe()
        result_out, result_in = os.pipe()
        numbers = (limits.memory_mb << 20, int(limits.seconds) + 1, nonce_out, result_in)
        try:
            os.write(nonce_in, nonce)
            with errors.open("wb") as sink:
                process = subprocess.Popen(
                    [*_namespaces(), sys.executable, "-I", str(SANDBOX), str(source), *map(str, numbers)],
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
            return ProgramResult("timeout", f"not finished after {limits.seconds:g} s")
        if proof == nonce:
            return ProgramResult("passed")
        return ProgramResult("failed", _last_line(errors, process.returncode))


def code_verdicts(
    items: Mapping[str, Item],
    answers: Sequence[Response],
    *,
    allow_code_execution: bool = False,
    limits: SandboxLimits | None = None,
    progress: bool = True,
) -> list[Verdict]:
    """Run the code of each answer against its item's tests, if that is allowed and the system can confine code.

    A failed answer keeps its failure, one without code is `unparseable`, and a program that does not pass is
    `incorrect`, whatever it did.
    """
    if not allow_code_execution:
        raise ConfigError(
            "Grading this benchmark runs code that a model wrote.",
            "Pass --allow-code-execution to allow it; docs/evaluation.md describes how it is confined.",
        )
    if sys.platform != "linux":
        raise ConfigError(
            f"Model code cannot be confined on {sys.platform}, so it is not run.", "Use Linux, or a container."
        )

    with track("run code", len(answers), progress) as bar, ThreadPoolExecutor(os.cpu_count()) as threads:

        def grade(answer: Response) -> Verdict:
            verdict = _verdict(items[answer.item_id], answer, limits)
            bar.advance()
            return verdict

        return list(threads.map(grade, answers))


def _verdict(item: Item, answer: Response, limits: SandboxLimits | None) -> Verdict:
    if answer.failure:
        return failed(answer, JUDGE, answer.failure)
    name = item.facts["entry_point"]
    code = extract_code(answer.answer or "", name)
    if code is None:
        return failed(answer, JUDGE, "unparseable", "no code is given")
    program = complete_program(item.facts["signature"], code, name)
    outcome = run_program(f"{program}\n\n{item.target}\n\ncheck({name})\n", limits)
    return graded(answer, JUDGE, outcome.label == "passed", outcome.detail)


def _environment(folder: Path) -> dict[str, str]:
    """A clean environment, without our keys, tokens and home."""
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
    """The command that removes the network and, if possible, other processes from the program's view."""
    for options in (("-r", "-n", "-p", "-f", "--kill-child"), ("-r", "-n")):
        try:
            tried = subprocess.run(["unshare", *options, "true"], capture_output=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return ()
        if tried.returncode == 0:
            return ("unshare", *options)
    return ()


def _wait(process: subprocess.Popen, seconds: float) -> bool:
    """Wait, then kill the rest of the process group. Returns whether time ran out."""
    try:
        process.wait(timeout=seconds)
        timed_out = False
    except subprocess.TimeoutExpired:
        timed_out = True
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return timed_out


def _read(pipe: int) -> bytes:
    """The content of a pipe, without waiting for a process that may still hold its other end."""
    os.set_blocking(pipe, False)
    try:
        return os.read(pipe, 64)
    except BlockingIOError:
        return b""


def _last_line(errors: Path, code: int) -> str:
    with errors.open("rb") as file:
        file.seek(max(0, errors.stat().st_size - 2000))
        lines = file.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:QUOTED] if lines else f"exited early with code {code}"
