"""Commands that are not ours: the trainer, and the server of a model under test. Both are run without a shell."""

import contextlib
import logging
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import httpx

from ..errors import BusyError, ConfigError, TrainingError
from ..utils.files import digest, made_folder, write_text


try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

__all__ = ["OURS", "arguments", "placeholders", "run_trainer", "serving"]

logger = logging.getLogger(__name__)

OURS = "{python} {recipes}/sft.py --config {config}"
"""Our own trainer, in one process."""

PLACES = ("config", "data", "model", "name", "output", "python", "recipes", "round")
PLACE = re.compile(r"\{([a-z_]+)\}")
WEIGHTS = ("*.safetensors", "*.gguf")
POLL_S = 0.2


def placeholders(command: str) -> set[str]:
    """The placeholders in a command. Raises `ValueError` if one is unknown or the quotes are not closed."""
    shlex.split(command)
    used = set(PLACE.findall(command))
    if unknown := sorted(used - set(PLACES)):
        raise ValueError(f"there is no placeholder {{{unknown[0]}}}, only {', '.join(map('{{{}}}'.format, PLACES))}")
    return used


def arguments(command: str, values: Mapping[str, object]) -> list[str]:
    """The words of a command, with the values in their places: a value is never split into words."""
    return [PLACE.sub(lambda place: str(values.get(place[1], place[0])), word) for word in shlex.split(command)]


def run_trainer(command: Sequence[str], output: Path, identity: object) -> None:
    """Run a trainer, and check that it has left a model.

    What another training left in `output` is removed; what this one left stays, so that a trainer that can resume from
    its checkpoints does. Its output is in `<output>.log`.

    Args:
        identity: What the training is made of: all but the paths.

    Raises:
        TrainingError: If it fails, or leaves no weights in `output`.
        BusyError: If the trainer of an earlier call, which was killed alone, still runs.
    """
    log, mark = output.with_suffix(".log"), output.with_suffix(".started")
    made_folder(output.parent)
    with output.with_suffix(".lock").open("w") as lock:
        _hold(lock, output)
        if not mark.exists() or mark.read_text("utf-8") != digest(identity):
            shutil.rmtree(output, ignore_errors=True)
            write_text(mark, digest(identity))
        with log.open("wb") as said:
            passed = (lock.fileno(),) if fcntl else ()  # held for as long as the trainer runs
            try:
                code = subprocess.run(
                    command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, pass_fds=passed
                ).returncode
            except OSError as error:
                raise TrainingError(
                    f"The trainer cannot be started: {command[0]}: {error.strerror}.", "Check `train.command`."
                ) from None
    if code:
        raise TrainingError(
            f"The trainer failed with exit code {code}: {_last_line(log)}",
            f"See {log}. After a fix, the same command goes on from here; nothing is paid for twice.",
        )
    if not any(path for pattern in WEIGHTS for path in output.glob(pattern)):
        raise TrainingError(
            f"The trainer ended well, but left no weights ({' or '.join(WEIGHTS)}) in {output}.",
            f"Let it write there: the placeholder {{output}}. Its own words are in {log}.",
        )


def _hold(lock, output: Path) -> None:  # type: ignore[no-untyped-def]
    if fcntl is not None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BusyError(
                f"A trainer that was started earlier still writes to {output}.", "Wait until it has ended, or end it."
            ) from None


def _last_line(log: Path) -> str:
    lines = log.read_bytes()[-10_000:].decode("utf-8", "replace").split("\n")
    return next((line.strip()[-200:] for line in reversed(lines) if line.strip()), "it said nothing")


@contextlib.contextmanager
def serving(command: Sequence[str], url: str, log: Path, wait_s: float) -> Iterator[None]:
    """Start a server, wait until it lists its models, and end it after the block.

    Raises:
        ConfigError: If it cannot be started, ends, or does not answer in time; or if another answers there already.
    """
    if _answers(url):
        raise ConfigError(
            f"A server answers at {url} already, which may be of another model.",
            "End it, or leave out `serve.command` if it serves all models of this run by name.",
        )
    made_folder(log.parent)
    with log.open("wb") as said:
        try:
            server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT)
        except OSError as error:
            raise ConfigError(
                f"The server cannot be started: {command[0]}: {error.strerror}.", "Check `serve.command`."
            ) from None
        try:
            deadline = time.monotonic() + wait_s
            while not _answers(url):
                if (code := server.poll()) is not None:
                    raise ConfigError(f"The server ended with exit code {code}: {_last_line(log)}", f"See {log}.")
                if time.monotonic() > deadline:
                    raise ConfigError(f"The server did not answer at {url} in {wait_s:.0f} s.", f"See {log}.")
                time.sleep(POLL_S)
            yield
        finally:
            server.terminate()
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url.rstrip('/')}/models", timeout=5).status_code < 500
    except httpx.HTTPError:
        return False


def python_values(recipes: Path) -> dict[str, object]:
    """The values of `{python}` and `{recipes}`."""
    return {"python": sys.executable, "recipes": recipes}
