"""Runs code that a model wrote, against tests, and only if the user allows it; `confinement.py` confines it.

The program and the tests are in processes of their own, so that neither the tests' expectations nor the proof that
they passed are where the program could find them. For code that may be hostile, still run the whole evaluation in a
container or a virtual machine: the kernel is shared.
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ...errors import ConfigError
from ...utils.progress import track
from ..types import Item, Response, Verdict
from .code_extraction import complete_program, extract_code
from .confinement import SANDBOX, Level, SandboxLimits, require, run_job
from .extractors import QUOTED, failed, graded


__all__ = ["ProgramResult", "SandboxLimits", "code_verdicts", "run_program"]

JUDGE = "unit-tests"


@dataclass(frozen=True)
class ProgramResult:
    """How a program ended: `"passed"`, `"failed"` (an error, a failed test, an early exit) or `"timeout"`.

    `detail` is the last line that it wrote to standard error.
    """

    label: str
    detail: str = ""


def run_program(
    program: str,
    limits: SandboxLimits | None = None,
    *,
    entry_point: str | None = None,
    given: str = "",
    tests: str = "",
) -> ProgramResult:
    """Run a Python program, confined, and check that it passes its tests or, without any, reaches its end.

    Args:
        program (`str`): The program.
        limits (`SandboxLimits`, *optional*): What it may use.
        entry_point (`str`, *optional*): Name of its function under test. Its arguments and what it returns are plain
            values: numbers, texts and containers of them.
        given (`str`, *optional*): Code that the tests need beside the program's.
        tests (`str`, *optional*): Code that defines `check(candidate)`.

    Neither exit code nor output decides. After the last test the checker gives a random word back, which is in no
    memory of the program. Without an entry point the program's own process says that it reached its end.
    """
    limits = limits or SandboxLimits()
    ended = run_job(
        SANDBOX, {"program": program, "entry_point": entry_point}, {"given": given, "tests": tests}, limits
    )
    if ended.reached_end:
        return ProgramResult("passed")
    if ended.stopped == "timeout":
        return ProgramResult("timeout", f"not finished after {limits.seconds:g} s")
    return ProgramResult("failed", (ended.stopped or ended.detail)[:QUOTED])


def code_verdicts(
    items: Mapping[str, Item],
    answers: Sequence[Response],
    *,
    allow_code_execution: bool = False,
    limits: SandboxLimits | None = None,
    least: Level = "restricted",
    progress: bool = True,
) -> list[Verdict]:
    """Run the code of each answer against its item's tests, if that is allowed and code is confined enough.

    A failed answer keeps its failure, one without code is `unparseable`, and a program that does not pass is
    `incorrect`, whatever it did. Time is CPU time; a program that runs out of it is run once more, alone.

    Raises [`ConfigError`] if code may not be run, or would be confined less than `least`.
    """
    if not allow_code_execution:
        raise ConfigError(
            "Grading this benchmark runs code that a model wrote.",
            "Pass --allow-code-execution to allow it; docs/evaluation.md describes how it is confined.",
        )
    require(least)

    with track("run code", len(answers), progress) as bar, ThreadPoolExecutor(os.cpu_count()) as threads:

        def run(answer: Response) -> Verdict | ProgramResult:
            outcome = _outcome(items[answer.item_id], answer, limits)
            bar.advance()
            return outcome

        outcomes = list(threads.map(run, answers))
    for number, answer in enumerate(answers):
        if isinstance(outcomes[number], ProgramResult) and outcomes[number].label == "timeout":
            outcomes[number] = _outcome(items[answer.item_id], answer, limits)
    return [
        graded(answer, JUDGE, outcome.label == "passed", outcome.detail)
        if isinstance(outcome, ProgramResult)
        else outcome
        for answer, outcome in zip(answers, outcomes, strict=True)
    ]


def _outcome(item: Item, answer: Response, limits: SandboxLimits | None) -> Verdict | ProgramResult:
    """What the answer's program did, or the verdict on an answer without one."""
    if answer.failure:
        return failed(answer, JUDGE, answer.failure)
    name, signature = item.facts["entry_point"], item.facts["signature"]
    code = extract_code(answer.answer or "", name)
    if code is None:
        return failed(answer, JUDGE, "unparseable", "no code is given")
    return run_program(
        complete_program(signature, code, name),
        limits,
        entry_point=name,
        given=complete_program(signature, "    pass\n", name),
        tests=item.target or "",
    )
