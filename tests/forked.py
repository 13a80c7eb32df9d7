"""Programs in forks of a process that has imported what they need: a launch takes up to half a minute, a fork none."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


LOOP = """
import json, os, sys
exec(sys.argv[1])
for line in sys.stdin:
    job, children = json.loads(line), []
    for rank, variables in enumerate(job["variables"]):
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            break
        children.append(child)
    else:
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(json.dumps(codes), flush=True)
        continue
    break
else:
    sys.exit()
# A child, which ends as any program does, with its exit functions.
mode = os.O_WRONLY | os.O_CREAT | os.O_APPEND
for number, path in enumerate((os.devnull, job["stdout"], job["stderr"])):
    os.dup2(os.open(path, mode if number else os.O_RDONLY), number)
os.environ.clear()
os.environ.update(variables)
os.chdir(job["cwd"])
sys.argv = job["argv"]
exec(job["program"])
"""


class ForkServer:
    """A process that has run `imports`, and runs each program in a fork of itself.

    Args:
        imports (`str`): Statements that are run once. No thread may be left by them.
        env (`Mapping[str, str]`): Environment of the imports: what libraries read when they are imported.
    """

    def __init__(self, imports: str, env: Mapping[str, str]):
        Path(env["HF_HOME"]).mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, "-c", LOOP, imports],
            env=dict(env),
            cwd=env["HF_HOME"],  # lighteval makes a cache in the working directory when it is imported
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(
        self,
        program: str,
        arguments: Sequence[Any],
        folder: Path,
        cwd: Path,
        env: Mapping[str, str],
        ranks: Sequence[Mapping[str, str]] = ({},),
    ) -> subprocess.CompletedProcess:
        """Run Python statements, and wait until they have ended.

        Args:
            program (`str`): The statements.
            arguments (sequence): `sys.argv`, from the program's name on.
            folder (`Path`): Where output is kept.
            cwd (`Path`): Working directory.
            env (`Mapping[str, str]`): The whole environment.
            ranks (sequence of `Mapping[str, str]`): One process each, with these variables too.

        Returns:
            `subprocess.CompletedProcess`: The exit status is that of the first process that failed.
        """
        output = {name: folder / name for name in ("stdout", "stderr")}
        for path in output.values():
            path.write_text("")
        job = {"program": program, "argv": [str(argument) for argument in arguments], "cwd": str(cwd)}
        job |= {name: str(path) for name, path in output.items()}
        job["variables"] = [{**env, **variables} for variables in ranks]
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        while not (line := self._process.stdout.readline()).startswith("["):
            assert line, "the fork server has ended"  # imports may print
        code = next((code for code in json.loads(line) if code), 0)
        return subprocess.CompletedProcess(
            job["argv"], code, *(path.read_text(errors="replace") for path in output.values())
        )

    def close(self) -> None:
        """End the server, and with it what still runs."""
        self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
